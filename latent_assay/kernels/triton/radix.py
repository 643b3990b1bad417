"""The batch threshold without sorting: digit by digit, from counts of bit patterns.

Positive floats are ordered like their bit patterns read as integers. So the leading digit of the
rank-th largest follows from a count of leading digits, the next one from a count among the values
that share the first, and so on: exact after two passes over a batch in bfloat16 and after three in
float32. (One pass over all 2^15 patterns of bfloat16 would need its counts in memory that all
programs share, and these would wait for one another.)
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.kernels.triton.launch import launch

# For each type: the same bits as integers, the pattern of infinity, and the digits' sizes. The
# first digit is the exponent. Nearly all values of a batch are small and leave the count there, so
# that later digits can be longer.
_LAYOUT = {
    torch.float32: (torch.int32, 0x7F800000, (8, 12, 11)),
    torch.bfloat16: (torch.int16, 0x7F80, (8, 7)),
}
_BLOCK = 2048
# Programs that share a member's values, at most.
_PROGRAMS = 1024


def threshold(
    pre: Float[Tensor, "member batch latent"], k: Float[Tensor, " member"]
) -> Float[Tensor, " member"]:
    r"""The largest threshold at which at least $k$ latents fire per sample, on average.

    The same number as `latent_assay.kernels.batch_threshold` gives for samples of equal weight,
    ties included: the $\lceil kB \rceil$-th largest of $\max(pre, 0)$. NaN counts as not firing.

    **Arguments:**
    - `pre`: pre-activations, float32 or bfloat16.
    - `k`: mean number of firing latents per sample, for each member; need not be an integer.

    **Raises:** `ConfigError` for other types.
    """
    if pre.dtype not in _LAYOUT:
        raise ConfigError(
            f"this threshold reads the bits of float32 and bfloat16, got {pre.dtype}; use "
            "`latent_assay.kernels.batch_threshold`."
        )
    integer, infinite, digits = _LAYOUT[pre.dtype]
    members, batch, width = pre.shape
    code = pre.detach().contiguous().view(integer).view(members, -1)
    size = batch * width
    # a hair less, so that k = 0.1 and 30 samples ask for 3 and not for 4
    share = k.to(device=pre.device, dtype=torch.float64) * batch * (1 - 1e-12)
    rank = share.ceil().clamp(1, size).to(torch.int64)
    chosen = torch.zeros(members, dtype=torch.int32, device=pre.device)
    blocks = triton.cdiv(size, _BLOCK)
    steps = triton.cdiv(blocks, _PROGRAMS)
    shift = sum(digits)
    for place, bits in enumerate(digits):
        shift -= bits
        histogram = torch.zeros(members, 2**bits, dtype=torch.int64, device=pre.device)
        launch(
            _count,
            (triton.cdiv(blocks, steps), members),
            pre,
            code=code,
            chosen=chosen,
            histogram=histogram,
            size=size,
            steps=steps,
            infinite=infinite,
            SHIFT=shift,
            BITS=bits,
            FIRST=place == 0,
            BLOCK=_BLOCK,
        )
        launch(_pick, (members,), pre, histogram=histogram, chosen=chosen, rank=rank, BINS=2**bits)
    # no pattern was found where fewer than `rank` are positive
    return chosen.clamp_min(0).to(integer).view(pre.dtype)


@triton.jit
@no_type_check
def _count(
    code,
    chosen,
    histogram,
    size,
    steps,
    infinite,
    SHIFT: tl.constexpr,
    BITS: tl.constexpr,
    FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    part = tl.program_id(0).to(tl.int64)
    member = tl.program_id(1).to(tl.int64)
    BINS: tl.constexpr = 1 << BITS
    bins = tl.arange(0, BINS)
    upper = tl.load(chosen + member)
    counts = tl.zeros((BINS,), dtype=tl.int32)
    for step in range(steps):
        place = (part * steps + step) * BLOCK + tl.arange(0, BLOCK)
        c = tl.load(code + member * size + place, mask=place < size, other=0).to(tl.int32)
        # above zero and not NaN
        taken = (c > 0) & (c <= infinite)
        digit = (c >> SHIFT) & (BINS - 1)
        if FIRST:
            # counted among the zeros, and taken out of them again
            found = tl.histogram(tl.where(taken, digit, 0), BINS)
            left = BLOCK - tl.sum(taken.to(tl.int32), axis=0)
            counts += found - tl.where(bins == 0, left, 0)
        else:
            taken = taken & ((c >> (SHIFT + BITS)) == upper)
            tl.atomic_add(histogram + member * BINS + digit, taken.to(tl.int64), mask=taken)
    if FIRST:
        # whole numbers, so that the order of additions does not matter
        tl.atomic_add(histogram + member * BINS + bins, counts.to(tl.int64), mask=counts > 0)


@triton.jit
@no_type_check
def _pick(histogram, chosen, rank, BINS: tl.constexpr):
    member = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BINS)
    wanted = tl.load(rank + member)
    upper = tl.load(chosen + member)
    # how many values have this digit or a larger one, from the largest digit on
    reached = tl.cumsum(tl.load(histogram + member * BINS + (BINS - 1 - place)), axis=0)
    short = reached < wanted
    passed = tl.sum(short.to(tl.int32), axis=0)
    tl.store(rank + member, wanted - tl.max(tl.where(short, reached, 0), axis=0))
    # -1, which no positive value begins with, if there are too few: then the next count is empty
    tl.store(chosen + member, tl.where(passed == BINS, -1, upper * BINS + (BINS - 1 - passed)))
