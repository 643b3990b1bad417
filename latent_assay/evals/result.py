r"""What every evaluation returns: numbers with their spread, beside baselines, or a reason.

A number alone cannot be judged. Each `Value` therefore knows over how many seeds it was averaged,
how much these differ, which direction is better, and the smallest difference that a comparison of
two such numbers would likely show. Below it, two SAEs are not ranked.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from latent_assay.errors import ConfigError, DataError
from latent_assay.evals.catalogue import evaluation
from latent_assay.metrics.registry import Direction
from latent_assay.metrics.uncertainty import MeanSd, summary

Verdict = Literal["better", "worse", "different", "not distinguishable"]
"""How one number stands to another; `different` where no direction is better."""

_Z = 1.959963984540054 + 0.8416212335729143  # two-sided level .05, power .8


@dataclass(frozen=True, kw_only=True)
class Value:
    """A number over seeds.

    >>> print(Value(mean=0.912, sd=0.004, n=3, direction="higher", resolution=0.012))
    0.912 ± 0.004 (3)
    """

    mean: float
    """Mean over seeds."""
    sd: float
    """Standard deviation over seeds, dividing by n - 1; NaN for a single one."""
    n: int
    """Number of seeds."""
    direction: Direction
    """Which way is better."""
    resolution: float
    """The smallest difference that two such numbers can show; NaN if a single seed tells none."""

    def __str__(self) -> str:
        return str(MeanSd(mean=self.mean, sd=self.sd, n=self.n))

    def against(self, other: "Value") -> Verdict:
        """How this number stands to another of the same metric.

        A difference that does not exceed the coarser of both resolutions, or whose resolution is
        unknown, is "not distinguishable", whichever number is larger.

        **Arguments:**
        - `other`: the same metric of another SAE, of a baseline, or of other settings.

        **Raises:** `ConfigError` if the two do not have the same direction, and so are not the
        same metric.

        >>> a = Value(mean=0.90, sd=0.01, n=3, direction="higher", resolution=0.03)
        >>> b = Value(mean=0.91, sd=0.01, n=3, direction="higher", resolution=0.03)
        >>> c = Value(mean=0.70, sd=0.01, n=3, direction="higher", resolution=0.03)
        >>> a.against(b), a.against(c), c.against(a)
        ('not distinguishable', 'better', 'worse')
        """
        if self.direction != other.direction:
            raise ConfigError(
                f"one number is {self.direction}, the other {other.direction}; they are different "
                "metrics and cannot be compared. Compare values of the same key."
            )
        difference = self.mean - other.mean
        if not abs(difference) > max(self.resolution, other.resolution) or math.isnan(
            self.resolution + other.resolution
        ):
            return "not distinguishable"
        if self.direction == "neutral":
            return "different"
        return "better" if (difference > 0) == (self.direction == "higher") else "worse"


def value(
    values: Sequence[float] | torch.Tensor,
    direction: Direction,
    *,
    standard_error: float = 0.0,
) -> Value:
    r"""Summarise one number per seed.

    The resolution is the smallest true difference between two such numbers that a test at level
    0.05 would find with probability 0.8: from the spread over seeds

    $$ (t_{0.975,\,2n-2} + t_{0.8,\,2n-2})\, s \sqrt{2/n}, $$

    or, where that is larger, $2.80 \sqrt 2$ times the standard error. Seeds that share their test
    samples do not show how much other samples would change a number; `standard_error` does.

    **Arguments:**
    - `values`: one number per seed.
    - `direction`: which way is better.
    - `standard_error`: of the mean, from the finite number of test samples; 0 if unknown.

    **Raises:** `DataError` if there is no value.

    >>> value([0.70, 0.72, 0.71], "higher").n
    3
    """
    numbers = torch.as_tensor(values, dtype=torch.float64)
    mean_sd = summary(numbers)
    spread = mean_sd.detectable_difference()
    sampling = _Z * math.sqrt(2) * standard_error
    if mean_sd.n < 2:
        resolution = sampling if standard_error > 0 else math.nan
    else:
        resolution = max(spread, sampling)
    return Value(
        mean=mean_sd.mean,
        sd=mean_sd.sd,
        n=mean_sd.n,
        direction=direction,
        resolution=resolution,
    )


@dataclass(frozen=True, kw_only=True)
class EvalResult:
    """The numbers of one evaluation of one SAE, or why there are none."""

    name: str
    """The evaluation's name in `EVALUATIONS`."""
    version: int
    """The version of its definition."""
    metrics: Mapping[str, Value] = field(default_factory=dict)
    """Numbers by key: a metric's name, or `name@setting`; empty if not measurable."""
    baselines: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """The same numbers of what an SAE is to be compared with, by the baseline's name."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Whatever explains the numbers, in what JSON has."""
    not_measurable: str | None = None
    """Why there are no numbers, as a sentence; None if there are."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The settings, in what JSON has."""
    seconds: float = 0.0
    """How long it took."""

    def __post_init__(self) -> None:
        definition = evaluation(self.name)
        for key in (*self.metrics, *(key for each in self.baselines.values() for key in each)):
            definition.metric(key)
        if self.not_measurable is None and not self.metrics:
            raise ConfigError(
                f"the result of `{self.name}` has neither numbers nor a reason why there are none; "
                "give `metrics` or `not_measurable`."
            )

    @property
    def headline(self) -> Value | None:
        """The number that stands for the evaluation; None if none may, or it was not measured."""
        key = evaluation(self.name).headline
        return None if key is None else self.metrics.get(key)

    def against(self, other: "EvalResult") -> dict[str, Verdict]:
        """How each number stands to that of another result.

        **Arguments:**
        - `other`: the same evaluation of another SAE. Keys that only one of both has are left out.

        **Raises:** `ConfigError` for another evaluation, another version, or other settings that
        are stored in both (`config`).
        """
        if (self.name, self.version) != (other.name, other.version):
            raise ConfigError(
                f"`{self.name}` version {self.version} and `{other.name}` version {other.version} "
                "do not measure the same; compare results of one evaluation and version."
            )
        changed = [
            key
            for key in self.config
            if key in other.config and self.config[key] != other.config[key]
        ]
        if changed:
            key = changed[0]
            raise ConfigError(
                f"the two results of `{self.name}` were measured with different settings: `{key}` "
                f"is {self.config[key]!r} in one and {other.config[key]!r} in the other. Measure "
                "both with the same."
            )
        return {
            key: each.against(other.metrics[key])
            for key, each in self.metrics.items()
            if key in other.metrics
        }


def measured(
    name: str,
    values: Mapping[str, Sequence[float]],
    *,
    baselines: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    standard_errors: Mapping[str, float] | None = None,
    details: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
) -> EvalResult:
    """A result from plain numbers; directions and version come from the catalogue.

    **Arguments:**
    - `name`: the evaluation.
    - `values`: for each key one number per seed.
    - `baselines`: the same by the baseline's name.
    - `standard_errors`: for a key, the standard error of its mean from finite test samples; used
      for the baselines' values too.
    - `details`, `config`, `seconds`: see `EvalResult`.

    **Raises:** `ConfigError` for a key that the evaluation does not have.

    >>> result = measured("core", {"explained_variance": [0.8, 0.9]})
    >>> print(result.headline)
    0.85 ± 0.07 (2)
    """
    definition = evaluation(name)
    errors = standard_errors or {}

    def summarised(numbers: Mapping[str, Sequence[float]]) -> dict[str, Value]:
        return {
            key: value(each, definition.metric(key).direction, standard_error=errors.get(key, 0.0))
            for key, each in numbers.items()
        }

    return EvalResult(
        name=name,
        version=definition.version,
        metrics=summarised(values),
        baselines={each: summarised(numbers) for each, numbers in (baselines or {}).items()},
        details=details or {},
        config=config or {},
        seconds=seconds,
    )


def not_measurable(
    name: str,
    reason: str,
    *,
    config: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
) -> EvalResult:
    """A result that says why there are no numbers.

    **Arguments:**
    - `name`: the evaluation.
    - `reason`: a sentence for the table, such as "the model's tokenizer has no words".

    >>> not_measurable("core", "the model has no text to read").not_measurable
    'the model has no text to read'
    """
    return EvalResult(
        name=name,
        version=evaluation(name).version,
        not_measurable=reason,
        config=config or {},
        details=details or {},
        seconds=seconds,
    )


def pooled(results: Sequence[EvalResult]) -> EvalResult:
    """One result from those of several SAEs that differ in their training seed alone.

    Each number becomes mean and standard deviation over the SAEs (of their means over evaluation
    seeds), so that its resolution tells what a comparison of two recipes can show, rather than of
    two files.

    **Arguments:**
    - `results`: of one evaluation with the same settings. Those that are not measurable, and keys
      that not all have, are left out.

    **Returns:** the pooled result; not measurable, with the first reason, if no result is. The
    details hold, under `pooled`, how many results went in.

    **Raises:** `DataError` if there is no result, `ConfigError` if they do not belong together.
    """
    if not results:
        raise DataError("there is no result to pool; give one or more.")
    measured_ones = [each for each in results if each.not_measurable is None]
    for each in results[1:]:
        results[0].against(each)  # refuses what does not belong together
    seconds = sum(each.seconds for each in results)
    details = {"pooled": len(measured_ones), "of": len(results)}
    first = results[0]
    if not measured_ones:
        reason = first.not_measurable or ""
        return not_measurable(
            first.name, reason, config=first.config, details=details, seconds=seconds
        )

    def over(columns: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
        return {
            key: value([column[key].mean for column in columns], columns[0][key].direction)
            for key in columns[0]
            if all(key in column for column in columns)
        }

    names = [
        name
        for name in measured_ones[0].baselines
        if all(name in each.baselines for each in measured_ones)
    ]
    return EvalResult(
        name=first.name,
        version=first.version,
        metrics=over([each.metrics for each in measured_ones]),
        baselines={name: over([each.baselines[name] for each in measured_ones]) for name in names},
        details=details,
        config=first.config,
        seconds=seconds,
    )
