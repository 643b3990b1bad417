"""The framework of reproductions: choosing, running, failing, reporting."""

import json
import math

import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.report import Prose
from latent_assay.reproductions import ENTRIES, Check, Entry, Result, chosen, reproduce


def entry(name: str, run) -> Entry:
    return Entry(id=name, source="mine", title=name, claim="c", setup="s", run=run)


def test_checks():
    assert Check.band("a", torch.tensor([1.0, 3.0]), 1.5, 2.5).passed
    assert Check.band("a", [1.0, 3.0], 1.5, 2.5).sd == pytest.approx(math.sqrt(2))
    assert not Check.band("a", 2.6, 1.5, 2.5).passed
    assert not Check.band("a", math.nan, 0, 1).passed
    assert Check.band("a", 5, 1, math.inf).expected == "at least 1"
    assert Check.near("a", 1.001, 1.0, 0.01).passed
    assert not Check.near("a", 1.02, 1.0, 0.01).passed
    assert not Check.true("a", False).passed


def test_a_result_without_checks_has_not_passed():
    assert not Result(checks=()).passed


def test_running_and_failing(tmp_path):
    def good(quick: bool) -> Result:
        figure = Prose(title="Figure", paragraphs=("quick" if quick else "full",))
        check = Check.near("number", [1.0, 1.1], 1.0, 0.2)
        return Result(checks=(check,), members=2, sections=(figure,), note="a note")

    def bad(quick: bool) -> Result:
        return Result(checks=(Check.true("statement", False),))

    def broken(quick: bool) -> Result:
        raise ZeroDivisionError("nothing to divide")

    entries = [entry("good", good), entry("bad", bad), entry("broken", broken)]
    outcome = reproduce(entries, tmp_path, quick=True, progress=False)
    assert outcome.passed == 1
    content = json.loads((tmp_path / "reproductions.json").read_text())
    assert [each["id"] for each in content] == ["good", "bad", "broken"]
    keys = {"id", "source", "claim", "expected", "measured", "sd", "members", "passed", "note"}
    assert all(keys <= set(each) for each in content)
    assert content[0]["measured"] == pytest.approx(1.05)
    assert content[0]["members"] == 2
    assert [each["passed"] for each in content] == [True, False, False]
    assert "ZeroDivisionError: nothing to divide" in content[2]["note"]
    report = json.loads((tmp_path / "report.json").read_text())
    titles = [section["title"] for section in report["sections"]]
    assert titles == ["Overview", "mine"]
    claims = report["sections"][1]["claims"]
    assert [each["id"] for each in claims] == ["good", "bad", "broken"]
    assert [each["verdict"] for each in claims] == ["holds", "does not hold", "not tested"]
    assert [each["title"] for each in claims[0]["figures"]] == ["Figure"]
    assert "1 of 3 claims are reproduced. Not reproduced: bad, broken" in report["summary"]
    page = (tmp_path / "reproductions.md").read_text()
    assert "1 of 3 claims" in page


def test_registered_entries_run_in_processes_of_their_own(tmp_path):
    names = ["000-proposition-1", "001-reconstruction"]
    outcome = reproduce(chosen(names), tmp_path, quick=True, processes=2, progress=False)
    assert list(outcome.results) == names
    assert outcome.passed == 2


def test_choosing():
    assert chosen([]) == list(ENTRIES.values())
    assert [each.source for each in chosen(["001"])] == ["001"] * len(chosen(["001"]))
    assert [each.id for each in chosen(["002-fig-1"])] == ["002-fig-1"]
    with pytest.raises(ConfigError, match=r"no reproduction `002-fig-99`.*Did you mean"):
        chosen(["002-fig-99"])


def test_every_entry_is_told_in_full():
    assert list(ENTRIES) == list(dict.fromkeys(ENTRIES))
    for name, each in ENTRIES.items():
        assert name == each.id
        assert name.startswith(each.source)
        assert each.source in {"000", "001", "002", "003", "004", "beyond"}
        for text in (each.title, each.claim, each.setup):
            assert len(text) > 5
        assert "PROTOCOLS" not in each.claim + each.setup + each.errors


REQUIRED = {
    "000": ["proposition-1", "proposition-2", "corollary", "fig-10", "fig-11"],
    "001": ["lp-norm", "lp-norm-slope"],
    "002": [
        *(f"fig-{n}" for n in (1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 20)),
        "theorem-a4", "corollary-a4-7", "a13",
    ],
    "003": [
        *(f"theorem-{n}" for n in (1, 2, 3, 4)),
        *(f"counterexample-{n}" for n in (1, 2, 3, 4)),
        "example-1", "fig-2a", "fig-2b", "fig-2c", "wsae",
    ],
    "004": ["recap", "excess", "narrow", "orthogonal", "peaks", "cure", "superposition", "single"],
    "beyond": ["balance", "peaks", "single", "basins"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "what"), [(source, what) for source, parts in REQUIRED.items() for what in parts]
)
def test_nothing_is_missing(source, what):
    own = [name for name, each in ENTRIES.items() if each.source == source]
    assert any(what in name for name in own), f"no entry of {source} for {what}: {own}"
