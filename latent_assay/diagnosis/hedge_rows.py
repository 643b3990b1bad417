"""Samples in which a latent fires with, and without, the direction that it hedges."""

import torch
from jaxtyping import Int
from torch import Tensor

from latent_assay.diagnosis.firing_record import FiringRecord
from latent_assay.diagnosis.hedge_evidence import Hedges

_EACH = 2
_AT_ONCE = 1_024


@torch.no_grad()
def hedge_rows(
    seen: FiringRecord, hedge: Hedges
) -> tuple[Int[Tensor, "latent example"], Int[Tensor, "latent example"]]:
    r"""The firings with the largest and the smallest residual along the hedged direction $u$.

    $e \cdot u = m_u [u \text{ present}] - h z$ is largest where $u$ is there, and smallest where it
    is not and the latent carries it all the same.

    **Returns:** row numbers with and without, the clearest first; -1 where the latent fired too
    seldom or hedges nothing.
    """
    n = min(_EACH, seen.row.shape[1])
    with_it: list[Tensor] = []
    without: list[Tensor] = []
    for start in range(0, len(seen.row), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        row = seen.row[part]
        along = torch.bmm(seen.residual[part], hedge.direction[part].unsqueeze(-1)).squeeze(-1)
        real = row >= 0
        # both kinds of example need firings of their own
        enough = (real.sum(-1, keepdim=True) >= 2 * n) & (hedge.strength[part].abs() > 0)[:, None]
        for found, values, largest in (
            (with_it, along.masked_fill(~real, -torch.inf), True),
            (without, along.masked_fill(~real, torch.inf), False),
        ):
            best = values.topk(n, dim=-1, largest=largest).indices
            found.append(torch.where(enough, row.gather(-1, best), -1))
    return torch.cat(with_it), torch.cat(without)
