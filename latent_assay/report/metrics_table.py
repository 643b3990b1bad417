"""The table of metrics, which ranks only what the noise allows to be ranked."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scipy.special import stdtrit

from latent_assay.errors import ConfigError

Direction = Literal["higher", "lower", "none"]
Kind = Literal["trained", "baseline", "oracle"]
Verdict = Literal["best", "no better than a baseline", ""]

KINDS: tuple[Kind, ...] = ("trained", "baseline", "oracle")
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric of one row."""

    mean: float | int | None
    """Mean over members; `None` where the metric is not defined."""
    sd: float | int | None = None
    """Standard deviation over members; `None` when it is unknown, as with one member."""
    n: int = 1
    """How many members."""

    @classmethod
    def over(cls, members: Iterable[float]) -> "Cell":
        """The cell of a metric measured once per member; members without a value are left out.

        >>> Cell.over([1.0, 3.0])
        Cell(mean=2.0, sd=1.4142135623730951, n=2)
        """
        values = [float(v) for v in members if math.isfinite(v)]
        if not values:
            return cls(mean=None, sd=None, n=0)
        mean = math.fsum(values) / len(values)
        if len(values) == 1:
            return cls(mean=mean, sd=None, n=1)
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
        return cls(mean=mean, sd=sd, n=len(values))

    @property
    def known(self) -> bool:
        """Whether there is a finite mean."""
        return self.mean is not None and math.isfinite(self.mean)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric."""

    key: str
    """Its name in the JSON."""
    label: str
    """Its name in the table."""
    direction: Direction
    """Which way is better; `none` for a description such as L0, which is never ranked."""
    definition: str
    """What it measures and how to read it, in a sentence or two."""
    unit: str = ""
    """Shown beside the label, as in "nats"."""
    digits: int = 3
    """Decimals shown."""
    charted: bool = False
    """Whether a chart of this metric stands below the table."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One SAE (all its members) or one baseline."""

    name: str
    """As it appears in every section of the report."""
    kind: Kind
    """Trained, a null baseline, or the oracle that knows the true features."""
    cells: Mapping[str, Cell]
    """A column's key → the measurement; a missing key is shown as a dash."""
    note: str = ""
    """A few words below the name, such as the width."""


@dataclass(frozen=True, kw_only=True)
class MetricsTable:
    """Metrics of trained SAEs beside baselines and the oracle, as mean ± sd over members."""

    title: str
    """The section's heading."""
    columns: tuple[Column, ...]
    """The metrics."""
    rows: tuple[Row, ...]
    """What was measured; shown trained first, then baselines, then the oracle."""
    sentence: str = ""
    """What the table shows."""
    ranked: bool = True
    """Whether rows compete; a table that only describes says nothing about better or worse."""
    kind: str = field(default="metrics_table", init=False)

    def __post_init__(self) -> None:
        keys = [column.key for column in self.columns]
        unknown = sorted({key for row in self.rows for key in row.cells} - set(keys))
        if unknown or len(set(keys)) != len(keys):
            raise ConfigError(
                f"the table '{self.title}' needs one column for each key, but its rows hold "
                f"{unknown or 'nothing more'} besides the columns {keys}. Add the columns or "
                "drop the cells, and give every column a key of its own."
            )

    def verdicts(self, column: Column) -> list[Verdict]:
        r"""What may be said about each row of one column, in the rows' order.

        `best`: this trained row beats every other trained row *and* every baseline by more
        than the noise $t_{1-\alpha/2m,\,\nu}\,\sqrt{s_a^2/n_a + s_b^2/n_b}$, with Welch's
        degrees of freedom $\nu$, $\alpha = 5\,\%$, and $m$ the number of rows it must beat.
        A trained row of unknown sd is never ranked. A baseline of unknown sd counts as exact.

        `no better than a baseline`: a trained row whose mean does not exceed that of some
        baseline by more than $\sqrt{s_a^2 + s_b^2}$, by which one member of each is expected to
        differ anyway. An unknown sd counts as 0 here.

        Where nothing is `ranked`, nothing is said.

        **Reference:** Welch 1947, with Bonferroni's correction.
        """
        verdicts: list[Verdict] = [""] * len(self.rows)
        if column.direction == "none" or not self.ranked:
            return verdicts
        sign = 1.0 if column.direction == "higher" else -1.0
        cells = [row.cells.get(column.key, Cell(mean=None)) for row in self.rows]
        known = [i for i, cell in enumerate(cells) if cell.known]
        trained = [i for i in known if self.rows[i].kind == "trained"]
        null = [i for i in known if self.rows[i].kind == "baseline"]

        def lead(i: int, j: int) -> float:
            return sign * (_mean(cells[i]) - _mean(cells[j]))

        for i in trained:
            if any(lead(i, j) <= math.hypot(_sd(cells[i]), _sd(cells[j])) for j in null):
                verdicts[i] = "no better than a baseline"
        if trained:
            top = max(trained, key=lambda i: sign * _mean(cells[i]))
            rivals = [i for i in trained if i != top] + null
            noise = [
                _noise(cells[top], cells[j], len(rivals), exact=self.rows[j].kind == "baseline")
                for j in rivals
            ]
            if rivals and all(lead(top, j) > n for j, n in zip(rivals, noise, strict=True)):
                verdicts[top] = "best"
        return verdicts

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields; each row's cells carry the verdict of `verdicts`."""
        verdicts = {column.key: self.verdicts(column) for column in self.columns}
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "ranked": self.ranked,
            "columns": [
                {
                    "key": c.key,
                    "label": c.label,
                    "direction": c.direction,
                    "definition": c.definition,
                    "unit": c.unit,
                }
                for c in self.columns
            ],
            "rows": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "note": row.note,
                    "cells": {
                        key: {
                            "mean": cell.mean,
                            "sd": cell.sd,
                            "n": cell.n,
                            "verdict": verdicts[key][i],
                        }
                        for key, cell in row.cells.items()
                    },
                }
                for i, row in enumerate(self.rows)
            ],
        }


def _mean(cell: Cell) -> float:
    assert cell.mean is not None  # only asked of known cells
    return cell.mean


def _sd(cell: Cell) -> float:
    return cell.sd if cell.sd is not None and math.isfinite(cell.sd) else 0.0


def _noise(a: Cell, b: Cell, comparisons: int, *, exact: bool) -> float:
    """The difference that chance alone may make; infinite if an sd is unknown.

    `exact`: whether an unknown sd of `b` stands for no spread at all.
    """
    unknown = [cell for cell in (a, b) if cell.sd is None or not math.isfinite(cell.sd)]
    if unknown and not (exact and unknown == [b]):
        return math.inf
    parts = [(_sd(cell) ** 2 / max(cell.n, 1), cell.n) for cell in (a, b) if _sd(cell)]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return 0.0
    freedom = variance**2 / sum(part**2 / max(n - 1, 1) for part, n in parts)
    level = 1 - (1 - CONFIDENCE) / (2 * max(comparisons, 1))
    return float(stdtrit(freedom, level)) * math.sqrt(variance)
