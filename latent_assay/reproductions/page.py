"""Entries and results as sections of a report."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from latent_assay.report import Claim, ClaimGroup, ClaimOverview, MetricsTable, Reading
from latent_assay.reproductions.entry import Check, Entry, Result

SOURCES = {
    "000": "A is for Absorption: the proof and its toy models",
    "001": "Sparsity is the enemy of feature extraction (ft. absorption)",
    "002": "Feature Hedging",
    "003": "On the Theoretical Understanding of Identifiable Sparse Autoencoders",
    "004": "Broken Latents",
    "beyond": "Beyond: open questions that these name, answered",
}
"""A source's number → its title; other sources stand under their own name, behind these."""


def summary_of(pairs: Sequence[tuple[Entry, Result]]) -> str:
    """How many claims hold, and which do not."""
    failed = [entry.id for entry, result in pairs if not result.passed]
    told = f"{len(pairs) - len(failed)} of {len(pairs)} claims are reproduced."
    if failed:
        told += f" Not reproduced: {', '.join(failed)}; each says below what was found instead."
    return told


def sections_of(pairs: Sequence[tuple[Entry, Result]]) -> tuple[Any, ...]:
    """An overview, then a section for each source: its entries with their numbers and figures."""
    groups = tuple(
        ClaimGroup(
            title=title_of(source),
            claims=tuple(_claim(*pair) for pair in pairs if pair[0].source == source),
        )
        for source in sources_of(pairs)
    )
    return (ClaimOverview(groups=groups), *groups)


def sources_of(pairs: Sequence[tuple[Entry, Result]]) -> list[str]:
    """The sources of some entries, in the order in which a page shows them."""
    sources = dict.fromkeys(entry.source for entry, _ in pairs)
    order = [source for source in SOURCES if source in sources]
    return order + [source for source in sources if source not in SOURCES]


def title_of(source: str) -> str:
    """A source's heading."""
    if source not in SOURCES:
        return source
    return f"{source}: {SOURCES[source]}" if source.isdigit() else SOURCES[source]


def _claim(entry: Entry, result: Result) -> Claim:
    return Claim(
        id=entry.id,
        title=entry.title,
        claim=entry.claim,
        setup=entry.setup,
        errors=entry.errors,
        readings=tuple(_reading(check) for check in result.checks),
        note=result.note,
        members=result.members,
        figures=tuple(_figure(section) for section in result.sections),
    )


def _reading(check: Check) -> Reading:
    statement = check.expected == "holds"
    return Reading(
        name=check.name,
        expected=check.expected,
        measured=None if statement else check.measured,
        sd=check.sd,
        passed=check.passed,
    )


def _figure(section: Any) -> Any:
    if isinstance(section, MetricsTable) and not _competes(section):
        return replace(section, ranked=False)
    return section


def _competes(table: MetricsTable) -> bool:
    """Whether some column says which way is better, and how much of a difference is noise."""
    keys = [column.key for column in table.columns if column.direction != "none"]
    cells = [row.cells[key] for row in table.rows for key in keys if key in row.cells]
    return any(cell.sd is not None for cell in cells)
