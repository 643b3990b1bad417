"""SAEs that differ in one thing, and what was measured of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from latent_assay.errors import ConfigError
from latent_assay.metrics import MeanSd

Kind = Literal["sparsity", "width", "balance"]
"""What a grid goes over: a sparsity, the width, or the coefficients of matryoshka levels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """A grid along one axis."""

    kind: Kind
    """What it goes over."""
    name: str
    """The grid, and what its other axes are held at."""
    axis: str
    """The axis as the configuration calls it."""
    values: tuple[float, ...]
    """Where each setting stands, ascending: its value on the axis, or the L0 that it led to."""
    settings: tuple[float, ...]
    """The same as the configuration has them."""
    label: str
    """What `values` count."""
    curves: Mapping[str, Float[ndarray, "setting member part"]] = field(default_factory=dict)
    """What was measured; a part axis of length one for what data have no share in."""

    def __post_init__(self) -> None:
        if len(self.values) < 3 or np.any(np.diff(self.values) <= 0):
            raise ConfigError(
                f"{self.name}: choosing needs at least three settings with ascending {self.label}, "
                f"found {list(self.values)}. Add values to `{self.axis}` in [grid.over]."
            )


@dataclass(frozen=True, kw_only=True)
class Hedging:
    """Hedging degrees over widths, from extensions."""

    name: str
    """The extension."""
    degree: Mapping[int, MeanSd]
    """Width → hedging degree over members."""
    null: Mapping[int, MeanSd]
    """Width → the same between two continuations without new latents."""


def beyond(values: Sequence[float], *, up: bool) -> tuple[float, float]:
    """Where to look next: from half as far again to three times as far as the grid goes.

    >>> beyond((4, 8, 16), up=True), beyond((4, 8, 16), up=False)
    ((24.0, 48.0), (1.3333333333333333, 2.6666666666666665))
    """
    if up:
        return 1.5 * values[-1], 3.0 * values[-1]
    return values[0] / 3.0, values[0] / 1.5


def told(value: float) -> str:
    """A number for a sentence.

    >>> told(48.0), told(2.6666)
    ('48', '2.7')
    """
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
