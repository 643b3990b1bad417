"""Entries as claims of a report."""

from latent_assay.report import Cell, Column, MetricsTable, Report, Row
from latent_assay.reproductions import Check, Entry, Result
from latent_assay.reproductions.page import sections_of


def pair(name: str, source: str, *checks: Check, **fields) -> tuple[Entry, Result]:
    result = Result(checks=checks, **fields)
    entry = Entry(
        id=name, source=source, title=name, claim="c", setup="s", errors="e",
        run=lambda quick: result,
    )  # fmt: skip
    return entry, result


def readings(direction: str, sd: float | None) -> MetricsTable:
    column = Column(key="m", label="m", direction=direction, definition="")
    rows = tuple(Row(name=n, kind="trained", cells={"m": Cell(mean=1.0, sd=sd, n=6)}) for n in "ab")
    return MetricsTable(title="t", columns=(column,), rows=rows)


HOLDS = Check.true("statement", True)


def test_groups_follow_the_sources():
    pairs = [pair("mine", "mine", HOLDS), pair("beyond-a", "beyond", HOLDS),
             pair("002-a", "002", HOLDS), pair("000-a", "000", HOLDS)]  # fmt: skip
    overview, *groups = sections_of(pairs)
    assert [g.title.split(":")[0] for g in groups] == ["000", "002", "Beyond", "mine"]
    assert overview.groups == tuple(groups)


def test_an_entry_becomes_a_claim():
    checks = (HOLDS, Check.near("number", [1.0, 1.1], 1.0, 0.2))
    _, group = sections_of([pair("002-a", "002", *checks, members=2, note="n")])
    (claim,) = group.claims
    assert (claim.id, claim.errors, claim.note, claim.members) == ("002-a", "e", "n", 2)
    assert [reading.found for reading in claim.readings] == ["holds", "1.050 ± 0.071"]
    assert claim.passed
    (broken,) = sections_of([pair("a", "a", note="broke off")])[1].claims
    assert broken.verdict == "not tested"


def test_only_tables_that_compare_are_ranked():
    tables = (readings("none", 0.1), readings("higher", 0.1), readings("higher", None))
    sections = sections_of([pair("a", "a", HOLDS, sections=tables)])
    (claim,) = sections[1].claims
    assert [figure.ranked for figure in claim.figures] == [False, True, False]
    assert "One member each" not in Report(title="t", sections=sections).to_html()
