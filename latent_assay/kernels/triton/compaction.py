"""Lists of what fires, from a threshold: counted row by row, then written in place."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from latent_assay.kernels.selection import Selection
from latent_assay.kernels.triton.launch import launch

_LONGEST_BLOCK = 2048


def select_above(
    pre: Float[Tensor, "member batch latent"],
    threshold: Float[Tensor, " member"],
    *,
    strict: bool = False,
) -> Selection:
    """The positive entries at or above a member's threshold, ordered by latent within each row.

    How many there are is data, and lists of that length are made: this reads one number off the
    device.

    **Arguments:**
    - `pre`: pre-activations.
    - `threshold`: for each member, in the type of `pre`.
    - `strict`: only those above it.
    """
    members, batch, width = pre.shape
    rows = members * batch
    flat = pre.detach().contiguous()
    row_start = torch.zeros(rows + 1, dtype=torch.int64, device=pre.device)
    arguments = {
        "pre": flat,
        "threshold": threshold.to(pre.dtype).contiguous(),
        "row_start": row_start,
        "batch": batch,
        "width": width,
        "STRICT": strict,
        "BLOCK": min(triton.next_power_of_2(width), _LONGEST_BLOCK),
    }
    launch(_fire, (rows,), pre, column=row_start, WRITE=False, **arguments)
    row_start.copy_(row_start.cumsum(0))
    column = torch.empty(int(row_start[-1]), dtype=torch.int64, device=pre.device)
    launch(_fire, (rows,), pre, column=column, WRITE=True, **arguments)
    return Selection(members=members, batch=batch, width=width, row_start=row_start, column=column)


@triton.jit
@no_type_check
def _fire(
    pre,
    threshold,
    row_start,
    column,
    batch,
    width,
    STRICT: tl.constexpr,
    WRITE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    member = row // batch
    limit = tl.load(threshold + member).to(tl.float32)
    found = tl.zeros((), dtype=tl.int64)
    if WRITE:
        found = tl.load(row_start + row)
    for start in range(0, width, BLOCK):
        latent = start + tl.arange(0, BLOCK)
        z = tl.load(pre + row * width + latent, mask=latent < width, other=0).to(tl.float32)
        if STRICT:
            fires = (z > limit) & (z > 0)
        else:
            fires = (z >= limit) & (z > 0)
        one = fires.to(tl.int32)
        if WRITE:
            place = found + (tl.cumsum(one, axis=0) - 1)
            tl.store(column + place, member * width + latent, mask=fires)
        found += tl.sum(one, axis=0)
    if not WRITE:
        tl.store(row_start + row + 1, found)
