"""Starting kernels: where, on how many programs, in blocks of which size."""

from contextlib import nullcontext
from typing import Any

import torch
import triton

# Long rows are cut into tiles of this many numbers. Never one block of the next power of two: that
# would be 4,096 for a d_in of 2,304, with nearly half of its threads idle.
_LONGEST_TILE = 256


def tile_of(length: int) -> int:
    """The size of the tiles in which rows of some length are read."""
    return min(triton.next_power_of_2(length), _LONGEST_TILE)


def launch(kernel: Any, grid: tuple[int, ...], like: torch.Tensor, **arguments: Any) -> None:
    """Run a kernel on the device of a tensor.

    **Arguments:**
    - `kernel`: what `triton.jit` made.
    - `grid`: the number of programs along each axis; nothing runs if one of them is 0.
    - `like`: any of the tensors.
    - `arguments`: the kernel's, by name.
    """
    if 0 in grid:
        return
    # Triton launches on the current device, whatever the tensors say
    place = torch.cuda.device(like.device) if like.device.type == "cuda" else nullcontext()
    with place:
        # products and sums may fuse; said, because Triton 3.9 warns where it is left open
        kernel[grid](**arguments, enable_fp_fusion=True)
