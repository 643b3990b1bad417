"""What a reproduction is: a claim, how it was tested, and what came out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from latent_assay.atomic import plain

Number = int | float
Values = Tensor | Sequence[Number] | Number
"""One number per member, or a single number."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One measured number held against what it should be."""

    name: str
    """What was measured."""
    expected: str
    """What it should be, in words or as a band."""
    measured: float
    """Mean over members."""
    sd: float | None = None
    """Standard deviation over members; None for a number without spread."""
    passed: bool
    """Whether it is as it should be."""

    @classmethod
    def band(cls, name: str, values: Values, low: Number, high: Number) -> "Check":
        """The mean over members must lie from `low` to `high`; infinity leaves a side open.

        >>> Check.band("cosine", [0.98, 1.0], 0.95, 1.0).passed
        True
        """
        mean, sd = _mean_sd(values)
        return cls(
            name=name,
            expected=_band(low, high),
            measured=mean,
            sd=sd,
            passed=low <= mean <= high,
        )

    @classmethod
    def near(
        cls,
        name: str,
        values: Values,
        target: Number,
        tolerance: Number,
    ) -> "Check":
        """The mean over members must lie within `tolerance` of `target`."""
        mean, sd = _mean_sd(values)
        return cls(
            name=name,
            expected=f"{target:.4g} ± {tolerance:.2g}",
            measured=mean,
            sd=sd,
            passed=abs(mean - target) <= tolerance,
        )

    @classmethod
    def true(cls, name: str, holds: bool) -> "Check":
        """A statement that must hold."""
        return cls(name=name, expected="holds", measured=float(holds), passed=bool(holds))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of testing a claim."""

    checks: tuple[Check, ...]
    """Every number that was held against what it should be."""
    members: int = 1
    """Seeds behind each number; 1 for a closed form."""
    sections: tuple[Any, ...] = ()
    """Sections of a report: the source's figure redrawn."""
    note: str = ""
    """What a reader should know of this run: how it differs from the source, why it fails."""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One claim of one source."""

    id: str
    """Source number, then what it is there: `002-fig-8`."""
    source: str
    """Number of the source: 000 to 004, or `beyond`."""
    title: str
    """A few words."""
    claim: str
    """What the source states, in our words."""
    setup: str
    """World, SAE and training."""
    run: Callable[[bool], Result]
    """Tests the claim. Its argument is whether to be quick: population training where the world is
    finite, and fewer steps; the pass criteria are the same."""
    errors: str = ""
    """What is wrong or inconsistent in the source, and the corrected form."""

    def to_json(self, result: Result) -> dict[str, Any]:
        """The entry and its result as `reproductions.json` holds them."""
        first = result.checks[0] if result.checks else None
        content: dict[str, Any] = plain(
            {
                "id": self.id,
                "source": self.source,
                "title": self.title,
                "claim": self.claim,
                "setup": self.setup,
                "expected": "; ".join(f"{c.name}: {c.expected}" for c in result.checks),
                "measured": None if first is None else first.measured,
                "sd": None if first is None else first.sd,
                "members": result.members,
                "passed": result.passed,
                "note": " ".join(part for part in (self.errors, result.note) if part),
                "checks": [
                    {
                        "name": c.name,
                        "expected": c.expected,
                        "measured": c.measured,
                        "sd": c.sd,
                        "passed": c.passed,
                    }
                    for c in result.checks
                ],
            }
        )
        return content


def _mean_sd(values: Values) -> tuple[float, float | None]:
    if isinstance(values, Tensor):
        values = values.detach().flatten().tolist()
    if isinstance(values, int | float):
        return float(values), None
    numbers = [float(value) for value in values]
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((each - mean) ** 2 for each in numbers) / (len(numbers) - 1))


def _band(low: Number, high: Number) -> str:
    if high == math.inf:
        return f"at least {low:.4g}"
    if low == -math.inf:
        return f"at most {high:.4g}"
    return f"{low:.4g} to {high:.4g}"
