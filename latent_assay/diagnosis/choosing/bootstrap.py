"""Curves redrawn: what they might have been with other seeds and other data."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from latent_assay.errors import DataError

DRAWS = 2_000
"""How often seeds and parts of the data are drawn again."""
DOUBT = 0.025
"""A difference is believed if at most this share of the draws contradicts it."""


def redrawn(
    curve: Float[ndarray, "setting member part"], *, seed: int = 0
) -> Float[ndarray, "draw setting"]:
    r"""Means of a curve over members and parts of the data that are drawn with replacement.

    The same members and parts are drawn for every setting: seeds share their initial weights and
    batches over a grid, and all settings are measured on the same data, so that what they have in
    common cancels in differences.

    Few members, drawn with replacement, spread too little: three of them would call noise a
    difference once in four times. So the deviations of a draw of $m$ members are widened by

    $$\sqrt{m / (m - 1)}\; t_{.975,\, m - 1} / 1.96,$$

    which is 2.7 for three members, 1.6 for five and 1 for many, and those of parts likewise.

    **Arguments:**
    - `curve`: what was measured; a part axis of length one for what data have no share in. With
      one member, seeds have no share in the spread either.
    - `seed`: of the draws.

    **Raises:** `DataError` if a number is not finite or there is none.
    """
    if 0 in curve.shape or not np.isfinite(curve).all():
        raise DataError(
            f"a curve of shape {list(curve.shape)} cannot be redrawn: expected a finite number for "
            "every setting, member and part of the data. Leave settings without one out."
        )
    generator = np.random.default_rng(seed)
    mean = curve.mean((1, 2))
    by_member = _deviations(curve.mean(2) - mean[:, None], generator)
    by_part = _deviations(curve.mean(1) - mean[:, None], generator)
    return mean + by_member + by_part


def _deviations(
    around: Float[ndarray, "setting unit"], generator: np.random.Generator
) -> Float[ndarray, "draw setting"]:
    """Means of units drawn with replacement, widened as few units ask for."""
    units = around.shape[1]
    if units == 1:
        return np.zeros((DRAWS, len(around)))
    from scipy.special import stdtrit  # slow to import

    widened = np.sqrt(units / (units - 1)) * stdtrit(units - 1, 1 - DOUBT) / 1.96
    drawn = generator.multinomial(units, np.full(units, 1 / units), DRAWS) / units
    return widened * drawn @ around.T
