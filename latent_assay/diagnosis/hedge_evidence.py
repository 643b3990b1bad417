r"""Whether a decoder row carries a direction that it should not: the signature of hedging.

Let a latent that stands for $f$ carry a part $h$ of a feature $u$: $\hat d = \alpha f + h u$.
Where it fires, $u$ is present in some samples and absent in others, and the residual
$e = x - \hat x$ comes in two kinds. In *every* sample, whichever the kind,

$$e \cdot u = m_u [u \text{ present}] - z\,(\hat d \cdot u),$$

the second part being wrong throughout, while a latent that does not hedge has no such slope on $z$
within either kind, even if $u$ is correlated with it, and even if $f$ and $u$ are not orthogonal.
So three numbers are measured for each of a few directions: $h = \hat d \cdot u$, the *offset* $H$,
which is minus the slope of $e \cdot u$ on $z$ within each kind (samples in which the latent is
silent are those of $z = 0$), and how clearly the two kinds are apart. In a hedge
$h \approx H \neq 0$.

Directions are looked for where the latent fires (the residual's leading components, and its
covariance with $(e + z \hat d) \cdot \hat d$, which is larger where $u$ is; where the encoder
reads along the decoder row they show only $u - h \hat d$, and $h$ follows from the slope) and
where it is silent (the mean residual of the samples in which $e \cdot \hat d$ is extreme: there $u$
is present without $f$).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from latent_assay.diagnosis.firing_record import FiringRecord
from latent_assay.diagnosis.pair_evidence import TOLERANCE
from latent_assay.diagnosis.residual_sources import residual_sources
from latent_assay.diagnosis.subject import Subject

_ENTRIES = 2**25
_TAIL = 0.01
"""Share of silent samples that count as extreme."""
_COMPONENTS = 3
_FEWEST = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class Hedges:
    """The direction that each latent most seems to hedge; zeros where nothing can be said."""

    direction: Float[Tensor, "latent d_in"]
    r"""$u$, of length one."""
    part: Float[Tensor, " latent"]
    r"""$h = \hat d \cdot u$."""
    offset: Float[Tensor, " latent"]
    r"""$H$."""
    apart: Float[Tensor, " latent"]
    """Distance of the two kinds of firing, in standard deviations within them."""
    present: Float[Tensor, " latent"]
    """Share of the latent's firings in which the direction is present."""
    elsewhere: Float[Tensor, " latent"]
    """The same share among samples in which the latent is silent."""
    cancelled: Float[Tensor, " latent"]
    """Share of the latent's firings in which its part along the direction is taken back."""
    natural: Float[Tensor, " latent"]
    """Share of the latent's firings in which its part along the direction stays."""
    strength: Float[Tensor, " latent"]
    """The smaller of part and offset, weighed by how clearly the two kinds are apart and how much
    oftener the part is taken back than it stays; what directions compete by. Its sign is that of
    the hedge."""
    carried: Float[Tensor, " latent"]
    r"""$h \bar z$ over the direction's usual magnitude in silent samples: 1 if the latent carries
    the whole of a feature that has no latent of its own."""
    source: Float[Tensor, " latent"]
    """Part of the nearest source of the residuals (`residual_sources`) in the decoder row."""
    tail: Float[Tensor, " latent"]
    """Part of the direction that is present where the residual along the row is largest and the
    latent silent."""
    tail_carried: Float[Tensor, " latent"]
    """What the latent carries of that direction, over its magnitude there."""
    silent: Float[Tensor, " latent"]
    r"""Root mean square of $e \cdot \hat d$ where the latent is silent, over the mean activation:
    how much of what the latent carries is missing elsewhere."""


@torch.no_grad()
def hedges(subject: Subject, record: FiringRecord) -> Hedges:
    """The hedge of each latent, if there is one."""
    width, places, d_in = record.residual.shape
    step = max(1, _ENTRIES // (places * d_in * 2))
    step = min(step, max(1, _ENTRIES // max(1, len(record.background))))
    u, q = residual_sources(record.background, subject.decoder)
    parts = [
        _hedges(
            subject.decoder[start : start + step],
            record.residual[start : start + step],
            record.kept[start : start + step],
            record.row[start : start + step] >= 0,
            record.background,
            ~record.background_firing[:, start : start + step].T,
            (u[start : start + step], q[start : start + step]),
        )
        for start in range(0, width, step)
    ]
    return Hedges(
        **{name: torch.cat([part[name] for part in parts]) for name in Hedges.__annotations__}
    )


def _hedges(
    decoder: Float[Tensor, "latent d_in"],
    residual: Float[Tensor, "latent kept d_in"],
    kept: Float[Tensor, "latent kept"],
    real: Bool[Tensor, "latent kept"],
    background: Float[Tensor, "sample d_in"],
    quiet: Bool[Tensor, "latent sample"],
    source: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    n = real.sum(-1).clamp_min(1).unsqueeze(-1)
    mean = residual.sum(1) / n
    centred = torch.where(real.unsqueeze(-1), residual - mean.unsqueeze(1), 0.0)
    along = torch.bmm(residual, decoder.unsqueeze(-1)).squeeze(-1)
    asked = along + kept
    level = asked.sum(-1, keepdim=True) / n
    pull = torch.bmm(torch.where(real, asked - level, 0.0).unsqueeze(1), centred).squeeze(1)
    pull = pull - (pull * decoder).sum(-1, keepdim=True) * decoder
    inside = [pull, *_components(centred, decoder).unbind(1)]

    matched = torch.where(quiet, decoder @ background.T, 0.0)
    silent = quiet.sum(-1).clamp_min(1)
    rms = (matched.square().sum(-1) / silent).sqrt()
    extreme = max(4, int(_TAIL * len(background)))
    outside = []
    for sign in (1.0, -1.0):
        top = (sign * matched).topk(min(extreme, matched.shape[-1]), dim=-1)
        # only the more extreme half of what is left: a feature is there or it is not
        weight = (top.values > 0.5 * top.values[:, :1]).to(background.dtype)
        summed = torch.zeros_like(decoder)
        for j in range(top.indices.shape[1]):
            summed += weight[:, j : j + 1] * background[top.indices[:, j]]
        outside.append(summed)
        if sign > 0:
            outside_count = weight.sum(-1).clamp_min(1)

    data = (decoder, residual, kept, real, background, quiet)
    found = [_judged(normalize(w, dim=-1), None, *data, refine=True) for w in inside]
    found += [_judged(normalize(w, dim=-1), None, *data, refine=False) for w in outside]
    found.append(_judged(*source, *data, refine=False))
    strength = torch.stack([each["strength"].abs() for each in found], -1)
    best = strength.argmax(-1)
    result = {
        name: torch.stack([each[name] for each in found], 1)[torch.arange(len(best)), best]
        for name in found[0]
    }
    level_z = (kept.sum(-1, keepdim=True) / n).squeeze(-1).clamp_min(1e-30)
    result["silent"] = rms / level_z
    result["source"] = found[-1]["part"]
    tail = normalize(outside[0], dim=-1)
    result["tail"] = (tail * decoder).sum(-1)
    strong = outside[0].norm(dim=-1) / outside_count
    result["tail_carried"] = (result["tail"] * level_z / strong.clamp_min(1e-30)).clamp(0, 4)
    few = real.sum(-1) < _FEWEST
    for name, value in result.items():
        fill = 0.0 if name == "direction" else torch.nan
        shape = [-1] + [1] * (value.dim() - 1)
        result[name] = torch.where(few.view(shape), fill, value)
    return result


def _components(
    centred: Float[Tensor, "latent kept d_in"], decoder: Float[Tensor, "latent d_in"]
) -> Float[Tensor, "latent component d_in"]:
    """Leading directions of the residual across the decoder row, by subspace iteration."""
    n = min(_COMPONENTS, centred.shape[1], centred.shape[2])
    # begins with the longest residuals, which is not random and usually near
    first = centred.norm(dim=-1).topk(n, dim=-1).indices
    basis = centred.gather(1, first.unsqueeze(-1).expand(-1, -1, centred.shape[-1])).mT
    basis = basis + 1e-6
    for _ in range(8):
        basis = basis - decoder.unsqueeze(-1) * torch.bmm(decoder.unsqueeze(1), basis)
        basis = torch.linalg.qr(basis).Q
        basis = torch.bmm(centred.mT, torch.bmm(centred, basis))
    projected = torch.bmm(centred, torch.linalg.qr(basis).Q)
    _, turn = torch.linalg.eigh(torch.bmm(projected.mT, projected))
    return torch.bmm(torch.linalg.qr(basis).Q, turn.flip(-1)).mT


def _judged(
    w: Float[Tensor, "latent d_in"],
    reading: Float[Tensor, "latent d_in"] | None,
    decoder: Float[Tensor, "latent d_in"],
    residual: Float[Tensor, "latent kept d_in"],
    kept: Float[Tensor, "latent kept"],
    real: Bool[Tensor, "latent kept"],
    background: Float[Tensor, "sample d_in"],
    quiet: Bool[Tensor, "latent sample"],
    *,
    refine: bool,
) -> dict[str, Tensor]:
    """Part, offset and the rest for one direction per latent.

    **Arguments:**
    - `w`: the directions.
    - `reading`: what reads the hedged direction's presence; the direction itself if None.
    - `refine`: whether the direction was sought across the decoder row, so that its part along
      the row is still to be found; else it is the hedged one itself.
    """
    rate = 1 - quiet.float().mean(-1)
    u = w
    for last in (False, True) if refine else (True,):
        q = u if reading is None else reading
        s = torch.bmm(residual, q.unsqueeze(-1)).squeeze(-1)
        upper, apart = _two_groups(s, real)
        lower = real.float() - upper
        middle = (_mean1(s, upper) + _mean1(s, lower)).unsqueeze(-1) / 2
        everywhere = q @ background.T
        beyond = (quiet & (everywhere > middle)).float()
        short = quiet.float() - beyond
        slope = _slope(s, everywhere, kept, (upper, lower), (beyond, short))
        if not last:
            # across the decoder row u appears as w = u - h d; the slope says how much to add
            u = normalize(w - slope.unsqueeze(-1) * decoder, dim=-1)
    inside, outside = _share(upper, lower), _share(beyond, short)
    # a feature is absent more often than present
    turned = rate * inside + (1 - rate) * outside > 0.5
    sign = torch.where(turned, -1.0, 1.0)
    part = sign * (decoder * q).sum(-1)
    offset = -sign * slope
    level = torch.where(quiet, everywhere, torch.nan).nanmedian(-1).values.nan_to_num(0.0)
    shift = sign.unsqueeze(-1) * (s - level.unsqueeze(-1))
    carries = part.unsqueeze(-1) * kept
    near = TOLERANCE * carries.abs()
    n = real.sum(-1).clamp_min(1)
    cancelled = (((shift + carries).abs() < near) & real).sum(-1) / n
    natural = ((shift.abs() < near) & real).sum(-1) / n
    agree = (part * offset > 0) & (offset.abs() > 0.3 * part.abs())
    oftener = ((cancelled - natural) / (cancelled + natural + 0.05)).clamp_min(0)
    clear = ((apart - 1.5) / 2.5).clamp(0, 1)
    least = torch.minimum(part.abs(), offset.abs()) * part.sign()
    # a direction that is natural more often than not is a neighbour, however steep the slope
    kept_back = torch.where(cancelled + natural > 0.05, 0.3 + 0.7 * oftener, 0.3)
    strength = torch.where(agree, least * clear * kept_back, 0.0)
    usual = _mean1(everywhere, beyond) - _mean1(everywhere, short)
    enough = torch.minimum(beyond.sum(-1), short.sum(-1)) >= 4
    carried = part * _mean1(kept, real.float()) / usual.clamp_min(1e-30)
    return {
        "direction": sign.unsqueeze(-1) * u,
        "part": part,
        "offset": offset,
        "apart": apart,
        "present": torch.where(turned, 1 - inside, inside),
        "elsewhere": torch.where(turned, 1 - outside, outside),
        "cancelled": cancelled,
        "natural": natural,
        "strength": strength,
        "carried": torch.where(enough, carried, 0.0).clamp(-4, 4),
    }


def _share(one: Float[Tensor, "latent n"], other: Float[Tensor, "latent n"]) -> Tensor:
    return one.sum(-1) / (one + other).sum(-1).clamp_min(1)


def _slope(
    firing: Float[Tensor, "latent kept"],
    silent: Float[Tensor, "latent sample"],
    kept: Float[Tensor, "latent kept"],
    of_firing: tuple[Tensor, Tensor],
    of_silent: tuple[Tensor, Tensor],
) -> Float[Tensor, " latent"]:
    r"""Common slope of $e \cdot u$ on $z$ within the samples with $u$ and within those without.

    Samples in which the latent is silent have $z = 0$, and weigh in each kind as much as those in
    which it fires.
    """
    top = torch.zeros(len(kept))
    bottom = torch.zeros(len(kept))
    for fires, quiet in zip(of_firing, of_silent, strict=True):
        n = fires.sum(-1)
        weight = n / quiet.sum(-1).clamp_min(1)
        total = n + weight * quiet.sum(-1)
        z = (kept * fires).sum(-1)
        y = (firing * fires).sum(-1) + weight * (silent * quiet).sum(-1)
        zz = (kept.square() * fires).sum(-1)
        zy = (kept * firing * fires).sum(-1)
        top += zy - z * y / total.clamp_min(1)
        bottom += zz - z * z / total.clamp_min(1)
    # where z never varies within a kind there is no slope to see
    level = (kept.square() * (of_firing[0] + of_firing[1])).sum(-1)
    return torch.where(bottom > 1e-4 * level, top / bottom.clamp_min(1e-30), 0.0)


def _two_groups(
    s: Float[Tensor, "latent kept"], real: Bool[Tensor, "latent kept"]
) -> tuple[Float[Tensor, "latent kept"], Float[Tensor, " latent"]]:
    """Membership in the upper of two groups, by two means, and their distance in within-group
    standard deviations.

    Begun from the middle of the range: a rare group far away is a group.
    """
    low = torch.where(real, s, torch.inf).amin(-1)
    high = torch.where(real, s, -torch.inf).amax(-1)
    cut = ((low + high) / 2).nan_to_num(0.0)
    weight = real.float()
    for _ in range(12):
        upper = (s > cut.unsqueeze(-1)) * weight
        cut = (_mean1(s, upper) + _mean1(s, weight - upper)) / 2
    upper = (s > cut.unsqueeze(-1)) * weight
    a, b = _mean1(s, upper), _mean1(s, weight - upper)
    centre = torch.where(upper > 0, a.unsqueeze(-1), b.unsqueeze(-1))
    within = _mean1((s - centre).square(), weight).sqrt()
    return upper, ((a - b) / within.clamp_min(1e-12)).clamp(0, 50)


def _mean(x: Float[Tensor, "latent kept d_in"], w: Float[Tensor, "latent kept"]) -> Tensor:
    return torch.bmm(w.unsqueeze(1), x).squeeze(1) / w.sum(-1, keepdim=True).clamp_min(1)


def _mean1(x: Float[Tensor, "latent n"], w: Float[Tensor, "latent n"]) -> Tensor:
    return (x * w).sum(-1) / w.sum(-1).clamp_min(1e-12)


def nearest_to(
    direction: Float[Tensor, "latent d_in"], decoder: Float[Tensor, "latent d_in"], least: float
) -> Int[Tensor, " latent"]:
    """The other latent whose decoder row is nearest to a direction; -1 if none is near."""
    found = []
    step = max(1, _ENTRIES // len(decoder))
    for start in range(0, len(direction), step):
        cosines = direction[start : start + step] @ decoder.T
        own = torch.arange(len(cosines))
        cosines[own, own + start] = -1.0
        best, index = cosines.max(-1)
        found.append(torch.where(best >= least, index, -1))
    return torch.cat(found)
