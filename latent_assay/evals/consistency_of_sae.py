"""Semantic consistency of an SAE's latents, beside that of what it reads and of chance."""

import time
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.baselines import random_dictionary
from latent_assay.errors import ShapeError
from latent_assay.evals.result import EvalResult, measured
from latent_assay.evals.semantic_consistency import (
    SemanticConsistency,
    SemanticConsistencyResult,
)
from latent_assay.sae import SAE

_AT_ONCE = 1_024
_HEADLINES = (
    "top_activated",
    "all_activated",
    "top_corrected",
    "all_corrected",
)


@torch.no_grad()
def consistency_of(
    sae: SAE | None,
    x: Float[Tensor, "sample d_in"],
    labels: Int[Tensor, " label"],
    *,
    classes: int,
    top: int = 20,
    permutations: int = 100,
) -> SemanticConsistencyResult:
    """Semantic consistency of the latents of an SAE in its exported form, or of x itself.

    **Arguments:**
    - `sae`: any number of members; None for the input dimensions, as if each were a latent.
    - `x`: raw activations.
    - `labels`: the class of each.
    - `classes`, `top`, `permutations`: as of `SemanticConsistency`.

    **Raises:** as `SemanticConsistency.update`.
    """
    if len(labels) != len(x):
        raise ShapeError(
            f"there are {len(labels)} labels for {len(x)} activations; expected one each."
        )
    seen = SemanticConsistency(classes, top=top)
    exported = None if sae is None else sae.exported()
    for block, own in zip(x.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True):
        if exported is None:
            seen.update(block[None], own)
        else:
            seen.update(exported.encode(block.to(exported.W_enc)), own)
    padding = None if exported is None else exported.padding
    return seen.result(None if padding is None else ~padding, permutations=permutations)


def semantic_consistency(
    sae: SAE,
    x: Float[Tensor, "sample d_in"],
    labels: Int[Tensor, " label"],
    *,
    reference: Float[Tensor, "other d_in"],
    classes: int,
    top: int = 20,
    permutations: int = 100,
    seeds: Sequence[int] = (0, 1, 2),
) -> EvalResult:
    """Semantic consistency of an SAE as an evaluation with its baselines.

    These are the *input dimensions*, which is what there was before the SAE; a *random dictionary*
    of the same width and L0; and the SAE itself with *permuted labels*.

    **Arguments:**
    - `sae`: members differ in their training seed alone.
    - `x`: raw activations that training has not seen.
    - `labels`: the class of each.
    - `reference`: raw activations from training, to adjust the random dictionary on.
    - `classes`, `top`, `permutations`: as of `SemanticConsistency`.
    - `seeds`: of the random dictionary.

    **Raises:** as `SemanticConsistency.update`.
    """
    began = time.monotonic()
    settings = {"classes": classes, "top": top, "permutations": permutations}
    found = consistency_of(sae, x, labels, **settings)
    before = consistency_of(None, x, labels, **settings)
    l0 = float(found.firings.sum(-1).double().mean() / len(x))
    drawn = random_dictionary(reference, width=max(sae.widths), l0=max(l0, 1e-6), seeds=seeds)
    by_chance = consistency_of(drawn, x, labels, **settings)
    return measured(
        "semantic_consistency",
        _headlines(found),
        baselines={
            "input dimensions": _headlines(before),
            "random dictionary": _headlines(by_chance),
            "permuted labels": {
                "top_activated": found.top_chance.tolist(),
                "all_activated": found.all_chance.tolist(),
            },
        },
        details={"active latents": found.n_active.tolist(), "L0": l0, "samples": found.n},
        config=settings,
        seconds=time.monotonic() - began,
    )


def _headlines(result: SemanticConsistencyResult) -> dict[str, list[float]]:
    return {name: getattr(result, name).tolist() for name in _HEADLINES}
