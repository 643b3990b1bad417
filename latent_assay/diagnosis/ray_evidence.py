r"""Whether the directions in which a latent's samples really lie are the latent's own.

Two latents may mix two features and undo the mixture together: $d_l = f - h g$, and wherever $f$
is there without $g$ another latent that points against $d_l$ fires too and takes $-h g$ back. No
residual shows it. So what $l$, the latents that point against it and the residual make together,

$$y = e + z_l \hat d_l + \sum_{j:\, \hat d_j \cdot \hat d_l < -0.08} z_j \hat d_j,$$

is looked at, divided by its part along $\hat d_l$, in a small space: across $\hat d_l$, along the
opposite latents and the residual's leading components. A clean latent's own ray is at zero there,
and most samples lie on it. If more samples crowd together elsewhere, on a ray that is shorter than
what the latent adds, the latent is mixed.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.diagnosis.candidates import Candidates
from latent_assay.diagnosis.firing_record import FiringRecord
from latent_assay.diagnosis.pair_evidence import TOLERANCE
from latent_assay.diagnosis.subject import Subject

_ENTRIES = 2**25
_AGAINST = -0.08
_RAYS = 48
_SILENT = 512
_OPPOSITE, _COMPONENTS = 4, 3
_SHORTER = 1.02
_BALANCED = 0.4
_CROWD = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Rays:
    """The ray, other than its own, on which most of a latent's samples lie."""

    off: Float[Tensor, " latent"]
    """Tangent of its angle with the decoder row; 0 if there is none."""
    share: Float[Tensor, " latent"]
    """Share of the latent's firings on it."""
    own: Float[Tensor, " latent"]
    """Share of them on the latent's own ray, counted as widely; or share of silent samples whose
    residual lies as that ray does, if that is more."""
    strength: Float[Tensor, " latent"]
    """Tangent (at most 1) times how much more samples lie there."""


@torch.no_grad()
def rays(subject: Subject, record: FiringRecord, near: Candidates) -> Rays:
    """The rays of every latent."""
    width, places, d_in = record.residual.shape
    step = max(1, _ENTRIES // (places * (d_in + 2 * _RAYS) + 2 * _RAYS * _SILENT))
    parts = [
        _rays(slice(start, min(start + step, width)), subject, record, near)
        for start in range(0, width, step)
    ]
    off, share, own, strength = (torch.cat(each) for each in zip(*parts, strict=True))
    return Rays(off=off, share=share, own=own, strength=strength)


def _rays(
    part: slice, subject: Subject, record: FiringRecord, near: Candidates
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    decoder = subject.decoder[part]
    # what is missing from every sample alike is the bias's doing and no latent's
    residual = record.residual[part] - record.usual
    kept, real = record.kept[part], record.row[part] >= 0
    residual = residual * real.unsqueeze(-1)
    last = min(_OPPOSITE, near.index.shape[1])
    index, cosine = near.index[part, -last:], near.cosine[part, -last:]
    against = (cosine < _AGAINST).to(decoder.dtype)
    others = subject.decoder[index.flatten()].view(*index.shape, -1) * against.unsqueeze(-1)
    longest = residual.norm(dim=-1).topk(min(_COMPONENTS, residual.shape[1]), dim=-1).indices
    leading = residual.gather(1, longest.unsqueeze(-1).expand(-1, -1, residual.shape[-1]))
    across = torch.cat([others, leading], 1)
    across = across - (across @ decoder.unsqueeze(-1)) * decoder.unsqueeze(1)
    # rows of zero, where there is no such latent, leave arbitrary directions in the basis; across
    # the decoder row these only add what is there
    basis = torch.linalg.qr(across.mT).Q
    y = residual + kept.unsqueeze(-1) * decoder.unsqueeze(1)
    y = y + torch.bmm(record.beside[part, :, -last:] * against.unsqueeze(1), others)
    along = torch.bmm(y, decoder.unsqueeze(-1)).squeeze(-1)
    valid = real & (along > 0.1 * kept.abs())
    sideways = y - along.unsqueeze(-1) * decoder.unsqueeze(1)
    place = torch.bmm(sideways, basis) / along.clamp_min(1e-12).unsqueeze(-1)
    place = torch.where(valid.unsqueeze(-1), place, 0.0).clamp(-10, 10)
    rays_at, begins = place[:, :_RAYS], valid[:, :_RAYS]
    off = rays_at.norm(dim=-1)
    length = along.square() * (1 + place.square().sum(-1))
    shorter = (length[:, :_RAYS] < (_SHORTER * kept[:, :_RAYS]).square()) & begins
    near_enough = TOLERANCE * off
    distance = torch.cdist(rays_at, place)
    n = valid.sum(-1, keepdim=True).clamp_min(1)
    share = ((distance < near_enough.unsqueeze(-1)) & valid.unsqueeze(1)).sum(-1) / n
    from_own = place.norm(dim=-1).unsqueeze(1)
    # what the residual takes back in some samples it gives in others, so that it balances
    middle = (place * valid.unsqueeze(-1)).sum(1) / n
    balanced = (middle.norm(dim=-1, keepdim=True) < _BALANCED * off) & begins
    own = ((from_own < near_enough.unsqueeze(-1)) & valid.unsqueeze(1)).sum(-1) / n
    # where as many silent samples lie there too, it is not this latent's doing
    quiet = ~record.background_firing[:_SILENT, part].T
    missing = record.background[:_SILENT] - record.usual
    typical = (kept.abs().sum(-1) / real.sum(-1).clamp_min(1)).clamp_min(1e-12)
    elsewhere = (missing @ basis) / typical.view(-1, 1, 1)
    there = torch.cdist(rays_at, elsewhere) < near_enough.unsqueeze(-1)
    as_often = (there & quiet.unsqueeze(1)).sum(-1) / quiet.sum(-1).clamp_min(1).unsqueeze(-1)
    own = torch.maximum(own, as_often)
    more = ((share - own) / (share + own + 0.05)).clamp_min(0) * (share / _CROWD).clamp_max(1)
    score = torch.where(shorter | balanced, off.clamp_max(1) * more, 0.0)
    best = score.argmax(-1, keepdim=True)
    found = [each.gather(-1, best).squeeze(-1) for each in (off, share, own, score)]
    few = valid.sum(-1) < 12
    return (
        torch.where(few, torch.nan, found[0]),
        torch.where(few, torch.nan, found[1]),
        torch.where(few, torch.nan, found[2]),
        torch.where(few, torch.nan, found[3]),
    )
