"""Evaluations of several SAEs on a page: numbers with error bars beside baselines, and what may be
said about them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from latent_assay.evals import EVALUATIONS, EvalResult, Value, evaluation
from latent_assay.report.content import Prose
from latent_assay.report.metrics_table import Cell, Column, Direction, MetricsTable, Row

Results = Mapping[str, Mapping[str, EvalResult]]
"""For each SAE its results by evaluation."""

_DIRECTIONS: Mapping[str, Direction] = {"higher": "higher", "lower": "lower", "neutral": "none"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One number of one SAE held against that of another SAE or of a baseline."""

    evaluation: str
    """The evaluation."""
    key: str
    """The number."""
    first: str
    """The SAE."""
    second: str
    """The other SAE, or the baseline."""
    baseline: bool
    """Whether the second is a baseline of the first."""
    difference: float
    """The first one's number less the second one's."""
    resolution: float
    """The smallest difference that can be shown; NaN if unknown."""
    verdict: str
    """"better", "worse", "different" or "not distinguishable"."""

    def sentence(self) -> str:
        """In words."""
        what = f"{evaluation(self.evaluation).title}, {self.key}"
        by = f"{self.difference:+.3g}".replace("-", "−")
        if self.verdict == "not distinguishable":
            if math.isnan(self.resolution):
                return (
                    f"{what}: {self.first} and {self.second} cannot be ranked; a single seed tells "
                    "nothing of the noise."
                )
            return (
                f"{what}: {self.first} and {self.second} are not distinguishable (difference {by}, "
                f"noise {self.resolution:.2g})."
            )
        return (
            f"{what}: {self.first} is {self.verdict} than {self.second} ({by}, noise "
            f"{self.resolution:.2g})."
        ).replace("different than", "different from")

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields; an unknown resolution is null."""
        return {
            "evaluation": self.evaluation,
            "key": self.key,
            "first": self.first,
            "second": self.second,
            "baseline": self.baseline,
            "difference": self.difference,
            "resolution": None if math.isnan(self.resolution) else self.resolution,
            "verdict": self.verdict,
        }


def headline_comparisons(results: Results) -> tuple[Comparison, ...]:
    """The headlines of every two SAEs, and of each with its baselines.

    Evaluations without a headline, such as SCR and TPP, are not compared at all.
    """
    found = []
    for name in _measured(results):
        key = EVALUATIONS[name].headline
        if key is None:
            continue
        headlines = {
            sae: each[name] for sae, each in results.items() if key in _metrics(each, name)
        }
        for a, b in combinations(headlines, 2):
            found.append(
                _compared(
                    name, key, a, b, headlines[a].metrics[key], headlines[b].metrics[key], False
                )
            )
        for sae, result in headlines.items():
            for baseline, values in result.baselines.items():
                if key in values:
                    found.append(
                        _compared(name, key, sae, baseline, result.metrics[key], values[key], True)
                    )
    return tuple(found)


def evaluation_sections(results: Results) -> tuple[Any, ...]:
    """Sections of a report: an overview, what may be said, every number, what has none.

    Evaluations that are known to be unreliable come last, and never into the overview.

    **Arguments:**
    - `results`: for each SAE its results.
    """
    sections: list[Any] = []
    overview = _overview(results)
    if overview is not None:
        sections += [overview, _said(headline_comparisons(results))]
    if missing := _missing(results):
        sections.append(missing)
    names = _measured(results)
    trusted = [name for name in names if EVALUATIONS[name].headline is not None]
    sections += [_table(name, results) for name in trusted]
    sections += [_table(name, results) for name in names if name not in trusted]
    return tuple(sections)


def _compared(
    name: str, key: str, first: str, second: str, a: Value, b: Value, baseline: bool
) -> Comparison:
    return Comparison(
        evaluation=name,
        key=key,
        first=first,
        second=second,
        baseline=baseline,
        difference=a.mean - b.mean,
        resolution=(
            math.nan if math.isnan(a.resolution + b.resolution) else max(a.resolution, b.resolution)
        ),
        verdict=a.against(b),
    )


def _overview(results: Results) -> MetricsTable | None:
    columns, cells = [], {sae: {} for sae in results}  # type: ignore[var-annotated]
    for name in _measured(results):
        key = EVALUATIONS[name].headline
        if key is None:
            continue
        definition = EVALUATIONS[name]
        found = {
            sae: _metrics(each, name)[key]
            for sae, each in results.items()
            if key in _metrics(each, name)
        }
        if not found:
            continue
        columns.append(
            _column(name, key, label=f"{definition.title}: {key}", prefix=f"{name}.", charted=True)
        )
        for sae, each in found.items():
            cells[sae][f"{name}.{key}"] = _cell(each)
    if not columns:
        return None
    rows = [Row(name=sae, kind="trained", cells=found) for sae, found in cells.items()]
    for sae, own in results.items():
        by_baseline: dict[str, dict[str, Cell]] = {}
        for name, result in own.items():
            key = EVALUATIONS[name].headline
            for baseline, values in result.baselines.items():
                if key is not None and key in values:
                    by_baseline.setdefault(baseline, {})[f"{name}.{key}"] = _cell(values[key])
        rows += [
            Row(name=_of(baseline, sae, results), kind="baseline", cells=found)
            for baseline, found in by_baseline.items()
        ]
    return MetricsTable(
        title="At a glance",
        columns=tuple(columns),
        rows=tuple(rows),
        ranked=False,
        sentence=(
            "Mean ± sd over seeds. Arrows say which way is better. What exceeds the noise, and "
            "what does not, is said below."
        ),
    )


def _said(comparisons: Sequence[Comparison]) -> Prose:
    between = [each.sentence() for each in comparisons if not each.baseline]
    beaten = [each.sentence() for each in comparisons if each.baseline and each.verdict != "better"]
    paragraphs = between or ["There is one SAE: nothing to compare it with but its baselines."]
    if beaten:
        paragraphs += ["Not better than a baseline:", *beaten]
    elif any(each.baseline for each in comparisons):
        paragraphs.append("Every headline is better than every one of its baselines.")
    return Prose(title="What may be said", paragraphs=tuple(paragraphs), tone="note")


def _missing(results: Results) -> Prose | None:
    told = [
        f"{EVALUATIONS[name].title}, {sae}: not measurable, because {_clause(reason)}"
        for sae, each in results.items()
        for name, result in each.items()
        if (reason := result.not_measurable) is not None
    ]
    return Prose(title="Not measurable", paragraphs=tuple(told), tone="warning") if told else None


def _clause(reason: str) -> str:
    return reason if reason.endswith((".", "!", "?")) else f"{reason}."


def _table(name: str, results: Results) -> MetricsTable:
    definition = EVALUATIONS[name]
    found = {sae: each[name] for sae, each in results.items() if _metrics(each, name)}
    keys = list(dict.fromkeys(key for each in found.values() for key in each.metrics))
    rows = [
        Row(
            name=sae,
            kind="trained",
            cells={key: _cell(value) for key, value in each.metrics.items()},
            note=f"{each.seconds:.0f} s",
        )
        for sae, each in found.items()
    ]
    for sae, each in found.items():
        for baseline, values in each.baselines.items():
            rows.append(
                Row(
                    name=_of(baseline, sae, found),
                    kind="baseline",
                    cells={key: _cell(value) for key, value in values.items() if key in keys},
                )
            )
    config = next(iter(found.values())).config
    settings = ", ".join(
        f"{key} {value}" for key, value in config.items() if isinstance(value, str | int | float)
    )
    parts = [definition.caveat, f"Version {definition.version}.", settings and f"{settings}."]
    return MetricsTable(
        title=definition.title + (" (known to be unreliable)" if _unreliable(name) else ""),
        columns=tuple(_column(name, key, label=key) for key in keys),
        rows=tuple(rows),
        ranked=False,
        sentence=" ".join(part for part in parts if part),
    )


def _unreliable(name: str) -> bool:
    return EVALUATIONS[name].caveat.startswith("Unreliable")


def _column(name: str, key: str, *, label: str, prefix: str = "", charted: bool = False) -> Column:
    metric = EVALUATIONS[name].metric(key)
    return Column(
        key=prefix + key,
        label=label,
        direction=_DIRECTIONS[metric.direction],
        definition=metric.definition,
        unit="" if metric.unit == "1" else metric.unit,
        charted=charted,
    )


def _cell(value: Value) -> Cell:
    return Cell(mean=value.mean, sd=value.sd if math.isfinite(value.sd) else None, n=value.n)


def _of(baseline: str, sae: str, results: Mapping[str, Any]) -> str:
    return baseline if len(results) == 1 else f"{baseline} for {sae}"


def _metrics(results: Mapping[str, EvalResult], name: str) -> Mapping[str, Value]:
    return results[name].metrics if name in results else {}


def _measured(results: Results) -> list[str]:
    """Evaluations of which at least one SAE has numbers, in the catalogue's order."""
    return [name for name in EVALUATIONS if any(_metrics(each, name) for each in results.values())]
