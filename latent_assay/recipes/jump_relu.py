"""JumpReLU: a learned threshold for each latent."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.initialisation import Initialisation, kaiming
from latent_assay.losses import L0, Objective, Ramp, SquaredError, TargetL0, Term
from latent_assay.recipes.ensemble import ensemble
from latent_assay.recipes.recipe import Recipe
from latent_assay.sparsifiers import JumpReLU, PerMember
from latent_assay.training import TrainingConfig


def jumprelu(
    *,
    d_in: int,
    width: int | Sequence[int],
    l0: PerMember | None = None,
    target_l0: PerMember | None = None,
    bandwidth: float = 0.001,
    threshold: float = 0.001,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 7e-5,
    sparsity_warm_up_steps: int = 10_000,
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    r"""JumpReLU with an L0 penalty, or drawn to a target L0.

    Bandwidth and threshold are meant for inputs with unit mean square.

    **Arguments:**
    - `l0`: coefficient of the L0 penalty; 1e-3 if no target is given either.
    - `target_l0`: a target instead of a penalty.
    - `bandwidth`, `threshold`: of the straight-through estimator; initial threshold.

    **Reference:** Rajamanoharan et al. 2024, arXiv:2407.14435.
    """
    if l0 is not None and target_l0 is not None:
        raise ConfigError("give `l0` (a penalty) or `target_l0` (a target), not both.")
    e = ensemble(d_in, width, seeds, l0=l0, target_l0=target_l0, lr=lr)
    sparsifier = JumpReLU(
        torch.full((e.members, e.width), threshold, dtype=dtype), bandwidth=bandwidth
    )
    sae = e.sae(sparsifier, init=init or kaiming(), b_dec=b_dec, dtype=dtype, decoder_norm="unit")
    ramp = Ramp(length=sparsity_warm_up_steps)
    sparsity: Term = (
        L0(1e-3 if l0 is None else l0, ramp=ramp)
        if target_l0 is None
        else TargetL0(target_l0, ramp=ramp)
    )
    config = TrainingConfig(lr=lr, betas=(0.0, 0.999), lr_warm_up_steps=1_000)
    return Recipe(sae, Objective([SquaredError(), sparsity]), config)
