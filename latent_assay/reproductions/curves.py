"""Curves for a report: one value at each point, or one of every member."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.plots import Band


def axis(
    values: Float[Tensor, " point"] | Sequence[float], scale: int
) -> Int[np.ndarray, " point"]:
    """A curve's horizontal axis, which counts in whole numbers: `scale` times the values."""
    return torch.as_tensor(values, dtype=torch.float64).mul(scale).round().long().numpy()


def line(name: str, steps: Int[np.ndarray, " point"], values: Float[Tensor, " point"]) -> Band:
    """A plain curve, one value at each point."""
    y = values.double().numpy()
    return Band(name=name, steps=steps, mean=y, low=y, high=y)


def member_band(
    name: str, steps: Int[np.ndarray, " point"], values: Float[Tensor, "point member"]
) -> Band:
    """Mean and range over members at each point."""
    y = values.double().numpy()
    return Band(
        name=name,
        steps=steps,
        mean=y.mean(axis=1),
        low=y.min(axis=1),
        high=y.max(axis=1),
        members=y.shape[1],
    )
