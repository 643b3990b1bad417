"""Which path runs: dense products, sparse ones, or gradients by hand from inner products.

The crossover was measured on CPU (d_in 50 to 768, widths 50 to 16,384, batches 500 to 4,096):
sparse products cost a fixed 1 to 2 ms per step for sorting indices and then about 40 times more
per multiplication than a dense product, so they win once the dense latent products are large and
few latents fire.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from latent_assay.kernels import triton

Path = Literal["dense", "sparse", "gram", "triton"]

_forced: Path | None = None

# A sparse multiply-add costs about this many dense ones on CPU.
_SPARSE_COST = 40
# Below this many dense multiply-adds per latent product, fixed costs decide for dense.
_SMALLEST = 2**27
# On a GPU the crossover follows from the cost model, not from a measurement: reading a decoder row
# for each firing latent costs as much memory traffic as this many multiply-adds of a dense product,
# in full precision (TensorFloat-32) and in half.
_TRITON_COST, _TRITON_COST_HALF = 20, 160
_SMALLEST_TRITON = 2**33
# Above this many multiply-adds with the Gram matrix, autograd's share of a step is small anyway.
_LARGEST_GRAM = 2**30


def prefers_sparse(
    *, members: int, batch: int, width: int, d_in: int, l0: float, like: torch.Tensor
) -> bool:
    """Whether decoding through a list of firing latents is faster than a dense product.

    **Arguments:**
    - `members`, `batch`, `width`, `d_in`: the sizes of the product.
    - `l0`: how many latents fire per sample.
    - `like`: a tensor of the device and dtype in question; sparse products exist for float32 and
      float64 on CPU, and not under autocast, and for float32 and bfloat16 where Triton runs.
    """
    if uses_triton(like):
        if _forced is not None:
            return _forced in ("sparse", "triton")
        half = torch.is_autocast_enabled("cuda") or like.dtype == torch.bfloat16
        cost = _TRITON_COST_HALF if half else _TRITON_COST
        return members * batch * width * d_in >= _SMALLEST_TRITON and l0 * cost < width
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    if _forced is not None:
        return _forced == "sparse"
    return members * batch * width * d_in >= _SMALLEST and l0 * _SPARSE_COST < width


def uses_triton(like: torch.Tensor) -> bool:
    """Whether sparse products of such tensors run through the Triton kernels.

    They do on CUDA. On CPU they can be forced where Triton's interpreter is on, for tests.
    """
    if like.dtype not in (torch.float32, torch.bfloat16) or not triton.available(like.device):
        return False
    return like.device.type == "cuda" or _forced == "triton"


def prefers_gram(*, members: int, batch: int, width: int, d_in: int, like: torch.Tensor) -> bool:
    """Whether gradients by hand, through inner products only, beat automatic differentiation.

    **Arguments:**
    - `members`, `batch`, `width`, `d_in`: the sizes of the product.
    - `like`: a tensor of the device and dtype in question. Inner products of small errors need full
      precision, so products in TensorFloat-32 or half precision do not qualify.
    """
    if like.dtype not in (torch.float32, torch.float64):
        return False
    if like.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        return False
    if _forced is not None:
        return _forced == "gram"
    return 2 * width <= d_in and batch * members * width * width < _LARGEST_GRAM


@contextmanager
def force_path(path: Path) -> Iterator[None]:
    """Run one path whatever the sizes. For tests and benchmarks."""
    global _forced
    before, _forced = _forced, path
    try:
        yield
    finally:
        _forced = before
