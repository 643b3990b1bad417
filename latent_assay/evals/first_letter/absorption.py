r"""How much of a concept is missing from its latents and carried by others, sample by sample.

With $\hat p$ the unit direction of a probe for the concept, $z_j \cos_j$ the projection of a latent
of unit decoder row on it, $M$ the sum over the concept's *main* latents, $A = x \cdot \hat p$.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

_SILENT = 1e-8


@dataclass(frozen=True, kw_only=True)
class AbsorptionThresholds:
    """What counts as absorption; the defaults are those of SAEBench."""

    absorber_cosine: float = 0.1
    """The least cosine of an absorbing latent with the probe, for the fraction."""
    full_cosine: float = 0.025
    """The same for full absorption."""
    share: float = 0.4
    """What absorbing latents must carry of the activation's projection on the probe."""
    max_absorbers: int = 3
    """The most latents that may carry it together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleAbsorption:
    """Absorption of one concept in each of several samples."""

    fraction: Float[Tensor, " sample"]
    """How much of the concept is absorbed, from 0 to 1."""
    full: Bool[Tensor, " sample"]
    """Whether all main latents are silent and a single other latent carries the concept."""


def published_absorption(
    x: Float[Tensor, "sample d_in"],
    z: Float[Tensor, "sample latent"],
    W_dec: Float[Tensor, "latent d_in"],
    direction: Float[Tensor, " d_in"],
    main: Sequence[int],
    thresholds: AbsorptionThresholds | None = None,
) -> SampleAbsorption:
    r"""Absorption as SAEBench 0.6 computes it, on given activations.

    With $T$ the sum of the (at most three) largest positive projections of other latents whose
    cosine with the probe is at least 0.1, the fraction is 0 if $M \ge A$ or $T / A < 0.4$; else 1
    if $M \le 0$; else $u / (u + M)$ with $u = \min(T, A - M)$. Absorption is full if all main
    latents are silent, and the latent with the largest projection has a cosine of at least 0.025
    and at least 0.4 of $A \ge 0$.

    Known defects, kept on purpose: a *perfect* SAE scores above 0 where a superposed neighbour
    fires too, because $A$ then exceeds $M$; a decoder row that is not of length one counts with
    the wrong weight. `repaired_absorption` has neither.

    **Arguments:**
    - `x`, `z`: activations and latent activations of samples in which the probe finds the concept.
    - `W_dec`: decoder rows, of length one as published.
    - `direction`: of the probe, of any length.
    - `main`: the concept's main latents.
    - `thresholds`: None for those of SAEBench.

    **Reference:** [Karvonen et al. 2025](https://arxiv.org/abs/2503.09532), after
    [Chanin et al. 2024](https://arxiv.org/abs/2409.14507).
    """
    limits = thresholds or AbsorptionThresholds()
    unit = direction / direction.norm()
    cosines = cosine_similarity(unit, W_dec, dim=-1).float()
    projections = z * cosines
    total = x @ unit
    mains = torch.tensor(list(main), dtype=torch.int64)
    by_main = projections[:, mains].sum(-1)

    is_main = torch.zeros(W_dec.shape[0], dtype=torch.bool)
    is_main[mains] = True
    allowed = ~is_main & (cosines >= limits.absorber_cosine)
    by_others = _top(projections.clamp_min(0) * allowed, limits.max_absorbers)
    share = by_others / total
    unaccounted = torch.minimum(by_others, total - by_main)
    fraction = (unaccounted / (unaccounted + by_main)).clamp(0, 1)
    fraction = torch.where(by_main <= 0, torch.ones_like(fraction), fraction)
    fraction = torch.where((by_main >= total) | (share < limits.share), 0.0, fraction)

    largest, which = projections.max(dim=-1)
    full = (
        (z[:, mains] < _SILENT).all(-1)
        & (cosines[which] >= limits.full_cosine)
        & (total >= 0)
        & (largest / total >= limits.share)
    )
    return SampleAbsorption(fraction=fraction, full=full)


@dataclass(frozen=True, kw_only=True)
class RepairedAbsorption:
    """Absorption of one concept, over and above what is seen without any absorber."""

    fraction: float
    """Mean share of the concept that is missing from its main latents and carried by absorbers;
    by chance slightly below 0 where there is none."""
    full: float
    """Share of samples in which the mains are silent and one absorber carries the concept, likewise
    beyond chance."""
    n: int
    """Samples that have the concept and were scored."""
    n_absorber: int
    """Of these, samples in which a possible absorber fires."""
    n_reference: int
    """Samples with the concept in which none fires, from which the expectation is taken."""
    absorbers: tuple[int, ...]
    """Possible absorbers that fired in the scored samples, the most frequent first."""


def repaired_absorption(
    x: Float[Tensor, "sample d_in"],
    z: Float[Tensor, "sample latent"],
    W_dec: Float[Tensor, "latent d_in"],
    direction: Float[Tensor, " d_in"],
    main: Sequence[int],
    *,
    labels: Bool[Tensor, " sample"],
    found: Bool[Tensor, " sample"],
    scored: Bool[Tensor, " sample"],
    thresholds: AbsorptionThresholds | None = None,
    min_precision: float = 0.5,
    min_reference: int = 10,
) -> RepairedAbsorption | str:
    r"""Absorption beyond what superposition and natural variation account for.

    Absorption means that the main latents fail *because* another latent fires. So samples with a
    possible absorber ($C$) are compared with samples of the concept without any ($R$):

    - A latent is a possible absorber if its cosine with the probe is at least 0.1 and at least half
      of its firings are in samples with the concept. A child fires only with its parent; a
      superposed neighbour, which contributes to $x \cdot \hat p$ as well, fires without it too.
    - With $\bar M_C$ and $\bar M_R$ the mean projections of the main latents, and $\bar T_C$ what
      (at most three) possible absorbers carry together on average, the fraction is
      $\frac{|C|}{|C| + |R|} \min\big(1 - \bar M_C / \bar M_R,\ \bar T_C / \bar M_R\big)$:
      how much weaker the main latents are with an absorber than without, as far as absorbers make
      up for it. Where a neighbour fires too and the main latents are as strong as ever, it is 0.
    - Full absorption: mains silent and one possible absorber with at least 0.4 of $A$; beyond the
      rate at which mains are silent in $R$.

    Decoder rows may have any length.

    **Arguments:**
    - `x`, `z`, `W_dec`, `direction`, `main`: as for `published_absorption`, but of all samples.
    - `labels`: which samples have the concept.
    - `found`: in which of them the probe finds it.
    - `scored`: which samples count; the expectation is taken from all.
    - `thresholds`: None for those of SAEBench.
    - `min_precision`: least share of a possible absorber's firings that are with the concept.
    - `min_reference`: least number of samples in $R$.

    **Returns:** the result, or a sentence that says why there is none.
    """
    limits = thresholds or AbsorptionThresholds()
    unit = direction / direction.norm()
    along = W_dec @ unit
    cosines = along / W_dec.norm(dim=-1).clamp_min(1e-30)
    projections = z * along
    mains = torch.tensor(list(main), dtype=torch.int64)
    by_main = projections[:, mains].sum(-1)

    fires = z > _SILENT
    n_fires = fires.sum(0)
    precision = (fires & labels[:, None]).sum(0) / n_fires.clamp_min(1)
    possible = (cosines >= limits.absorber_cosine) & (n_fires > 0) & (precision >= min_precision)
    possible[mains] = False
    carried_by = projections.clamp_min(0) * possible
    has_absorber = (carried_by > 0).any(-1)

    present = labels & found
    reference = present & ~has_absorber
    n_reference = int(reference.sum())
    n = int((present & scored).sum())
    if n == 0:
        return "the probe finds it in no test sample"
    if n_reference < min_reference:
        return (
            f"only {n_reference} samples have it without a possible absorber; expected at least "
            f"{min_reference} to compare with"
        )
    if by_main[reference].median() <= 0:
        return "its main latents are silent in most samples, absorber or not"

    usual = by_main[reference].mean()
    carried = _top(carried_by, limits.max_absorbers)
    silent = (z[:, mains] < _SILENT).all(-1)
    one_carries = carried_by.amax(-1) >= limits.share * (x @ unit)
    with_absorber = present & scored & has_absorber
    n_absorber = int(with_absorber.sum())
    if n_absorber == 0:
        fraction = full = 0.0
    else:
        part = n_absorber / n
        missing = float(1 - by_main[with_absorber].mean() / usual)
        fraction = part * min(missing, float(carried[with_absorber].mean() / usual))
        strong = one_carries[with_absorber].double().mean()
        seen = (silent & one_carries)[with_absorber].double().mean()
        full = part * float(seen - silent[reference].double().mean() * strong)
    counts = (carried_by[with_absorber] > 0).sum(0)
    order = counts.argsort(descending=True, stable=True)
    return RepairedAbsorption(
        fraction=fraction,
        full=full,
        n=n,
        n_absorber=n_absorber,
        n_reference=n_reference,
        absorbers=tuple(order[: int((counts > 0).sum())].tolist()),
    )


def _top(projections: Float[Tensor, "sample latent"], k: int) -> Float[Tensor, " sample"]:
    """Sum of the k largest."""
    return projections.topk(min(k, projections.shape[-1]), dim=-1).values.sum(-1)
