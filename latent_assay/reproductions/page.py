"""Entries and results as sections of a report."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from latent_assay.report import Cell, Column, MetricsTable, Prose, Row
from latent_assay.reproductions.entry import Entry, Result

_COLUMNS = (
    Column(key="expected_checks", label="checks", direction="none", digits=0,
           definition="Numbers held against what they should be."),
    Column(key="passed_checks", label="passed", direction="none", digits=0,
           definition="How many of them are as they should be."),
    Column(key="members", label="members", direction="none", digits=0,
           definition="Seeds behind each number; 1 for a closed form."),
)  # fmt: skip


def summary_of(pairs: Sequence[tuple[Entry, Result]]) -> str:
    """How many claims hold, and which do not."""
    failed = [entry.id for entry, result in pairs if not result.passed]
    told = f"{len(pairs) - len(failed)} of {len(pairs)} claims are reproduced."
    if failed:
        told += f" Not reproduced: {', '.join(failed)}; each says below what was found instead."
    return told


def sections_of(pairs: Sequence[tuple[Entry, Result]]) -> tuple[Any, ...]:
    """An overview, then every entry with its numbers and figures."""
    sections: list[Any] = [
        MetricsTable(
            title="Overview",
            columns=_COLUMNS,
            rows=tuple(
                Row(
                    name=f"{'✓' if result.passed else '✗'} {entry.id}",
                    kind="trained",
                    note=entry.title,
                    cells={
                        "expected_checks": Cell(mean=float(len(result.checks))),
                        "passed_checks": Cell(mean=float(sum(c.passed for c in result.checks))),
                        "members": Cell(mean=float(result.members)),
                    },
                )
                for entry, result in pairs
            ),
        )
    ]
    for entry, result in pairs:
        sections.append(_entry(entry, result))
        for figure in result.sections:
            sections.append(replace(figure, title=f"{entry.id}: {figure.title}"))
    return tuple(sections)


def _entry(entry: Entry, result: Result) -> Prose:
    lines = [f"Claim. {entry.claim}", f"Set-up. {entry.setup}"]
    if entry.errors:
        lines.append(f"In the source. {entry.errors}")
    for check in result.checks:
        spread = "" if check.sd is None else f" ± {check.sd:.2g}"
        mark = "✓" if check.passed else "✗"
        lines.append(
            f"{mark} {check.name}: {check.measured:.4g}{spread} (expected: {check.expected})"
        )
    if result.note:
        lines.append(f"Note. {result.note}")
    return Prose(
        title=f"{'✓' if result.passed else '✗'} {entry.id} — {entry.title}",
        paragraphs=tuple(lines),
        tone="plain" if result.passed else "warning",
    )
