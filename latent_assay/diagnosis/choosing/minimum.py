"""Where a curve over a grid is smallest, and which other places the noise allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from latent_assay.diagnosis.choosing.bootstrap import DOUBT, redrawn
from latent_assay.errors import ConfigError

Shape = Literal["inside", "falling", "rising", "level above", "level below", "flat", "one seed"]
"""`inside`: both sides rise. `falling`, `rising`: smallest at the last or first value, and open
beyond it. `level above`, `level below`: smallest within, but one end is no worse within the noise.
`flat`: both ends are possible. `one seed`: no spread over seeds to judge by."""


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """The minimum of a curve over a grid."""

    best: float
    """The value at which the mean curve is smallest."""
    candidates: tuple[float, ...]
    """All values at which the smallest may lie, as far as the noise goes."""
    low: float | None
    """The grid's last value below the candidates; None if the lowest value is one of them."""
    high: float | None
    """The grid's first value above the candidates; None if the highest value is one of them."""
    shape: Shape
    """What the curve looks like."""

    @property
    def determined(self) -> bool:
        """Whether the grid encloses the minimum."""
        return self.shape == "inside"

    def holds(self, value: float | int) -> bool:
        """Whether the interval from `low` to `high` holds a value; open ends hold everything."""
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)

    def overlaps(self, other: "Minimum") -> bool:
        """Whether some value lies within both intervals."""
        low = max((each for each in (self.low, other.low) if each is not None), default=None)
        high = min((each for each in (self.high, other.high) if each is not None), default=None)
        return low is None or high is None or low < high

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields, and `determined`; an open end is null."""
        return {
            "best": self.best,
            "candidates": list(self.candidates),
            "low": self.low,
            "high": self.high,
            "shape": self.shape,
            "determined": self.determined,
        }


def minimum(
    values: Sequence[float], curve: Float[ndarray, "setting member part"], *, seed: int = 0
) -> Minimum:
    r"""Where a curve is smallest, with what seeds and data leave open.

    A value is a candidate if, of the curves redrawn by `redrawn`, more than 2.5% are no higher
    there than at the best, or smallest there. For a curve that falls and then rises, the minimum
    between grid values lies between the neighbours of the smallest grid value; so the interval
    reaches from the neighbour below the candidates to that above, and a coarse grid gives a wide
    interval.

    **Arguments:**
    - `values`: ascending, one for each setting; at least three.
    - `curve`: what was measured at each.
    - `seed`: of the draws.

    **Raises:** `ConfigError` unless the values ascend; `DataError` as `redrawn`.
    """
    if len(values) < 3 or len(values) != len(curve) or np.any(np.diff(values) <= 0):
        raise ConfigError(
            f"a minimum needs at least three ascending values, one for each setting of the curve; "
            f"got {list(values)} for {len(curve)}."
        )
    draws = redrawn(curve, seed=seed)
    best = int(curve.mean((1, 2)).argmin())
    if curve.shape[1] == 1:
        return Minimum(
            best=values[best], candidates=tuple(values), low=None, high=None, shape="one seed"
        )
    no_higher = (draws <= draws[:, [best]]).mean(0) > DOUBT
    chosen = np.bincount(draws.argmin(1), minlength=len(values)) / len(draws) > DOUBT
    found = np.flatnonzero(no_higher | chosen)
    first, last = int(min(found.min(), best)), int(max(found.max(), best))
    end = len(values) - 1
    shape: Shape
    if first == 0 and last == end:
        shape = "flat"
    elif last == end:
        shape = "falling" if best == end else "level above"
    elif first == 0:
        shape = "rising" if best == 0 else "level below"
    else:
        shape = "inside"
    return Minimum(
        best=values[best],
        candidates=tuple(values[first : last + 1]),
        low=None if first == 0 else values[first - 1],
        high=None if last == end else values[last + 1],
        shape=shape,
    )
