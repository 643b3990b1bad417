"""A number held against what it should be, and how both are written."""

import math
import re
from dataclasses import dataclass
from typing import Any

Number = int | float
MOST_DIGITS = 4
SMALLEST = 1e-4  # below this, powers of ten read more easily than zeros


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number held against what it should be, or a statement that must hold."""

    name: str
    """What was measured."""
    expected: str
    """What it should be, in words or as a band."""
    measured: Number | None
    """Mean over members; `None` for a statement, which holds or does not."""
    sd: Number | None = None
    """Standard deviation over members; `None` for a number without spread."""
    passed: bool
    """Whether it is as it should be."""

    @property
    def found(self) -> str:
        """What was measured, as the page writes it.

        >>> Reading(name="cosine", expected="1", measured=0.99981, sd=9.5e-6, passed=True).found
        '0.9998 ± 9.5e−6'
        >>> Reading(name="sum", expected="holds", measured=None, passed=False).found
        'does not hold'
        """
        if self.measured is None:
            return "holds" if self.passed else "does not hold"
        return mean_and_spread(self.measured, self.sd)

    @property
    def wanted(self) -> str:
        """What it should be, as the page writes it: 1e-9 for 1e-09, and 2 for "2 to 2".

        >>> Reading(name="", expected="-1e-09 to 1e-09", measured=0.0, passed=True).wanted
        '−1e−9 to 1e−9'
        """
        text = re.sub(r"(?<!\S)(\S+) (?:± 0|to \1)(?!\S)", r"\1", self.expected)
        text = re.sub(r"(?<=\de)\+?(-?)0*(?=\d)", r"\1", text)
        return re.sub(r"(?<![\w.])-(?=[\d.])|(?<=\de)-", "−", text)

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields, and `found`."""
        return {
            "name": self.name,
            "expected": self.expected,
            "measured": self.measured,
            "sd": self.sd,
            "found": self.found,
            "passed": self.passed,
        }


def mean_and_spread(mean: Number, sd: Number | None = None) -> str:
    """A mean with the digits that its spread leaves it, at most four.

    >>> [mean_and_spread(0.2184232, 0.0022670), mean_and_spread(124.585, 0.3), mean_and_spread(18)]
    ['0.2184 ± 0.0023', '124.6 ± 0.3', '18']
    """
    if not math.isfinite(mean):
        return "not a number" if math.isnan(mean) else _signed(mean)
    if sd is None or not math.isfinite(sd):
        return _signed(mean)
    if sd == 0 or mean == 0:
        return f"{_signed(mean)} ± {_signed(sd, 2)}"
    first = math.floor(math.log10(abs(mean)))
    last = math.floor(math.log10(sd)) - 1
    decimals = max(last, first - MOST_DIGITS + 1)
    if abs(mean) < SMALLEST:
        shown = _tidy(f"{mean:.{max(first - decimals, 0)}e}")
    else:
        shown = _tidy(f"{mean:.{max(-decimals, 0)}f}")
    return f"{shown} ± {_signed(sd, 2)}"


def _signed(value: Number, digits: int = MOST_DIGITS) -> str:
    if 0 < abs(value) < SMALLEST:
        return _tidy(f"{value:.1e}")
    return _tidy(f"{value:.{digits}g}")


def _tidy(number: str) -> str:
    """Without zeros in the exponent, and with a minus that is as wide as a plus."""
    return re.sub(r"e([+-])0*", lambda m: "e" + m[1].replace("+", ""), number).replace("-", "−")
