"""Features that always fire alike."""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.magnitudes.law import Magnitudes
from latent_assay.worlds.magnitudes.parameter import Parameter, checked, full, number, words


@dataclass(frozen=True, kw_only=True)
class Constant(Magnitudes):
    """Each feature always fires with the same magnitude.

    **Raises:** `WorldError` if a magnitude is 0 (the feature would never fire) or not finite.
    """

    value: Parameter = 1.0
    """The magnitude of all features, or of each."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", checked(self.value, "value", nonzero=True))

    @property
    def summary(self) -> str:
        """The law in a few words."""
        return f"constant {words(self.value)}"

    @property
    def finite(self) -> bool:
        """Always."""
        return True

    def constants(self, n_features: int) -> Float64[Tensor, " feature"]:
        """The magnitude of each feature."""
        return full(self.value, n_features)


@dataclass(frozen=True, kw_only=True)
class Linear(Magnitudes):
    r"""Constant magnitudes on a straight line over the features.

    $$m_i = m_0 + (m_{n-1} - m_0) \frac{i}{n - 1}$$

    So $m_i = 20 - i$ for 20 features is `Linear(first=20.0, last=1.0)`.

    **Raises:** `WorldError` if the ends are zero, not finite, or of different sign.
    """

    first: float
    """$m_0$"""
    last: float
    """$m_{n-1}$"""

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            object.__setattr__(self, name, number(getattr(self, name), name, nonzero=True))
        if self.first * self.last < 0:
            raise WorldError(
                f"magnitudes from {self.first:g} to {self.last:g} pass through 0, where a feature "
                "would never fire. Give both ends the same sign."
            )

    @property
    def summary(self) -> str:
        """The law in a few words."""
        return f"constant, {self.first:g} to {self.last:g}"

    @property
    def finite(self) -> bool:
        """Always."""
        return True

    def constants(self, n_features: int) -> Float64[Tensor, " feature"]:
        """The magnitude of each feature."""
        steps = max(n_features - 1, 1)
        places = torch.arange(n_features, dtype=torch.float64)
        return (self.first * (steps - places) + self.last * places) / steps
