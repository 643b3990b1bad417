"""Recipes: named architectures with their published defaults.

A recipe is a function that returns an SAE, an objective and a training config, to be handed to
`fit`. Its arguments name what a user varies. Those typed `PerMember` take one value, or one for
each member; `seeds` likewise, so that six seeds make six members:

>>> sae, objective, config = topk(d_in=16, width=64, k=4, seeds=range(6))
>>> sae.members, objective.names
(6, ['squared_error', 'auxk'])

A new paper is a new function here (or in your own code), never a new flag elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError
from latent_assay.initialisation import Initialisation, kaiming, tied_random
from latent_assay.losses import (
    L0,
    ActivationOrthogonality,
    AuxK,
    Lp,
    Matryoshka,
    Objective,
    Ramp,
    SquaredError,
    TargetL0,
    Term,
)
from latent_assay.sae import SAE, DecoderNorm
from latent_assay.sparsifiers import (
    BatchTopK,
    Identity,
    JumpReLU,
    PerMember,
    ReLU,
    Sparsifier,
    TopK,
)
from latent_assay.training import TrainingConfig

Beta = PerMember | Sequence[Sequence[int | float]]
"""A coefficient for all matryoshka levels, one for each, or a row of them for each member."""


class Recipe(NamedTuple):
    """What `fit` needs."""

    sae: SAE
    """The SAE at its initial weights."""
    objective: Objective
    """What to minimise."""
    config: TrainingConfig
    """The published training settings; `dataclasses.replace` changes some."""


@dataclass(frozen=True, kw_only=True)
class _Ensemble:
    """Sizes shared by the members, and a seed for each."""

    d_in: int
    widths: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def width(self) -> int:
        return max(self.widths)

    @property
    def members(self) -> int:
        return len(self.seeds)

    def sae(
        self,
        sparsifier: Sparsifier,
        *,
        init: Initialisation,
        b_dec: Tensor | None,
        dtype: torch.dtype,
        tied: bool = False,
        frozen: Sequence[str] = (),
        decoder_norm: DecoderNorm = "free",
    ) -> SAE:
        encoders: list[Tensor] = []
        decoders: list[Tensor] = []
        for seed, width in zip(self.seeds, self.widths, strict=True):
            generator = torch.Generator().manual_seed(seed)
            for rows, drawn in zip(
                (encoders, decoders), init(generator, width, self.d_in), strict=True
            ):
                rows.append(F.pad(drawn, [0, 0, 0, self.width - width]).to(dtype))
        bias = None
        if b_dec is not None:
            bias = b_dec.detach().to(dtype).expand(self.members, -1).clone()
        sae = SAE(
            torch.stack(encoders),
            None if tied else torch.stack(decoders),
            b_dec=bias,
            sparsifier=sparsifier,
            frozen=frozen,
            decoder_norm=decoder_norm,
            widths=self.widths,
        )
        if decoder_norm == "unit":
            sae.normalise_decoder()
        return sae


def _ensemble(
    d_in: int, width: int | Sequence[int], seeds: int | Sequence[int], **per_member: Any
) -> _Ensemble:
    """How many members the arguments ask for; every sequence among them must agree."""
    lengths = {
        name: len(value)
        for name, value in {"width": width, "seeds": seeds, **per_member}.items()
        if isinstance(value, Sequence | range) and not isinstance(value, str)
    }
    counts = set(lengths.values())
    if len(counts) > 1 or 0 in counts:
        listed = ", ".join(f"{name}: {count}" for name, count in lengths.items())
        raise ConfigError(
            f"arguments with a value for each member must agree in number, got {listed}. Give one "
            "value for all members, or the same number everywhere."
        )
    members = counts.pop() if counts else 1
    widths = (width,) * members if isinstance(width, int) else tuple(width)
    if min(d_in, *widths) < 1:
        raise ConfigError(f"d_in and width must be at least 1, got {d_in} and {width}.")
    return _Ensemble(
        d_in=d_in,
        widths=widths,
        seeds=(seeds,) * members if isinstance(seeds, int) else tuple(seeds),
    )


def _rows(beta: Beta) -> Sequence[Sequence[int | float]] | float:
    """`beta` where it has a row for each member; 1 where it says nothing about members."""
    is_rows = isinstance(beta, Sequence) and bool(beta) and isinstance(beta[0], Sequence)
    return beta if is_rows else 1.0  # type: ignore[return-value]


def linear(
    *,
    d_in: int,
    width: int | Sequence[int],
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 1e-3,
    init: Initialisation | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    """No sparsifier: a tied linear autoencoder without biases.

    The baseline "no activation function" of Cui et al. 2025; it finds principal components.
    """
    e = _ensemble(d_in, width, seeds, lr=lr)
    sae = e.sae(
        Identity(),
        init=init or tied_random(),
        b_dec=None,
        dtype=dtype,
        tied=True,
        frozen=("b_enc", "b_dec"),
    )
    return Recipe(sae, Objective([SquaredError()]), TrainingConfig(lr=lr))


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
    e = _ensemble(d_in, width, seeds, l1=l1, lr=lr)
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
    e = _ensemble(d_in, width, seeds, l1=l1, lr=lr)
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
    e = _ensemble(d_in, width, seeds, l1=l1, lr=lr, orthogonality=orthogonality)
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
    e = _ensemble(d_in, width, seeds, l0=l0, target_l0=target_l0, lr=lr)
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


def topk(
    *,
    d_in: int,
    width: int | Sequence[int],
    k: PerMember,
    auxk: PerMember = 1 / 32,
    k_aux: int | None = None,
    dead_after: int = 10_000_000,
    seeds: int | Sequence[int] = 0,
    lr: PerMember | None = None,
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    r"""The k largest pre-activations of each sample fire; unit-norm decoder, AuxK.

    **Arguments:**
    - `k`: firing latents per sample.
    - `auxk`, `k_aux`, `dead_after`: the auxiliary loss for dead latents; half of d_in latents, if
      `k_aux` is None.
    - `lr`: $2\cdot10^{-4} / \sqrt{width / 2^{14}}$ if None, as published.

    **Reference:** Gao et al. 2024, arXiv:2406.04093.
    """
    e = _ensemble(d_in, width, seeds, k=k, lr=lr, auxk=auxk)
    return _selecting(
        e,
        TopK(k, e.members),
        auxk,
        k_aux,
        dead_after,
        init,
        b_dec,
        dtype,
        TrainingConfig(
            lr=[2e-4 / (each / 2**14) ** 0.5 for each in e.widths] if lr is None else lr,
            eps=6.25e-10,
            dead_after=dead_after,
        ),
    )


def batchtopk(
    *,
    d_in: int,
    width: int | Sequence[int],
    k: PerMember,
    auxk: PerMember = 1 / 32,
    k_aux: int | None = None,
    dead_after: int = 10_000_000,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 3e-4,
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    """k latents per sample fire on average over the batch; unit-norm decoder, AuxK.

    Arguments as in `topk`; here k need not be whole.

    **Reference:** Bussmann et al. 2024, arXiv:2412.06410.
    """
    e = _ensemble(d_in, width, seeds, k=k, lr=lr, auxk=auxk)
    return _selecting(
        e,
        BatchTopK(k, e.members),
        auxk,
        k_aux,
        dead_after,
        init,
        b_dec,
        dtype,
        TrainingConfig(lr=lr, dead_after=dead_after),
    )


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
    e = _ensemble(d_in, width, seeds, l1=l1, lr=lr, beta=_rows(beta))
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
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    """BatchTopK with nested losses; what fires is decided over all levels together.

    **Reference:** Bussmann et al. 2025, arXiv:2503.17547.
    """
    e = _ensemble(d_in, width, seeds, k=k, lr=lr, auxk=auxk, beta=_rows(beta))
    base = _selecting(
        e,
        BatchTopK(k, e.members),
        auxk,
        k_aux,
        dead_after,
        init,
        b_dec,
        dtype,
        TrainingConfig(lr=lr, dead_after=dead_after),
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
    _ensemble(d_in, width, seeds, k=k, lr=lr, multiplier=multiplier)
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


def wsae(
    *,
    d_in: int,
    width: int | Sequence[int],
    k: PerMember,
    gamma: Float[Tensor, " d_in"] | Float[Tensor, "member d_in"],
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 1e-3,
    init: Initialisation | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    r"""Reweighted SAE: tied, TopK, no biases, and a weight $\gamma_i$ for each input dimension.

    $$E \|\Gamma (x - W^\top TopK(W x))\|^2, \qquad \Gamma = diag(\gamma)$$

    Smaller weights on polysemantic dimensions narrow the gap between reconstructing the activation
    and recovering the features behind it. `gamma` is normalised to mean $\gamma^2 = 1$, so that
    only the proportions matter.

    **Arguments:**
    - `gamma`: weight of each input dimension, for all members or for each.

    **Reference:** Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse
    Autoencoders and Beyond".
    """
    if gamma.shape[-1] != d_in or not bool((gamma >= 0).all()) or not bool((gamma > 0).any()):
        raise ConfigError(
            f"gamma must hold {d_in} weights (d_in), none negative and not all zero, got shape "
            f"{list(gamma.shape)} with minimum {float(gamma.min()):g}."
        )
    per_member = gamma.tolist() if gamma.dim() == 2 else None
    e = _ensemble(d_in, width, seeds, k=k, lr=lr, gamma=per_member)
    sae = e.sae(
        TopK(k, e.members),
        init=init or tied_random(),
        b_dec=None,
        dtype=dtype,
        tied=True,
        frozen=("b_enc", "b_dec"),
    )
    gamma = gamma / gamma.square().mean(-1, keepdim=True).sqrt()
    return Recipe(sae, Objective([SquaredError(gamma=gamma)]), TrainingConfig(lr=lr))


RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        balance_matryoshka,
        batchtopk,
        jumprelu,
        linear,
        matryoshka,
        matryoshka_batchtopk,
        relu_l1,
        tied,
        tied_orthogonal,
        topk,
        wsae,
    )
}
"""Every recipe by name."""


def _selecting(
    e: _Ensemble,
    sparsifier: Sparsifier,
    auxk: PerMember,
    k_aux: int | None,
    dead_after: int,
    init: Initialisation | None,
    b_dec: Tensor | None,
    dtype: torch.dtype,
    config: TrainingConfig,
) -> Recipe:
    """What TopK and BatchTopK share: unit-norm decoder, squared error, AuxK."""
    # encoder rows begin equal to the decoder's, at length one, as published
    sae = e.sae(
        sparsifier, init=init or tied_random(1.0), b_dec=b_dec, dtype=dtype, decoder_norm="unit"
    )
    rescue = AuxK(
        auxk,
        members=e.members,
        width=e.width,
        k=k_aux or max(e.d_in // 2, 1),
        dead_after=dead_after,
    )
    return Recipe(sae, Objective([SquaredError(), rescue]), replace(config))
