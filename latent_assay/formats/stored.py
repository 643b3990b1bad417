"""Tensors that lie in a file: shapes are known first, and checked before a byte is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latent_assay.errors import FormatError

FLOATS = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
"""The types that an SAE may have."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A tensor in a file."""

    shape: tuple[int, ...]
    """What the header says."""
    dtype: str
    """The type, in the container's own word."""
    read: Callable[[], Tensor]
    """Reads it."""


def pick(
    stored: Mapping[str, Stored],
    shapes: Mapping[str, tuple[object, ...]],
    path: Path,
    *,
    because: str,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """The tensors that an SAE needs, once they are known to fit together.

    **Arguments:**
    - `stored`: everything in the file.
    - `shapes`: the shape of each that is needed.
    - `path`: the file, for messages.
    - `because`: what asks for these shapes, for messages.
    - `dtype`: the type wanted; the widest of those in the file if None.

    **Raises:** `FormatError` if one is missing, of another shape, not of floating point, or holds
    numbers that are not finite.
    """
    if missing := set(shapes) - set(stored):
        have = sorted(stored)[:20]
        raise FormatError(
            f"'{path}' lacks {', '.join(sorted(missing))}; it has {have}"
            f"{' …' if len(stored) > 20 else ''}. Copy it anew from where it came."
        )
    for name, shape in sorted(shapes.items()):
        if stored[name].shape != shape or any(size == 0 for size in stored[name].shape):
            raise FormatError(
                f"`{name}` in '{path}' has shape {list(stored[name].shape)}, but {because}, which "
                f"asks for {list(shape)}; the two do not belong together."
            )
    found = {name: stored[name].read() for name in sorted(shapes)}
    for name, tensor in found.items():
        if not tensor.is_floating_point():
            raise FormatError(
                f"`{name}` in '{path}' must hold finite numbers of floating point, found "
                f"{tensor.dtype}; the file is damaged, or no SAE."
            )
    wanted = dtype or widest(found.values())
    cast = {name: tensor.to(wanted) for name, tensor in found.items()}
    for name, tensor in cast.items():
        if not bool(tensor.isfinite().all()):
            raise FormatError(
                f"`{name}` in '{path}' must hold finite numbers of type {wanted}; the file is "
                "damaged or its training diverged."
            )
    return cast


def widest(tensors: object) -> torch.dtype:
    """The type of an SAE made of some tensors; eight-bit floats become float32."""
    result: torch.dtype | None = None
    for tensor in tensors:  # type: ignore[attr-defined]
        own = tensor.dtype if tensor.dtype in FLOATS.values() else torch.float32
        result = own if result is None else torch.promote_types(result, own)
    return result or torch.float32


def at_least_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers in a type in which products of them do not lose half of their digits."""
    return {
        name: tensor if tensor.dtype == torch.float64 else tensor.float()
        for name, tensor in tensors.items()
    }
