"""Sums of decoder rows: what the firing latents of each sample contribute."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.kernels.triton.launch import launch, tile_of

# Decoder rows read at once; enough loads in flight to hide their latency.
_SLOTS = 8


def decode(
    value: Float[Tensor, " entry"],
    column: Int[Tensor, " entry"],
    edge: Int[Tensor, "row edge"],
    W_dec: Float[Tensor, "latent d_in"],
    *,
    prefix: bool = False,
) -> Float[Tensor, "group row d_in"]:
    r"""What each group of latents adds to the reconstruction of each sample, in one pass.

    $$out_{gr} = \sum_{e = edge_{rg}}^{edge_{r,g+1} - 1} value_e\, W_{column_e}$$

    or, with `prefix`, the sum over groups 0 to g. A decoder row is read once, however many groups
    there are. A row without entries is zero.

    **Arguments:**
    - `value`, `column`: the entries, those of one row together and ordered by group.
    - `edge`: where each group of each row begins among the entries, and where the last ends.
    - `W_dec`: decoder rows.
    - `prefix`: sums up to each group rather than of each group.

    **Returns:** sums in the more precise type of `value` and `W_dec`.
    """
    rows, groups = edge.shape[0], edge.shape[1] - 1
    d_in = W_dec.shape[1]
    out = torch.empty(
        groups,
        rows,
        d_in,
        dtype=torch.promote_types(value.dtype, W_dec.dtype),
        device=value.device,
    )
    tile = tile_of(d_in)
    launch(
        _decode,
        (rows, triton.cdiv(d_in, tile)),
        value,
        value=value.contiguous(),
        column=column.contiguous(),
        edge=edge.contiguous(),
        decoder=W_dec.contiguous(),
        out=out,
        rows=rows,
        groups=groups,
        d_in=d_in,
        PREFIX=prefix,
        SLOTS=_SLOTS,
        TILE=tile,
    )
    return out


def suffix_sums(
    grad: Float[Tensor, "group row d_in"],
) -> Float[Tensor, "group row d_in"]:
    """For each group the sum over this and all later groups.

    It is the gradient of a group's own sum, when prefix sums have the given gradients.
    """
    out = torch.empty_like(grad, memory_format=torch.contiguous_format)
    size = grad[0].numel()
    launch(
        _suffix_sums,
        (triton.cdiv(size, 1024),),
        grad,
        grad=grad.contiguous(),
        out=out,
        size=size,
        groups=grad.shape[0],
        BLOCK=1024,
    )
    return out


@triton.jit
@no_type_check
def _decode(
    value,
    column,
    edge,
    decoder,
    out,
    rows,
    groups,
    d_in,
    PREFIX: tl.constexpr,
    SLOTS: tl.constexpr,
    TILE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = d < d_in
    total = tl.zeros((TILE,), dtype=tl.float32)
    for group in range(groups):
        first = tl.load(edge + row * (groups + 1) + group)
        last = tl.load(edge + row * (groups + 1) + group + 1)
        if not PREFIX:
            total = tl.zeros((TILE,), dtype=tl.float32)
        for start in range(first, last, SLOTS):
            slot = start + tl.arange(0, SLOTS)
            taken = slot < last
            latent = tl.load(column + slot, mask=taken, other=0).to(tl.int64)
            z = tl.load(value + slot, mask=taken, other=0).to(tl.float32)
            direction = tl.load(
                decoder + latent[:, None] * d_in + d[None, :],
                mask=taken[:, None] & inside[None, :],
                other=0,
            ).to(tl.float32)
            total += tl.sum(z[:, None] * direction, axis=0)
        tl.store(out + (group * rows + row) * d_in + d, total, mask=inside)


@triton.jit
@no_type_check
def _suffix_sums(grad, out, size, groups, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < size
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for step in range(groups):
        group = (groups - 1 - step).to(tl.int64)
        total += tl.load(grad + group * size + place, mask=inside, other=0).to(tl.float32)
        tl.store(out + group * size + place, total, mask=inside)
