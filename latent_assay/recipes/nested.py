"""Matryoshka SAEs: every level reconstructs by itself."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.initialisation import Initialisation, tied_random
from latent_assay.losses import AuxK, Lp, Matryoshka, Objective, SquaredError
from latent_assay.recipes.ensemble import ensemble
from latent_assay.recipes.recipe import Recipe
from latent_assay.recipes.top_k import selecting
from latent_assay.sae import DecoderNorm
from latent_assay.sparsifiers import BatchTopK, PerMember, ReLU
from latent_assay.training import TrainingConfig

Beta = PerMember | Sequence[Sequence[int | float]]
"""A coefficient for all matryoshka levels, one for each, or a row of them for each member."""


def matryoshka(
    *,
    d_in: int,
    width: int,
    levels: Sequence[int],
    beta: Beta = 1.0,
    detached: bool = False,
    l1: PerMember = 1e-3,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 3e-4,
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    """ReLU and L1 with nested losses, each level with its coefficient.

    **Arguments:**
    - `levels`: widths of the prefixes, the last equal to `width`.
    - `beta`: coefficient of each level; 0 for all but the last is `relu_l1`.
    - `detached`: each latent is trained by its own level only (see `Matryoshka`).

    **Reference:** Bussmann et al. 2025, arXiv:2503.17547; Chanin et al. 2025, arXiv:2505.11756.
    """
    e = ensemble(d_in, width, seeds, l1=l1, lr=lr, beta=_rows(beta))
    sae = e.sae(ReLU(), init=init or tied_random(), b_dec=b_dec, dtype=dtype)
    nested = Matryoshka([SquaredError(), Lp(l1)], levels=levels, beta=beta, detached=detached)
    return Recipe(sae, Objective([nested]), TrainingConfig(lr=lr))


def matryoshka_batchtopk(
    *,
    d_in: int,
    width: int,
    levels: Sequence[int],
    k: PerMember,
    beta: Beta = 1.0,
    detached: bool = False,
    auxk: PerMember = 1 / 32,
    k_aux: int | None = None,
    dead_after: int = 10_000_000,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 3e-4,
    decoder_norm: DecoderNorm = "unit",
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    """BatchTopK with nested losses; what fires is decided over all levels together.

    Arguments as in `matryoshka` and `batchtopk`.

    **Reference:** Bussmann et al. 2025, arXiv:2503.17547.
    """
    e = ensemble(d_in, width, seeds, k=k, lr=lr, auxk=auxk, beta=_rows(beta))
    base = selecting(
        e,
        BatchTopK(k, e.members),
        auxk,
        k_aux,
        dead_after,
        init,
        b_dec,
        dtype,
        TrainingConfig(lr=lr, dead_after=dead_after),
        decoder_norm,
    )
    nested = Matryoshka([SquaredError()], levels=levels, beta=beta, detached=detached)
    rescue = [term for term in base.objective.terms if isinstance(term, AuxK)]
    return base._replace(objective=Objective([nested, *rescue]))


def balance_matryoshka(
    *,
    d_in: int,
    width: int,
    levels: Sequence[int],
    k: PerMember,
    multiplier: PerMember = 0.75,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 3e-4,
    **others: Any,
) -> Recipe:
    r"""`matryoshka_batchtopk` whose levels count by powers: $\beta_m = multiplier^{M - m}$.

    The outermost level has coefficient 1. Multiplier 0 is a plain BatchTopK SAE, 1 a plain
    matryoshka one; in between hedging and absorption are balanced.

    **Arguments:**
    - `multiplier`: the ratio of a level's coefficient to the next one's.
    - `others`: as in `matryoshka_batchtopk`.

    **Reference:** Chanin et al. 2025, arXiv:2505.11756, section 5.
    """
    if "beta" in others:
        raise ConfigError("give `multiplier` here, or `beta` to `matryoshka_batchtopk`, not both.")
    ensemble(d_in, width, seeds, k=k, lr=lr, multiplier=multiplier)
    powers = range(len(levels) - 1, -1, -1)
    each = [multiplier] if isinstance(multiplier, int | float) else list(multiplier)
    rows = [[float(m) ** power for power in powers] for m in each]
    return matryoshka_batchtopk(
        d_in=d_in,
        width=width,
        levels=levels,
        k=k,
        beta=rows[0] if isinstance(multiplier, int | float) else rows,
        seeds=seeds,
        lr=lr,
        **others,
    )


def _rows(beta: Beta) -> Sequence[Sequence[int | float]] | float:
    """`beta` where it has a row for each member; 1 where it says nothing about members."""
    is_rows = isinstance(beta, Sequence) and bool(beta) and isinstance(beta[0], Sequence)
    return beta if is_rows else 1.0  # type: ignore[return-value]
