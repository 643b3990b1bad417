"""The source's toy: sparse features in learned directions, tied SAEs, and its metric."""

from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.initialisation import tied_random
from latent_assay.metrics import mcc
from latent_assay.recipes import Recipe, linear
from latent_assay.reproductions.experiment import SEEDS, train
from latent_assay.sae import SAE
from latent_assay.sparsifiers import Identity, JumpReLU, ReLU, Sparsifier, TopK
from latent_assay.worlds import World, presets

FEATURES, D_IN = 200, 20

SPARSIFIERS: dict[str, Callable[[int], Sparsifier]] = {
    "Top-2": lambda width: TopK(2, len(SEEDS)),
    "JumpReLU": lambda width: JumpReLU(torch.full((len(SEEDS), width), 0.1)),
    "ReLU": lambda width: ReLU(),
    "none": lambda width: Identity(),
}
"""What the source compares, and ReLU."""


def toy_steps(quick: bool) -> int:
    """Steps of the training that makes the directions."""
    return 500 if quick else 1000


@lru_cache
def toy_world(sparsity: float, steps: int) -> World:
    """200 features in 20 dimensions whose directions the ReLU output model learned."""
    return presets.sparse_superposition(
        n_features=FEATURES, d_in=D_IN, sparsity=sparsity, steps=steps
    )


@lru_cache
def toy_sae(sparsity: float, sparsifier: str, width: int, quick: bool) -> SAE:
    """Six members of a tied SAE without biases, trained on squared error alone."""
    return train(
        _recipe(sparsifier, width, lr=1e-2 if quick else 5e-3),
        toy_world(sparsity, toy_steps(quick)),
        steps=400 if quick else 1000,
        batch_size=128 if quick else 256,
        decay=0.5,
    )


def untrained(sparsifier: str, width: int) -> SAE:
    """The same before training: rows of length 1 in random directions."""
    return _recipe(sparsifier, width, lr=1e-3).sae


def _recipe(sparsifier: str, width: int, *, lr: float) -> Recipe:
    recipe = linear(d_in=D_IN, width=width, seeds=SEEDS, lr=lr, init=tied_random(1.0))
    recipe.sae.sparsifier = SPARSIFIERS[sparsifier](width)
    for fixed in recipe.sae.sparsifier.parameters():  # the source's threshold stays .1
        fixed.requires_grad_(False)
    return recipe


@torch.no_grad()
def mean_activations(
    sae: SAE, directions: Float[Tensor, "feature d_in"], *, magnitudes: int = 20
) -> Float[Tensor, "member feature latent"]:
    r"""$\mathbb E_m\, z_j(m f_i)$, $m \sim U[0, 1]$: each latent's mean when a feature fires alone.

    The source sums over samples instead, silent ones included: its $M_j^i$ over N samples is
    $N (1 - S)$ times this.

    **Arguments:**
    - `sae`: of any sparsifier.
    - `directions`: of the features.
    - `magnitudes`: points of the midpoint rule.
    """
    m = (torch.arange(magnitudes) + 0.5) / magnitudes
    x = (directions.unsqueeze(1) * m.unsqueeze(-1)).flatten(0, 1)
    return sae.encode(x.to(sae.W_enc)).unflatten(1, (len(directions), magnitudes)).mean(2)


def activated(
    mean: Float[Tensor, "member feature latent"], threshold: float
) -> Float[Tensor, " member"]:
    """The source's metric: how many features activate a latent beyond a threshold, on average."""
    return (mean > threshold).double().sum(1).mean(-1).to(mean.dtype)


def represented(world: World) -> Float[Tensor, "feature d_in"]:
    """The features that the toy gave a direction longer than one half."""
    return world.features[world.features.norm(dim=-1) > 0.5]


def recovered(sae: SAE, world: World) -> Float[Tensor, " member"]:
    """MCC of decoders to the represented features."""
    return mcc(sae.W_dec.detach(), represented(world)).float()


def random_recovered(world: World, width: int) -> float:
    """The MCC that random directions have: with 200 in 20 dimensions it is far from zero."""
    generator = torch.Generator().manual_seed(99)
    return float(mcc(torch.randn(width, world.d_in, generator=generator), represented(world)))
