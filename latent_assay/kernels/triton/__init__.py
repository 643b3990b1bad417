"""The sparse path on a GPU, in kernels of our own.

Nothing here is imported, nor Triton, before one of the names below is first asked for; ask
`available` before that. The kernels also run on CPU tensors, slowly, in Triton's interpreter, which
is switched on by `TRITON_INTERPRET=1` in the environment *before* Triton is imported.

- `sparse_decode`, `selected_encode`: the differentiable ends of the sparse path.
- `decode`, `value_gradient`, `weight_gradient`, `suffix_sums`: the products they consist of, the
  last two over an `InvertedIndex`.
- `threshold`, `select_above`: which latents of a batch fire.
- `gradient_norms`, `adam_rows`: the optimiser's step.

Every sum runs in float32 and in an order fixed by the arguments: results repeat bit for bit.
Kernels wait for nothing: only `select_above` has to read a number off the device.
"""

import importlib
import importlib.util
import os
from typing import Any

import torch

from latent_assay.errors import did_you_mean

_HOMES = {
    "InvertedIndex": "inverted_index",
    "adam_rows": "rows",
    "decode": "decoding",
    "gradient_norms": "rows",
    "inverted_index": "inverted_index",
    "select_above": "compaction",
    "selected_encode": "autograd",
    "sparse_decode": "autograd",
    "suffix_sums": "decoding",
    "threshold": "radix",
    "value_gradient": "sampled",
    "weight_gradient": "segments",
}

__all__ = [
    "InvertedIndex",
    "adam_rows",
    "available",
    "decode",
    "gradient_norms",
    "select_above",
    "selected_encode",
    "sparse_decode",
    "suffix_sums",
    "threshold",
    "value_gradient",
    "weight_gradient",
]


def available(device: torch.device) -> bool:
    """Whether the kernels run on a device: a GPU, or the CPU where the interpreter is on.

    Looks for Triton without importing it.
    """
    if importlib.util.find_spec("triton") is None:
        return False
    interpreted = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")
    return device.type == ("cpu" if interpreted else "cuda")


def __getattr__(name: str) -> Any:
    """Import a kernel when it is first asked for."""
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(
        f"module '{__name__}' has no attribute '{name}'.{did_you_mean(name, __all__)}"
    )
