"""Inner products of chosen pairs of rows: the gradient of the values that were decoded."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.kernels.triton.launch import launch, tile_of

_SLOTS = 8


def value_gradient(
    grad: Float[Tensor, "row d_in"],
    W_dec: Float[Tensor, "latent d_in"],
    row: Int[Tensor, " entry"],
    column: Int[Tensor, " entry"],
) -> Float[Tensor, " entry"]:
    r"""$grad_{row_e} \cdot W_{column_e}$ for every entry, a product of matrices sampled there.

    **Arguments:**
    - `grad`: gradient of what was decoded.
    - `W_dec`: decoder rows.
    - `row`, `column`: the entries.

    **Returns:** the inner products in the more precise type of both.
    """
    entries, d_in = column.numel(), grad.shape[1]
    out = torch.empty(
        entries, dtype=torch.promote_types(grad.dtype, W_dec.dtype), device=grad.device
    )
    launch(
        _sampled,
        (triton.cdiv(entries, _SLOTS),),
        grad,
        left=grad.contiguous(),
        right=W_dec.contiguous(),
        left_row=row.contiguous(),
        right_row=column.contiguous(),
        out=out,
        entries=entries,
        d_in=d_in,
        SLOTS=_SLOTS,
        TILE=tile_of(d_in),
    )
    return out


@triton.jit
@no_type_check
def _sampled(
    left,
    right,
    left_row,
    right_row,
    out,
    entries,
    d_in,
    SLOTS: tl.constexpr,
    TILE: tl.constexpr,
):
    slot = tl.program_id(0).to(tl.int64) * SLOTS + tl.arange(0, SLOTS)
    taken = slot < entries
    from_left = tl.load(left_row + slot, mask=taken, other=0).to(tl.int64) * d_in
    from_right = tl.load(right_row + slot, mask=taken, other=0).to(tl.int64) * d_in
    total = tl.zeros((SLOTS, TILE), dtype=tl.float32)
    for start in range(0, d_in, TILE):
        d = start + tl.arange(0, TILE)
        inside = taken[:, None] & (d < d_in)[None, :]
        a = tl.load(left + from_left[:, None] + d[None, :], mask=inside, other=0)
        b = tl.load(right + from_right[:, None] + d[None, :], mask=inside, other=0)
        total += a.to(tl.float32) * b.to(tl.float32)
    tl.store(out + slot, tl.sum(total, axis=1), mask=taken)
