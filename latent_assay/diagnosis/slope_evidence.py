r"""How the residual follows each latent's activation: what is wrong in proportion to it.

Within the firings of a latent, the residual $e$ is fitted by a line in $z$, with slope
$s = \mathrm{cov}(e, z) / \mathrm{var}(z)$. Where the decoder row is the feature's direction,
$s = 0$ whatever else the residual holds, as long as that comes and goes whatever $z$ is; a row
with a foreign part $h u$ leaves $s = -h u$. The length of $s$ across the row is measured without
its noise: two slopes from separate halves of the samples have the same expectation and independent
noise, so

$$\sqrt{\max(0,\ s_1 \cdot s_2)}.$$

A neighbour that the encoder reads along with the feature bends this line in the few samples in
which it is present, while a foreign part is wrong in all. So along the direction of one half's
slope the line is fitted again in the other half by least absolute deviations, which most samples
decide: the *steady* slope.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from latent_assay.diagnosis.candidates import Candidates
from latent_assay.diagnosis.firing_record import FiringRecord
from latent_assay.diagnosis.subject import Subject

_ENTRIES = 2**25
_FEWEST = 20
_STEPS = 12
_CLOSE = 0.2
_NARROW = 0.02


@dataclass(frozen=True, kw_only=True, eq=False)
class Slopes:
    """Of the residual on each latent's activation; NaN after fewer than 20 firings."""

    across: Float[Tensor, " latent"]
    """Length of the slope across the decoder row."""
    steady: Float[Tensor, " latent"]
    """The same by least absolute deviations, along the direction of that slope."""


@torch.no_grad()
def residual_slope(subject: Subject, record: FiringRecord, near: Candidates) -> Slopes:
    """The slopes of every latent.

    **Arguments:**
    - `subject`: whose latents.
    - `record`: what the pass left.
    - `near`: each latent's neighbours; the steady slope is that without them, where it can be.
    """
    width, places, d_in = record.residual.shape
    step = max(1, _ENTRIES // (places * d_in))
    across, steady = [], []
    for start in range(0, width, step):
        part = slice(start, start + step)
        rows, real = subject.decoder[part], record.row[part] >= 0
        # two neighbours that fire for each other's features are wrong by what they share
        close = (near.cosine[part].abs() >= _CLOSE).unsqueeze(1)
        alone = real & ~((record.beside[part] != 0) & close).any(-1)
        enough = torch.minimum(alone[:, ::2].sum(-1), alone[:, 1::2].sum(-1)) >= _FEWEST
        alone = torch.where(enough.unsqueeze(-1), alone, real)
        slopes = []
        for half in (0, 1):
            w = real[:, half::2].float()
            z = record.kept[part, half::2]
            n = w.sum(-1, keepdim=True).clamp_min(1)
            centred = (z - (z * w).sum(-1, keepdim=True) / n) * w
            spread = centred.square().sum(-1, keepdim=True)
            level = (z.square() * w).sum(-1, keepdim=True)
            slope = torch.bmm(centred.unsqueeze(1), record.residual[part, half::2]).squeeze(1)
            # an activation that never varies has no slope
            known = spread > 1e-6 * level
            slope = torch.where(known, slope / spread.clamp_min(1e-30), 0.0)
            slopes.append(slope - (slope * rows).sum(-1, keepdim=True) * rows)
        length = (slopes[0] * slopes[1]).sum(-1).clamp_min(0).sqrt().clamp_max(4)
        few = real.sum(-1) < _FEWEST
        across.append(torch.where(few, torch.nan, length))
        again = [
            _least_deviations(
                torch.bmm(
                    record.residual[part, half::2],
                    normalize(slopes[1 - half], dim=-1).unsqueeze(-1),
                ).squeeze(-1),
                record.kept[part, half::2],
                alone[:, half::2].float(),
            )
            for half in (0, 1)
        ]
        # what only one half shows is chance
        least = torch.minimum(*again).clamp(0, 4)
        steady.append(torch.where(few, torch.nan, least))
    return Slopes(across=torch.cat(across), steady=torch.cat(steady))


def _least_deviations(
    s: Float[Tensor, "latent kept"],
    z: Float[Tensor, "latent kept"],
    real: Float[Tensor, "latent kept"],
) -> Float[Tensor, " latent"]:
    """Slope of s on z with the least sum of absolute deviations, by reweighted least squares."""
    level = (
        (z.abs() * real).sum(-1, keepdim=True) / real.sum(-1, keepdim=True).clamp_min(1)
    ).clamp_min(1e-12)
    w, slope = real, torch.zeros(len(s), 1)
    for _ in range(_STEPS):
        total = w.sum(-1, keepdim=True).clamp_min(1e-12)
        z0 = z - (w * z).sum(-1, keepdim=True) / total
        s0 = s - (w * s).sum(-1, keepdim=True) / total
        spread = (w * z0.square()).sum(-1, keepdim=True)
        known = spread > 1e-6 * (w * z.square()).sum(-1, keepdim=True)
        slope = (w * z0 * s0).sum(-1, keepdim=True) / spread.clamp_min(1e-30)
        slope = torch.where(known, slope, 0.0)
        w = real * level / ((s0 - slope * z0).abs() + _NARROW * level)
    return slope.squeeze(-1)
