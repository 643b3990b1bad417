"""The harness of the benchmarks: turns, tables, and what happens when a peer cannot be had."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import run as command
from benchmarks.bench import Bench, label, series
from benchmarks.cases import gpu
from benchmarks.contest import Contender, Outcome, contest
from benchmarks.environments import Environments, Unavailable, sizes_mb
from benchmarks.machine import machine, versions
from benchmarks.run import CASES, arguments, run
from benchmarks.table import Report, Row, Section, Series, Target, number
from benchmarks.worker import fastest

FAKE = """
import os
from pathlib import Path
print("a library that prints while it is imported")
from benchmarks.worker import Harness, timed_batches
harness = Harness()
print("a library that prints")  # must not reach the pipe
log = Path(harness.settings["log"])
name = harness.settings["name"]
stream = timed_batches(harness, iter(range(10**9)), warm_up=3, seconds=0.0,
                       facts=lambda: {"version": "1.2", "process": os.getpid()})
for batch in stream:
    with log.open("a") as file:
        file.write(f"{name} {batch}\\n")
    if harness.settings.get("dies_at") == batch:
        raise SystemExit("no more")
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    (tmp_path / "fake_worker.py").write_text(FAKE)
    root = str(Path(command.__file__).resolve().parent.parent)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    return tmp_path / "log"


def contender(name, log, **others):
    settings = {"log": str(log), "name": name, **others}
    side = "ours" if name == "ours" else "fake"
    return Contender(name=name, side=side, module="fake_worker", settings=settings)


ENVIRONMENTS = Environments({"fake": Path(sys.executable)})


def test_contenders_take_turns(fake):
    outcomes = contest(
        [contender("ours", fake), contender("theirs", fake)], ENVIRONMENTS, repetitions=3
    )
    assert all(len(each.values["ms"]) == 3 for each in outcomes.values())
    assert not any(each.missing for each in outcomes.values())
    steps = [line.split() for line in fake.read_text().splitlines()]
    per_repetition = outcomes["ours"].facts["steps_per_repetition"]
    assert per_repetition == 2
    # set-up of each, five batches, and then two at a time in turn
    assert [name for name, _ in steps] == (["ours"] * 5 + ["theirs"] * 5) + (
        ["ours"] * 2 + ["theirs"] * 2
    ) * 3
    assert [int(b) for name, b in steps if name == "ours"] == list(range(11))


def test_fresh_processes(fake):
    seen = []
    for _ in range(2):
        outcome = contest([contender("ours", fake)], ENVIRONMENTS, repetitions=1, fresh=True)
        seen.append(outcome["ours"].facts["process"])
    assert len(set(seen)) == 2
    fake.unlink()
    outcome = contest([contender("ours", fake)], ENVIRONMENTS, repetitions=2, fresh=True, discard=1)
    assert len(outcome["ours"].values["ms"]) == 2
    assert len(fake.read_text().splitlines()) == 3 * 7


def test_who_fails_is_missing_and_the_others_go_on(fake, capsys):
    outcomes = contest(
        [contender("ours", fake), contender("theirs", fake, dies_at=6)],
        ENVIRONMENTS,
        repetitions=3,
    )
    assert outcomes["theirs"].missing == "not measured: it failed"
    assert series(outcomes["theirs"], "ms") is None
    assert len(series(outcomes["ours"], "ms").values) == 3
    assert "no more" in capsys.readouterr().err


def test_a_peer_that_cannot_be_installed_is_missing(fake, monkeypatch):
    def fails(self, side, environment):
        raise Unavailable(f"{side} could not be installed")

    monkeypatch.setattr(Environments, "_install", fails)
    empty = Environments({}, folder=fake.parent / "peers")
    outcomes = contest([contender("ours", fake), contender("theirs", fake)], empty, repetitions=1)
    assert outcomes["theirs"].missing == "not measured: fake could not be installed"
    assert not outcomes["ours"].missing


def row(**others):
    values = {
        "name": "step",
        "unit": "ms",
        "more_is_better": False,
        "ours": Series((20.0, 10.0, 12.0)),
        "peer": Series((60.0, 36.0, 30.0)),
        "peer_name": "peer 1.0",
        "floor": Series((6.0,)),
    }
    return Row(**values | others)


def test_row_compares_medians():
    times = row()
    assert times.ratio == 3
    assert times.above_floor == 2
    assert times.peer_above_floor == 6
    rates = row(more_is_better=True, floor=Series((24.0,)))
    assert rates.ratio == pytest.approx(1 / 3)
    assert rates.above_floor == 2
    assert row(peer=None).ratio is None


@pytest.mark.parametrize(
    ("targets", "met"),
    [
        ((), None),
        ((Target(of="ratio", at_least=3),), True),
        ((Target(of="ratio", at_least=3.1),), False),
        ((Target(of="floor", at_most=2),), True),
        ((Target(of="value", at_least=13), Target(of="ratio", at_least=2)), False),
    ],
)
def test_targets(targets, met):
    assert row(targets=targets).met is met


def test_a_target_without_its_number_is_neither_met_nor_missed():
    assert row(peer=None, targets=(Target(of="ratio", at_least=1),)).met is None


def test_page_and_json():
    lost = row(ours=None, peer=None, floor=None, missing="not measured: no GPU", targets=())
    section = Section(
        case="step",
        title="A step",
        note="A note.",
        rows=[row(targets=(Target(of="ratio", at_least=4),)), lost],
    )
    report = Report(
        machine=machine(),
        versions=versions(),
        repetitions=3,
        command="make bench",
        sections=[section],
    )
    page = report.markdown()
    assert (
        "| step | ms | 12 (10 to 20) | peer 1.0 | 36 (30 to 60) | 3 × | 6 | 2 × | 6 × | ratio ≥ 4 "
        "| **no** |" in page
    )
    assert page.count("not measured: no GPU") == 2
    assert "0 met, 1 missed, 0 not measured" in page
    read = json.loads(report.as_json())
    assert read["sections"][0]["rows"][0]["ours"]["values"] == [20.0, 10.0, 12.0]
    assert read["sections"][0]["rows"][0]["met"] is False
    assert read["sections"][0]["rows"][1]["ours"] is None
    # columns that no row fills are left out
    assert "floor" not in Section(case="", title="", note="", rows=[lost]).markdown()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.001234, "0.00123"),
        (1.239, "1.24"),
        (99.96, "100"),
        (1234.4, "1234"),
        (12_345.0, "12.3 k"),
        (2_500_000.0, "2.50 M"),
        (3e9, "3 G"),
    ],
)
def test_three_digits(value, text):
    assert number(value) == text


def test_fastest_leaves_out_what_fails(capsys):
    import time

    def broken():
        raise RuntimeError("not here")

    assert fastest({"slow": lambda: time.sleep(0.02), "fast": int, "broken": broken}) == "fast"
    with pytest.raises(RuntimeError, match="not here"):
        fastest({"broken": broken})


def test_run_writes_what_it_prints(tmp_path, capsys):
    def case(bench: Bench) -> Section:
        assert bench.repetitions == 2
        return Section(case="one", title="One", note="", rows=[row()])

    def never(bench: Bench) -> Section:
        raise AssertionError("not asked for")

    words = ["--only", "one", "--repetitions", "2", "--out", str(tmp_path / "new")]
    run(words, {"one": case, "two": never}, "python -m benchmarks.run")
    page = (tmp_path / "new" / "bench.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == page.strip()
    assert str(tmp_path) not in page
    assert "`python -m benchmarks.run --only one --repetitions 2`" in page
    read = json.loads((tmp_path / "new" / "bench.json").read_text(encoding="utf-8"))
    assert [each["case"] for each in read["sections"]] == ["one"]


def test_a_case_that_breaks_off_takes_nothing_with_it(capsys):
    def breaks(bench: Bench) -> Section:
        raise ValueError("a mistake in the case")

    def case(bench: Bench) -> Section:
        return Section(case="one", title="One", note="", rows=[row()])

    report = run([], {"bad": breaks, "one": case}, "bench")
    assert report.failed == ["bad"]
    printed = capsys.readouterr()
    assert "- Broke off: bad." in printed.out
    assert "## One" in printed.out
    assert "a mistake in the case" in printed.err


def test_words_of_the_command_line(capsys):
    assert arguments([], list(CASES)).repetitions == 5
    with pytest.raises(SystemExit):
        arguments(["--only", "nothing"], list(CASES))
    with pytest.raises(SystemExit):
        arguments(["--peer", "sae-lens"], list(CASES))
    assert "NAME=PYTHON" in capsys.readouterr().err


def test_without_a_gpu_every_row_says_so(monkeypatch):
    monkeypatch.setattr(gpu, "has_gpu", lambda: False)
    section = gpu.measure(Bench(environments=ENVIRONMENTS))
    # four widths of three recipes, and sparsify beside TopK
    assert len(section.rows) == 16
    assert {each.missing for each in section.rows} == {"not measured: no GPU"}
    assert sum(bool(each.targets) for each in section.rows) == 3


def test_label_names_version_and_variant():
    assert label("peer", None) == "peer"
    assert label("peer", Outcome(facts={"version": "1.2", "variant": "plain"})) == "peer 1.2"
    sparse = Outcome(facts={"version": "1.2", "variant": "sparse"})
    assert label("peer", sparse) == "peer 1.2, sparse"


def test_sizes_are_read_from_records(tmp_path):
    (tmp_path / "thing.py").write_bytes(b"x" * 1000)
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (info / "RECORD").write_text("thing.py,,\ngone.py,,\n")
    assert sizes_mb(tmp_path) == {"thing": pytest.approx(0.001)}


def test_committed_page_is_the_printed_one():
    """The table and its JSON come from one run."""
    folder = Path(command.__file__).parent / "results"
    pages = sorted(each.name for each in folder.glob("bench.*"))
    assert pages in ([], ["bench.json", "bench.md"])
    if pages:
        page = (folder / "bench.md").read_text(encoding="utf-8")
        read = json.loads((folder / "bench.json").read_text(encoding="utf-8"))
        for section in read["sections"]:
            assert f"## {section['title']}\n" in page
