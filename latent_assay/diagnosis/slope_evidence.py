r"""How the residual follows each latent's activation: what is wrong in proportion to it.

Within the firings of a latent, the residual $e$ is fitted by a line in $z$, with slope
$s = \mathrm{cov}(e, z) / \mathrm{var}(z)$. Where the decoder row is the feature's direction,
$s = 0$ whatever else the residual holds, as long as that comes and goes whatever $z$ is; a row with
a foreign part $h u$ leaves $s = -h u$. The length of $s$ across the row is measured without its noise:
two slopes from separate halves of the samples have the same expectation and independent noise, so

$$\sqrt{\max(0,\ s_1 \cdot s_2)}.$$
"""

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.diagnosis.firing_record import FiringRecord
from latent_assay.diagnosis.subject import Subject

_ENTRIES = 2**25
_FEWEST = 20


@torch.no_grad()
def residual_slope(subject: Subject, record: FiringRecord) -> Float[Tensor, " latent"]:
    """Length of the residual's slope across each decoder row; NaN after fewer than 20 firings.

    **Arguments:**
    - `subject`: whose latents.
    - `record`: what the pass left.
    """
    width, places, d_in = record.residual.shape
    step = max(1, _ENTRIES // (places * d_in))
    found = []
    for start in range(0, width, step):
        part = slice(start, start + step)
        rows, real = subject.decoder[part], record.row[part] >= 0
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
        found.append(torch.where(real.sum(-1) < _FEWEST, torch.nan, length))
    return torch.cat(found)
