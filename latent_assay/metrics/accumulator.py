"""Measurements that stream: sums that can be added, and the object that adds them.

Every streaming metric keeps *sufficient statistics*: float64 sums from which its results follow.
Statistics of two disjoint sets of samples add up to those of their union, so the results do not
depend on how the samples were cut into batches, and accumulators filled by different processes
can be merged.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jaxtyping import Float64
from torch import Tensor

from latent_assay.errors import DataError, ShapeError


@dataclass(frozen=True, kw_only=True)
class Sums(ABC):
    """Sufficient statistics of some samples."""

    n: int
    """Number of samples with positive weight."""
    weight: Float64[Tensor, ""]
    """Sum of their weights; equal to `n` if no weights were given."""

    @property
    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """The axes that all batches of one accumulator must agree on, by name."""

    @abstractmethod
    def __add__(self, other: Any) -> Any:
        """The statistics of both sets of samples together."""


S = TypeVar("S", bound=Sums)


class Accumulator(ABC, Generic[S]):
    """Adds up the statistics of batch after batch.

    A subclass defines `update`, which turns a batch into `Sums`, and `result`.
    """

    def __init__(self) -> None:
        self._sums: S | None = None

    def merge(self, other: "Accumulator[S]") -> None:
        """Take over what another accumulator of the same kind has seen; it stays unchanged.

        **Raises:** `ShapeError` if the two measured things of different size.
        """
        if other._sums is not None:
            self._include(other._sums)

    def _include(self, sums: S) -> None:
        if self._sums is None:
            self._sums = sums
            return
        if sums.sizes != self._sums.sizes:
            raise ShapeError(
                f"this {type(self).__name__} began with {_text(self._sums.sizes)} but now "
                f"received {_text(sums.sizes)}; use one accumulator for each set of SAEs."
            )
        self._sums = self._sums + sums

    def _seen(self) -> S:
        if self._sums is None or self._sums.n == 0:
            raise DataError(
                f"{type(self).__name__} has seen no samples, so there is nothing to report; call "
                "`update` with at least one sample of positive weight first."
            )
        return self._sums


def _text(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())
