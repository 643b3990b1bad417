"""ReLU with an L1 penalty: free, tied, and tied with orthogonal latents."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.initialisation import Initialisation, tied_random
from latent_assay.losses import ActivationOrthogonality, Lp, Objective, Ramp, SquaredError, Term
from latent_assay.recipes.ensemble import ensemble
from latent_assay.recipes.recipe import Recipe
from latent_assay.sparsifiers import PerMember, ReLU
from latent_assay.training import TrainingConfig


def relu_l1(
    *,
    d_in: int,
    width: int | Sequence[int],
    l1: PerMember = 1e-3,
    p: float = 1.0,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 3e-4,
    sparsity_warm_up_steps: int = 0,
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    r"""ReLU with an L1 penalty weighted by decoder norms, decoder unconstrained.

    **Arguments:**
    - `l1`: $\lambda$, for squared error summed over d_in.
    - `p`: exponent of the penalty.
    - `sparsity_warm_up_steps`: steps over which the penalty rises.

    **Reference:** Bricken et al. 2023, "Towards Monosemanticity"; decoder-norm weighting: Conerly
    et al. 2024, "Update on how we train SAEs".
    """
    e = ensemble(d_in, width, seeds, l1=l1, lr=lr)
    sae = e.sae(ReLU(), init=init or tied_random(), b_dec=b_dec, dtype=dtype)
    penalty = Lp(l1, p=p, ramp=Ramp(length=sparsity_warm_up_steps))
    return Recipe(sae, Objective([SquaredError(), penalty]), TrainingConfig(lr=lr))


def tied(
    *,
    d_in: int,
    width: int | Sequence[int],
    l1: PerMember = 5e-3,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 3e-4,
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    r"""Encoder equal to decoder, no encoder bias: $z = ReLU(W(x - b))$, $\hat x = W^\top z + b$.

    **Reference:** Cunningham et al. 2023, arXiv:2309.08600; as in Chanin et al. 2025, "Broken
    Latents".
    """
    e = ensemble(d_in, width, seeds, l1=l1, lr=lr)
    sae = e.sae(
        ReLU(), init=init or tied_random(), b_dec=b_dec, dtype=dtype, tied=True, frozen=("b_enc",)
    )
    return Recipe(sae, Objective([SquaredError(), Lp(l1)]), TrainingConfig(lr=lr))


def tied_orthogonal(
    *,
    d_in: int,
    width: int | Sequence[int],
    l1: PerMember = 5e-3,
    orthogonality: PerMember = 1e4,
    fraction: float = 0.7,
    window: int = 50,
    delay_samples: int = 50_000_000,
    warm_up_samples: int = 50_000_000,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 3e-4,
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    """`tied` with the activation-orthogonality loss, which removes weak firing.

    **Arguments:**
    - `orthogonality`: coefficient of that loss.
    - `fraction`, `window`: its threshold (see `ActivationOrthogonality`).
    - `delay_samples`, `warm_up_samples`: when loss and threshold set in, and how slowly.

    **Reference:** Chanin et al. 2025, "Broken Latents".
    """
    e = ensemble(d_in, width, seeds, l1=l1, lr=lr, orthogonality=orthogonality)
    plain = tied(
        d_in=d_in,
        width=e.widths,
        l1=l1,
        seeds=e.seeds,
        lr=lr,
        init=init,
        b_dec=b_dec,
        dtype=dtype,
    )
    term = ActivationOrthogonality(
        orthogonality,
        members=e.members,
        width=e.width,
        fraction=fraction,
        window=window,
        ramp=Ramp(delay=delay_samples, length=warm_up_samples, unit="samples"),
    )
    terms = [each for each in plain.objective.terms if isinstance(each, Term)]
    return plain._replace(objective=Objective([*terms, term]))
