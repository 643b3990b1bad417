"""The report of a grid: every SAE in a table and in curves, a few of them in full."""

import json
import tomllib

import pytest

from latent_assay.runs import train
from latent_assay.runs.config import parse_config, read_config

GRID = """
title = "a grid"
[world]
preset = "absorption"
samples = 500
[training]
steps = 6
batch_size = 32
log_every = 3
[[grid]]
name = "T"
recipe = "topk"
seeds = [0, 1]
[grid.over]
width = [4, 6]
k = [1, 2, 3, 4]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid") / "run"
    train(parse_config(tomllib.loads(GRID)), folder, progress=False)
    return folder


def sections(folder):
    return json.loads((folder / "report.json").read_text())["sections"]


def test_every_sae_is_in_the_table_and_in_the_curves(run):
    found = sections(run)
    names = [f"T width {width} k {k}" for width in (4, 6) for k in (1, 2, 3, 4)]
    (table,) = [each for each in found if each["title"].startswith("What they do")]
    rows = {row["name"]: row for row in table["rows"]}
    assert [name for name, row in rows.items() if row["kind"] == "trained"] == names
    against = {each["title"]: each for each in found if "against" in each["title"]}
    assert list(against) == ["T: against width", "T: against k"]
    (curve,) = [c for c in against["T: against k"]["curves"] if c["metric"] == "fvu"]
    assert [series["name"] for series in curve["series"]] == ["T width 4", "T width 6"]
    series = curve["series"][0]
    assert series["steps"] == [1, 2, 3, 4]
    assert series["members"] == 2
    for k, mean, low, high in zip(
        (1, 2, 3, 4), series["mean"], series["low"], series["high"], strict=True
    ):
        cell = rows[f"T width 4 k {k}"]["cells"]["fvu/v1"]
        assert mean == pytest.approx(cell["mean"])
        assert low <= mean <= high
        assert cell["n"] == 2


def test_few_are_shown_in_full_and_the_page_says_which(run):
    found = sections(run)
    assert found[0]["title"] == "What is on this page"
    (maps,) = [each for each in found if each["kind"] == "cosine_maps"]
    shown = [each["name"] for each in maps["maps"]]
    assert len(shown) == 4
    assert ", ".join(shown) in found[0]["paragraphs"][0]
    (table,) = [each for each in found if each["title"].startswith("What they do")]
    permuted = [row["name"] for row in table["rows"] if row["name"].endswith("permuted")]
    assert permuted == [f"{name}, decoder permuted" for name in shown]
    page = (run / "report.html").read_text()
    assert 'class="field filter"' in page
    assert 'class="fold"' in page


def test_what_is_shown_can_be_chosen_without_training_again(run):
    content = tomllib.loads(GRID) | {"browse": ["T width 6 k 2"]}
    before = {path: path.read_bytes() for path in run.rglob("*.safetensors")}
    train(parse_config(content), run, progress=False)
    (maps,) = [each for each in sections(run) if each["kind"] == "cosine_maps"]
    assert [each["name"] for each in maps["maps"]] == ["T width 6 k 2"]
    assert read_config(run / "config.json").browse == ("T width 6 k 2",)
    assert {path: path.read_bytes() for path in run.rglob("*.safetensors")} == before


def test_one_folder_for_each_setting(run):
    folders = sorted(path.name for path in (run / "saes").iterdir())
    assert folders == [f"t-width-{width}-k-{k}" for width in (4, 6) for k in (1, 2, 3, 4)]
    members = sorted(path.name for path in (run / "saes" / folders[0]).iterdir())
    assert members == ["member_000", "member_001"]
