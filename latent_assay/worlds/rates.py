r"""How often features fire: base rates as a function of the feature's index.

Each function returns a tuple of $n$ probabilities, to be given to a firing law:

    >>> from latent_assay.worlds import Independent
    >>> Independent(rates=linear(3, first=0.1, last=0.3)).rates
    (0.1, 0.2, 0.3)
"""

import math
from collections.abc import Iterable, Sequence

from latent_assay.errors import ConfigError, WorldError


def constant(n: int, rate: float) -> tuple[float, ...]:
    r"""The same rate for every feature, $p_i = p$.

    **Arguments:**
    - `n`: number of features.
    - `rate`: $p$. Under sparsity $S$ a feature is silent with probability $S$, so $p = 1 - S$.

    **Raises:** `ConfigError` if `n` is below 1, `WorldError` if `rate` is no probability.
    """
    return checked_rates([rate] * _count(n))


def linear(n: int, *, first: float, last: float) -> tuple[float, ...]:
    r"""Rates on a straight line from the first feature to the last.

    $$p_i = p_0 + (p_{n-1} - p_0) \frac{i}{n-1}$$

    So $.3 (i+1)/20$ for 20 features is `linear(20, first=0.015, last=0.3)`, and
    $.345 (49-i)/50 + .05$ for 50 is `linear(50, first=0.3881, last=0.05)`.
    A single feature has the first rate.

    **Arguments:**
    - `n`: number of features.
    - `first`, `last`: $p_0$ and $p_{n-1}$.

    **Raises:** `ConfigError` if `n` is below 1, `WorldError` if an end is no probability.
    """
    steps = max(_count(n) - 1, 1)
    # The weighted form hits both ends exactly, which p_0 + i * step does not.
    return checked_rates([(first * (steps - i) + last * i) / steps for i in range(n)])


def zipfian(n: int, *, exponent: float = 1.0, highest: float, lowest: float) -> tuple[float, ...]:
    r"""Rates that fall as a power of the index, rescaled to end where they should.

    $$w_i = (i+1)^{-s}, \qquad
      p_i = p_{low} + (p_{high} - p_{low}) \frac{w_i - w_{n-1}}{w_0 - w_{n-1}}$$

    With $s = .5$, highest $.4$ and lowest $5 \cdot 10^{-4}$ over 16,384 features these are the
    base rates of SynthSAEBench. A single feature has the highest rate.

    **Arguments:**
    - `n`: number of features.
    - `exponent`: $s > 0$.
    - `highest`, `lowest`: the rates of the first and the last feature.

    **Raises:** `ConfigError` if `n` is below 1 or `exponent` is not positive, `WorldError` if
    an end is no probability.
    """
    if not (exponent > 0 and math.isfinite(exponent)):
        raise ConfigError(
            f"`exponent` is {exponent}, but rates fall with the index only for a positive finite "
            "exponent. Use `rates.constant` for equal rates."
        )
    weights = [(i + 1) ** -exponent for i in range(_count(n))]
    span = weights[0] - weights[-1]
    shares = [(weight - weights[-1]) / span if span > 0 else 1.0 for weight in weights]
    return checked_rates([highest * share + lowest * (1 - share) for share in shares])


def checked_rates(rates: Iterable[float], name: str = "rates") -> tuple[float, ...]:
    """The rates as a tuple of floats, each of which is a probability.

    **Raises:** `WorldError` naming the first that is not, or if there is none at all.
    """
    checked = tuple(float(rate) for rate in rates)
    if not checked:
        raise WorldError(f"`{name}` is empty, but a world has at least one feature.")
    for i, rate in enumerate(checked):
        if not 0 <= rate <= 1:
            raise WorldError(
                f"`{name}[{i}]` is {rate:g}, but a probability lies between 0 and 1. "
                "Check the formula that made it."
            )
    return checked


def in_words(rates: Sequence[float]) -> str:
    """The rates in a few words: one number, a few, or a range."""
    if len(set(rates)) == 1:
        return f"rate {rates[0]:.3g}"
    if len(rates) <= 6:
        return "rates " + ", ".join(f"{rate:.3g}" for rate in rates)
    return f"rates {min(rates):.3g} to {max(rates):.3g}"


def _count(n: int) -> int:
    if n < 1:
        raise ConfigError(f"`n` is {n}, but a world has at least one feature.")
    return n
