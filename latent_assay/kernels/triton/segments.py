"""Sums over the entries of each latent: the gradients of encoder and decoder rows."""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.kernels.triton.inverted_index import InvertedIndex
from latent_assay.kernels.triton.launch import launch, tile_of

_SLOTS = 8


def weight_gradient(
    index: InvertedIndex,
    coefficient: Float[Tensor, " entry"],
    source: Float[Tensor, "row d_in"],
    row: Int[Tensor, " entry"],
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "latent d_in"], Float[Tensor, " latent"]]:
    r"""The gradient of each latent's row, and that of its bias.

    $$W_l = \sum_{e\,:\,column_e = l} c_e\, s_{row_e}, \qquad b_l = \sum_{e\,:\,column_e = l} c_e$$

    Every latent is summed by one program for each tile of d_in, in the order of its entries.
    Latents that fire for many samples are first summed in chunks, and then over these. Nothing is
    added atomically, so that the result repeats bit for bit. Latents without entries get zero.

    **Arguments:**
    - `index`: the entries by latent.
    - `coefficient`: $c$, for each entry in the order before sorting.
    - `source`: $s$: the gradient of the reconstruction for decoder rows, x for encoder rows.
    - `row`: which row of `source` each entry takes.
    - `dtype`: type of the result; sums are in float32.
    """
    latents, d_in = index.start.numel() - 1, source.shape[1]
    chunks = index.chunk_first.numel()
    device = source.device
    weight = torch.empty(latents, d_in, dtype=dtype, device=device)
    bias = torch.empty(latents, dtype=dtype, device=device)
    part = torch.empty(chunks, d_in, dtype=torch.float32, device=device)
    part_bias = torch.empty(chunks, dtype=torch.float32, device=device)
    tile = tile_of(d_in)
    entries = {
        "entry": index.entry,
        "coefficient": coefficient.contiguous(),
        "source": source.contiguous(),
        "row": row.contiguous(),
    }
    launch(
        _chunks,
        (chunks, triton.cdiv(d_in, tile)),
        source,
        first=index.chunk_first,
        last=index.chunk_last,
        **entries,
        out=part,
        out_bias=part_bias,
        d_in=d_in,
        SLOTS=_SLOTS,
        TILE=tile,
    )
    launch(
        _segments,
        (latents, triton.cdiv(d_in, tile)),
        source,
        start=index.start,
        chunk_start=index.chunk_start,
        **entries,
        part=part,
        part_bias=part_bias,
        out=weight,
        out_bias=bias,
        d_in=d_in,
        SLOTS=_SLOTS,
        TILE=tile,
    )
    return weight, bias


@triton.jit
@no_type_check
def _chunks(
    first,
    last,
    entry,
    coefficient,
    source,
    row,
    out,
    out_bias,
    d_in,
    SLOTS: tl.constexpr,
    TILE: tl.constexpr,
):
    chunk = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = d < d_in
    begin = tl.load(first + chunk)
    end = tl.load(last + chunk)
    total = tl.zeros((TILE,), dtype=tl.float32)
    bias = tl.zeros((SLOTS,), dtype=tl.float32)
    for start in range(begin, end, SLOTS):
        slot = start + tl.arange(0, SLOTS)
        taken = slot < end
        e = tl.load(entry + slot, mask=taken, other=0)
        c = tl.load(coefficient + e, mask=taken, other=0).to(tl.float32)
        r = tl.load(row + e, mask=taken, other=0).to(tl.int64)
        s = tl.load(
            source + r[:, None] * d_in + d[None, :],
            mask=taken[:, None] & inside[None, :],
            other=0,
        ).to(tl.float32)
        total += tl.sum(c[:, None] * s, axis=0)
        bias += c
    tl.store(out + chunk * d_in + d, total, mask=inside)
    if tl.program_id(1) == 0:
        tl.store(out_bias + chunk, tl.sum(bias, axis=0))


@triton.jit
@no_type_check
def _segments(
    start,
    chunk_start,
    entry,
    coefficient,
    source,
    row,
    part,
    part_bias,
    out,
    out_bias,
    d_in,
    SLOTS: tl.constexpr,
    TILE: tl.constexpr,
):
    latent = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = d < d_in
    begin = tl.load(start + latent)
    end = tl.load(start + latent + 1)
    first_chunk = tl.load(chunk_start + latent)
    last_chunk = tl.load(chunk_start + latent + 1)
    # a latent in chunks is summed over these alone
    end = tl.where(last_chunk > first_chunk, begin, end)
    total = tl.zeros((TILE,), dtype=tl.float32)
    bias = tl.zeros((SLOTS,), dtype=tl.float32)
    for first in range(begin, end, SLOTS):
        slot = first + tl.arange(0, SLOTS)
        taken = slot < end
        e = tl.load(entry + slot, mask=taken, other=0)
        c = tl.load(coefficient + e, mask=taken, other=0).to(tl.float32)
        r = tl.load(row + e, mask=taken, other=0).to(tl.int64)
        s = tl.load(
            source + r[:, None] * d_in + d[None, :],
            mask=taken[:, None] & inside[None, :],
            other=0,
        ).to(tl.float32)
        total += tl.sum(c[:, None] * s, axis=0)
        bias += c
    for first in range(first_chunk, last_chunk, SLOTS):
        chunk = first + tl.arange(0, SLOTS)
        taken = chunk < last_chunk
        p = tl.load(
            part + chunk[:, None] * d_in + d[None, :],
            mask=taken[:, None] & inside[None, :],
            other=0,
        )
        total += tl.sum(p, axis=0)
        bias += tl.load(part_bias + chunk, mask=taken, other=0)
    tl.store(out + latent * d_in + d, total, mask=inside)
    if tl.program_id(1) == 0:
        tl.store(out_bias + latent, tl.sum(bias, axis=0))
