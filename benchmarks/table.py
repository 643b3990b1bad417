"""Tables of measurements: median, range, ratio, floor, target; as markdown and as JSON."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

Of = Literal["ratio", "floor", "value"]


@dataclass(frozen=True)
class Series:
    """The repetitions of one measurement."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    def __str__(self) -> str:
        if min(self.values) == max(self.values):
            return number(self.median)
        return f"{number(self.median)} ({number(min(self.values))} to {number(max(self.values))})"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a row is to reach."""

    of: Of
    """Of the ratio to the peer, of the multiple of the floor, or of our own number."""
    at_least: float | None = None
    """Met from here on."""
    at_most: float | None = None
    """Met up to here."""

    def met(self, value: float) -> bool:
        """Whether a number reaches it."""
        return (self.at_least is None or value >= self.at_least) and (
            self.at_most is None or value <= self.at_most
        )

    def __str__(self) -> str:
        what = {"ratio": "ratio ", "floor": "above the floor ", "value": ""}[self.of]
        bounds = [("≥", self.at_least), ("≤", self.at_most)]
        return what + ", ".join(f"{sign} {number(b)}" for sign, b in bounds if b is not None)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: what we reach, what the peer reaches, and what forbids more."""

    name: str
    """What was measured."""
    unit: str
    """Of all numbers in it."""
    more_is_better: bool
    """True for rates, false for times and sizes."""
    ours: Series | None = None
    """Our repetitions."""
    peer: Series | None = None
    """The peer's."""
    peer_name: str = ""
    """Who that is."""
    floor: Series | None = None
    """The arithmetic that cannot be left out, done alone in the same run; see the section."""
    targets: tuple[Target, ...] = ()
    """What is to be reached."""
    missing: str = ""
    """Why a number is not there."""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer, by medians."""
        if self.ours is None or self.peer is None:
            return None
        ours, peer = self.ours.median, self.peer.median
        return ours / peer if self.more_is_better else peer / ours

    @property
    def above_floor(self) -> float | None:
        """How many times worse than the floor we are, by medians."""
        return self._above_floor(self.ours)

    @property
    def peer_above_floor(self) -> float | None:
        """How many times worse than the floor the peer is, by medians."""
        return self._above_floor(self.peer)

    @property
    def met(self) -> bool | None:
        """Whether every target is reached; None without a target or without its number."""
        numbers = {
            "ratio": self.ratio,
            "floor": self.above_floor,
            "value": self.ours.median if self.ours else None,
        }
        verdicts = []
        for target in self.targets:
            value = numbers[target.of]
            if value is None:
                return None
            verdicts.append(target.met(value))
        return all(verdicts) if verdicts else None

    def _above_floor(self, series: Series | None) -> float | None:
        if series is None or self.floor is None:
            return None
        value, floor = series.median, self.floor.median
        return floor / value if self.more_is_better else value / floor

    def as_json(self) -> dict[str, Any]:
        """Everything, the single repetitions included."""
        plain = dataclasses.asdict(self)
        for name in ("ours", "peer", "floor"):
            series: Series | None = getattr(self, name)
            plain[name] = series and {
                "median": series.median,
                "min": min(series.values),
                "max": max(series.values),
                "values": list(series.values),
            }
        return plain | {
            "ratio": self.ratio,
            "above_floor": self.above_floor,
            "peer_above_floor": self.peer_above_floor,
            "met": self.met,
        }


@dataclass(frozen=True, kw_only=True)
class Section:
    """The table of one case."""

    case: str
    """Its name on the command line."""
    title: str
    """Its heading."""
    note: str
    """What was done, and what the floor is."""
    rows: Sequence[Row]
    """Its lines."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the workers said of themselves; in the JSON only."""

    def markdown(self) -> str:
        """Heading, note and table; columns without any entry are left out."""
        columns = [
            (head, cells)
            for head, cell in _COLUMNS
            if any(cells := [cell(row) for row in self.rows])
        ]
        lines = [
            "| " + " | ".join(head for head, _ in columns) + " |",
            "|" + "---|" * len(columns),
            *(
                "| " + " | ".join(cells[i] or "–" for _, cells in columns) + " |"
                for i in range(len(self.rows))
            ),
        ]
        return "\n".join([f"## {self.title}", "", self.note, "", *lines]) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "case": self.case,
            "title": self.title,
            "note": self.note,
            "rows": [row.as_json() for row in self.rows],
            "facts": self.facts,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """All tables of one run."""

    machine: dict[str, Any]
    """On what."""
    versions: dict[str, str]
    """With what."""
    repetitions: int
    """How often each was measured."""
    command: str
    """How to have it again."""
    sections: Sequence[Section]
    """The tables."""
    failed: Sequence[str] = ()
    """Cases that broke off, so that their tables are not here."""

    def markdown(self) -> str:
        """The page."""
        m = self.machine
        rows = [row for section in self.sections for row in section.rows]
        missed = [row for row in rows if row.met is False]
        head = [
            "# Benchmarks",
            "",
            f"Printed by `{self.command}`: {self.repetitions} repetitions after a warm-up, ours "
            "and theirs in turn, each in a process of its own. Numbers are medians, with the "
            "smallest and the largest; ratios are ratios of medians, above 1 where we are better.",
            "",
            f"- Machine: {m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']} "
            f"{m['architecture']}; load before the start {m['load_before']}.",
            "- Versions: " + ", ".join(f"{name} {v}" for name, v in self.versions.items()) + ".",
            f"- Targets: {sum(row.met is True for row in rows)} met, {len(missed)} missed, "
            f"{sum(bool(row.targets) and row.met is None for row in rows)} not measured.",
            *([f"- Broke off: {', '.join(self.failed)}."] if self.failed else []),
            "",
        ]
        return "\n".join(head) + "\n" + "\n".join(each.markdown() for each in self.sections)

    def as_json(self) -> str:
        """The same for programs, with every repetition."""
        return json.dumps(
            {
                "command": self.command,
                "repetitions": self.repetitions,
                "machine": self.machine,
                "versions": self.versions,
                "failed": list(self.failed),
                "sections": [each.as_json() for each in self.sections],
            },
            indent=1,
        )


def number(value: float) -> str:
    """Three digits that count, with a k or an M for thousands and millions."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            divided = value / (1e3 if letter == " k" else size)
            return _three(divided) + letter
    return _three(value)


def _three(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text and float(text).is_integer() else text


def _times(value: float | None) -> str:
    return "" if value is None else f"{_three(value)} ×"


def _series(value: Series | None, missing: str) -> str:
    return missing if value is None else str(value)


_COLUMNS: list[tuple[str, Callable[[Row], str]]] = [
    ("what", lambda row: row.name),
    ("unit", lambda row: row.unit),
    ("ours", lambda row: _series(row.ours, row.missing)),
    ("peer", lambda row: row.peer_name),
    ("theirs", lambda row: _series(row.peer, row.missing if row.peer_name else "")),
    ("ratio", lambda row: _times(row.ratio)),
    ("floor", lambda row: _series(row.floor, "")),
    ("above the floor", lambda row: _times(row.above_floor)),
    ("theirs above it", lambda row: _times(row.peer_above_floor)),
    ("target", lambda row: "; ".join(map(str, row.targets))),
    ("met", lambda row: {True: "yes", False: "**no**", None: ""}[row.met]),
]
