"""A check that no member may fail."""

from collections.abc import Iterable

import torch
from torch import Tensor

from latent_assay.reproductions.entry import Check


def every(name: str, values: Tensor | Iterable[float], low: float, high: float) -> Check:
    """Every member, not only their mean, must lie from `low` to `high`.

    >>> every("cosine", [0.1, 0.9], 0.4, 0.6).passed
    False
    """
    found = values if isinstance(values, Tensor) else torch.tensor(list(values))
    found = found.detach().double().flatten()
    return Check(
        name=name,
        expected=f"{low:.4g} to {high:.4g} in every member",
        measured=float(found.mean()),
        sd=float(found.std()) if len(found) > 1 else None,
        passed=bool(((found >= low) & (found <= high)).all()),
    )
