"""Where a falling curve stops to fall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from latent_assay.diagnosis.choosing.bootstrap import DOUBT, redrawn
from latent_assay.errors import ConfigError

WORTH = 0.1
"""A gain counts if it is surely more than this share of the largest gain per doubling."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What one step of the grid gains."""

    first: float
    """From this value …"""
    second: float
    """… to this one."""
    per_doubling: float
    """Fall of the curve divided by the number of doublings."""
    low: float
    """Its 2.5th percentile over redrawn seeds and data."""
    high: float
    """Its 97.5th percentile."""
    counts: bool
    """Whether it surely is more than a tenth of the largest gain of the grid."""


@dataclass(frozen=True, kw_only=True)
class Levelling:
    """Where a falling curve becomes level."""

    shape: Literal["inside", "falling", "level", "one seed"]
    """`inside`: it falls, then is level. `falling`: to the end. `level`: throughout."""
    best: float
    """The smallest value behind which nothing that counts is gained; the last of a falling one."""
    low: float | None
    """It falls at least up to somewhere behind this value; None if it does not fall."""
    high: float | None
    """It is level from before this value on; None if not within the grid."""
    gains: tuple[Gain, ...]
    """Step by step."""

    @property
    def determined(self) -> bool:
        """Whether the grid encloses the bend."""
        return self.shape == "inside"

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields, and `determined`; an open end is null."""
        return {
            "shape": self.shape,
            "best": self.best,
            "low": self.low,
            "high": self.high,
            "determined": self.determined,
            "gains": [vars(each) for each in self.gains],
        }


def levelling(
    values: Sequence[float], curve: Float[ndarray, "setting member part"], *, seed: int = 0
) -> Levelling:
    r"""Where a falling curve becomes level, with what seeds and data leave open.

    $$g_i = \frac{y_i - y_{i+1}}{\log_2 (v_{i+1} / v_i)}$$

    counts if the 2.5th percentile of $g_i$ over redrawn seeds and data is above a tenth of
    $\max_i g_i$. The curve is level from the end of the last step that counts; as that step and
    the next may hold the bend, the interval spans both.

    **Arguments:**
    - `values`: positive and ascending, one for each setting; at least three.
    - `curve`: what was measured at each.
    - `seed`: of the draws.

    **Raises:** `ConfigError` unless the values are positive and ascend; `DataError` as `redrawn`.
    """
    ascending = len(values) == len(curve) >= 3 and values[0] > 0 and np.all(np.diff(values) > 0)
    if not ascending:
        raise ConfigError(
            "a bend needs at least three positive, ascending values, one for each setting of the "
            f"curve; got {list(values)} for {len(curve)}."
        )
    doublings = np.diff(np.log2(np.asarray(values, dtype=float)))
    draws = -np.diff(redrawn(curve, seed=seed), axis=1) / doublings
    mean = -np.diff(curve.mean((1, 2))) / doublings
    low, high = np.quantile(draws, [DOUBT, 1 - DOUBT], axis=0)
    counts = low > max(0.0, WORTH * float(mean.max()))
    gains = tuple(
        Gain(
            first=values[i],
            second=values[i + 1],
            per_doubling=float(mean[i]),
            low=float(low[i]),
            high=float(high[i]),
            counts=bool(counts[i]),
        )
        for i in range(len(mean))
    )
    if curve.shape[1] == 1:
        best = values[int(curve.mean((1, 2)).argmin())]
        return Levelling(shape="one seed", best=best, low=None, high=None, gains=gains)
    if not counts.any():
        return Levelling(shape="level", best=values[0], low=None, high=values[1], gains=gains)
    bend = int(np.flatnonzero(counts).max()) + 1
    if bend == len(values) - 1:
        return Levelling(shape="falling", best=values[-1], low=values[-2], high=None, gains=gains)
    return Levelling(
        shape="inside", best=values[bend], low=values[bend - 1], high=values[bend + 1], gains=gains
    )
