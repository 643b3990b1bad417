"""Numbers with their spread over members, and whether two of them differ."""

import math
from dataclasses import dataclass

from jaxtyping import Real
from torch import Tensor

from latent_assay.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class MeanSd:
    """A mean over members and their standard deviation.

    Printed as `mean ± sd (n)`, to the first significant digit of the sd; a format such as `.3f`
    is applied to both. With one member there is no spread to show.

    >>> print(MeanSd(mean=0.1234, sd=0.0041, n=6))
    0.123 ± 0.004 (6)
    >>> print(MeanSd(mean=0.1234, sd=math.nan, n=1))
    0.1234 (1)
    """

    mean: float
    """Mean over members."""
    sd: float
    """Standard deviation over members, dividing by n - 1; NaN for a single member."""
    n: int
    """Number of members."""

    def __str__(self) -> str:
        return format(self, "")

    def __format__(self, spec: str) -> str:
        spec = spec or _precision(self.mean, self.sd)
        mean = format(self.mean, spec)
        if self.n == 1:
            return f"{mean} (1)"
        return f"{mean} ± {format(self.sd, spec)} ({self.n})"

    def differs_from(self, other: "MeanSd", *, level: float = 0.05) -> bool:
        r"""Whether two means differ by more than the members' spread explains (Welch's t-test).

        $$t = \frac{\bar a - \bar b}{\sqrt{s_a^2/n_a + s_b^2/n_b}}$$

        Single members have no spread to judge by: the answer is then False, and the two must not
        be ranked. A mean that is not finite differs from nothing.

        **Arguments:**
        - `other`: the same metric, of other members.
        - `level`: how often equal things may be called different.

        **Raises:** `ConfigError` if `level` is not between 0 and 1.

        >>> a, b = MeanSd(mean=0.70, sd=0.01, n=5), MeanSd(mean=0.75, sd=0.01, n=5)
        >>> a.differs_from(b), a.differs_from(MeanSd(mean=0.71, sd=0.01, n=5))
        (True, False)
        """
        _check_probability("level", level)
        if min(self.n, other.n) < 2 or not math.isfinite(self.mean - other.mean):
            return False
        from scipy.stats import t as student  # slow to import, and few need it

        first, second = self.sd**2 / self.n, other.sd**2 / other.n
        if first + second == 0:
            return self.mean != other.mean
        freedom = (first + second) ** 2 / (first**2 / (self.n - 1) + second**2 / (other.n - 1))
        t = abs(self.mean - other.mean) / math.sqrt(first + second)
        return bool(2 * student.sf(t, freedom) < level)

    def detectable_difference(self, *, level: float = 0.05, power: float = 0.8) -> float:
        r"""The smallest true difference that a comparison of two such groups would likely show.

        $$(t_{1-\alpha/2,\,2n-2} + t_{power,\,2n-2})\; s \sqrt{2/n}$$

        for two groups of $n$ members with the standard deviation of this one. Differences below it
        are noise to anyone with so few members. NaN for a single member.

        **Arguments:**
        - `level`: how often equal things may be called different.
        - `power`: how often the difference must be noticed.

        **Raises:** `ConfigError` if a probability is not between 0 and 1.

        >>> round(MeanSd(mean=0.7, sd=0.01, n=5).detectable_difference(), 3)
        0.02
        """
        _check_probability("level", level)
        _check_probability("power", power)
        if self.n < 2:
            return math.nan
        from scipy.stats import t as student

        freedom = 2 * self.n - 2
        quantiles = student.ppf(1 - level / 2, freedom) + student.ppf(power, freedom)
        return float(quantiles * self.sd * math.sqrt(2 / self.n))


def summary(values: Real[Tensor, " member"]) -> MeanSd:
    """Mean and standard deviation (dividing by n - 1) over members.

    A value that is not finite is not dropped: it makes the summary NaN or infinite, because the
    mean over the members that happened to survive is another number.

    **Arguments:**
    - `values`: one number per member.

    **Returns:** their `MeanSd`; its sd is NaN for a single member.

    **Raises:** `DataError` if there is no member.

    >>> import torch
    >>> print(summary(torch.tensor([1.0, 2.0, 3.0])))
    2 ± 1 (3)
    """
    if values.dim() != 1 or not len(values):
        raise DataError(
            f"`values` has shape {list(values.shape)}; expected one number per member, [member], "
            "and at least one member."
        )
    numbers = [float(value) for value in values.detach().tolist()]
    n = len(numbers)
    mean = math.fsum(numbers) / n if all(map(math.isfinite, numbers)) else sum(numbers) / n
    if n == 1:
        return MeanSd(mean=mean, sd=math.nan, n=1)
    sd = math.sqrt(sum((number - mean) ** 2 for number in numbers) / (n - 1))
    return MeanSd(mean=mean, sd=sd, n=n)


def _precision(mean: float, sd: float) -> str:
    """A format that shows the first significant digit of the sd."""
    if not (math.isfinite(mean) and math.isfinite(sd) and sd > 0):
        return ".4g"
    if max(abs(mean), sd) < 1e-3 or max(abs(mean), sd) >= 1e6:
        digits = math.floor(math.log10(max(abs(mean), sd))) - math.floor(math.log10(sd))
        return f".{max(0, digits)}e"
    return f".{max(0, -math.floor(math.log10(sd)))}f"


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"`{name}` is {value}; expected a probability between 0 and 1.")
