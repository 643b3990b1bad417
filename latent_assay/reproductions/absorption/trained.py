"""The SAEs of source 000's toy models, and how they are read."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.recipes import relu_l1
from latent_assay.report import Cell, MetricsTable, Row
from latent_assay.reproductions.columns import column
from latent_assay.reproductions.experiment import SEEDS, activations, latent_of, train
from latent_assay.sae import SAE
from latent_assay.worlds import World

SETUP = (
    "Four orthogonal features in 50 dimensions at rates .25, .05, .05, .05 and four latents; ReLU, "
    "L1 weighted by decoder norm, rows of length .1 at the start, six members for each λ. Adam "
    "with learning rate 1e-2 and decay and 1000 steps of sparsity warm-up, where the source has "
    "3e-4 without either: the solution is the same and is reached in a few thousand steps. "
)
"""What the toy models share, for the description of each."""


def train_toy(
    world: World,
    coefficients: Sequence[float],
    *,
    steps: int,
    exact: bool,
    warm_up: int = 1_000,
) -> SAE:
    """Six members for each L1 coefficient, as one ensemble; members of a coefficient adjoin."""
    recipe = relu_l1(
        d_in=world.d_in,
        width=world.n_features,
        l1=[each for each in coefficients for _ in SEEDS],
        seeds=[seed for _ in coefficients for seed in SEEDS],
        lr=1e-2,
        sparsity_warm_up_steps=warm_up,
    )
    return train(recipe, world, steps=steps, exact=exact)


def block(values: Float[Tensor, "member ..."], i: int) -> Float[Tensor, "seed ..."]:
    """The members of the i-th coefficient."""
    return values[i * len(SEEDS) : (i + 1) * len(SEEDS)]


def cosine_at(
    maps: Float[Tensor, "member latent feature"], latents: list[int], feature: int
) -> Float[Tensor, " member"]:
    """For each member, one latent's cosine with a feature."""
    return torch.stack([maps[member, latent, feature] for member, latent in enumerate(latents)])


def child_and_parent(
    sae: SAE, world: World, x: Float[Tensor, "input d_in"]
) -> tuple[Float[Tensor, "member input"], Float[Tensor, "member input"]]:
    """Activations of the child's latent and of the parent's, times decoder norm."""
    acts = activations(sae, x)
    child, parent = (
        torch.stack([acts[member, :, latent] for member, latent in enumerate(latents)])
        for latents in (latent_of(sae, world, 1), latent_of(sae, world, 0))
    )
    return child, parent


def activations_table(
    title: str,
    inputs: Sequence[str],
    child: Float[Tensor, "seed input"],
    parent: Float[Tensor, "seed input"],
    sources: Sequence[tuple[float, float]],
) -> MetricsTable:
    """A table such as the source's: both latents' activations on a few inputs."""
    return MetricsTable(
        title=title,
        columns=(
            column("child", "child's latent", "Activation times decoder norm."),
            column("parent", "parent's latent", "Activation times decoder norm."),
        ),
        rows=tuple(
            Row(
                name=name,
                kind="trained",
                note=f"source: child {source[0]:g}, parent {source[1]:g}",
                cells={
                    "child": Cell.over(child[:, i].tolist()),
                    "parent": Cell.over(parent[:, i].tolist()),
                },
            )
            for i, (name, source) in enumerate(zip(inputs, sources, strict=True))
        ),
    )
