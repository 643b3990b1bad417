"""From a run's folder to advice, in a world whose L0 and number of features are known."""

import json
import tomllib

import pytest
from click.testing import CliRunner

from latent_assay.cli import main
from latent_assay.errors import ConfigError, DataError, FormatError
from latent_assay.runs import train
from latent_assay.runs.choosing import choose_from_run
from latent_assay.runs.config import parse_config

# twelve independent features, of which 11 * .25 + .2 = 2.95 fire
WORLD = """
title = "a world of known L0"
[world]
preset = "hedging_independent"
n_features = 12
d_in = 16
samples = 1_000
[training]
steps = 300
batch_size = 128
lr_decay_steps = 100
[[grid]]
name = "sparsity"
recipe = "batchtopk"
width = 12
lr = 1e-2
dead_after = 5_000
seeds = [0, 1, 2, 3]
[grid.over]
k = [2, 3, 4, 6]
[[grid]]
name = "widths"
recipe = "batchtopk"
k = 3
lr = 1e-2
dead_after = 5_000
seeds = [0, 1, 2, 3]
[grid.over]
width = [6, 12, 24]
"""

OTHERS = """
title = "other axes"
[world]
preset = "absorption"
d_in = 8
samples = 400
[training]
steps = 4
batch_size = 32
[[grid]]
name = "L1"
recipe = "relu_l1"
width = 12
lr = 1e-3
seeds = [0, 1]
[grid.over]
l1 = [0.001, 0.1, 0.01]
[[grid]]
name = "balance"
recipe = "balance_matryoshka"
k = 2
lr = 1e-3
seeds = [0, 1]
[grid.over]
size = [
  { width = 8, levels = [4, 8] },
  { width = 12, levels = [4, 12] },
  { width = 16, levels = [4, 16] },
]
multiplier = [0.0, 0.5, 1.0]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choosing") / "run"
    train(parse_config(tomllib.loads(WORLD)), folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others") / "run"
    train(parse_config(tomllib.loads(OTHERS)), folder, progress=False)
    return folder


def test_the_true_l0_and_the_true_width_are_in_the_intervals(run, tmp_path):
    found = choose_from_run(run, tmp_path / "out", verdicts=False, progress=False)
    sparsity, width = found.choices
    assert sparsity.determined
    assert sparsity.best == 3
    assert sparsity.low <= 2.95 <= sparsity.high
    assert "Take k = 3" in sparsity.advice
    assert width.determined
    assert width.best == 12
    assert width.low <= 12 <= width.high
    written = json.loads((tmp_path / "out" / "choosing.json").read_text())
    assert [each["best"] for each in written["choices"]] == [3, 12]
    curves = written["choices"][0]["curves"]
    assert [len(each) for each in curves["decoder_pairwise_cosine"]] == [4] * 4
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    titles = [section["title"] for section in report["sections"]]
    assert "Is L0 too low or too high? sparsity" in titles
    assert "Is the SAE too narrow? widths" in titles
    assert "Take width 12" in (tmp_path / "out" / "report.html").read_text()


def test_the_command_prints_advice_and_json(run, tmp_path):
    arguments = ["choose", str(run), "--no-verdicts", "--out", str(tmp_path / "out"), "--quiet"]
    arguments += ["--samples", "400"]
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 0, told.output
    assert "sparsity: Take k = 3" in told.output
    assert "report: " in told.output
    as_json = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(as_json.output)["choices"][1]["kind"] == "width"


def test_every_other_axis_is_found(others):
    found = choose_from_run(others, samples=400, progress=False)
    assert found.page == others / "choosing" / "report.html"
    by_name = {(each.name, each.label): each for each in found.choices}
    l1 = by_name["L1", "L0"]
    assert l1.sweep.axis == "l1"
    assert list(l1.sweep.values) == sorted(l1.sweep.values)  # by the L0 that they led to
    assert set(l1.sweep.settings) == {0.001, 0.01, 0.1}
    multipliers = [each for each in found.choices if each.label == "multiplier"]
    assert [each.name for each in multipliers] == [f"balance size {w}" for w in (8, 12, 16)]
    assert set(multipliers[0].sweep.curves) == {
        "fvu", "l0", "absorbed_share", "hedged_share", "absorbed_or_hedged"
    }  # fmt: skip
    widths = [each for each in found.choices if each.label == "width"]
    assert [each.sweep.values for each in widths] == [(8, 12, 16)] * 3
    assert {each.name for each in widths} == {f"balance multiplier {m}" for m in ("0", "0.5", "1")}


def test_a_folder_without_such_a_grid_is_explained(tmp_path, run):
    with pytest.raises(FormatError, match="not the folder of a run"):
        choose_from_run(tmp_path / "nowhere", progress=False)
    content = tomllib.loads(OTHERS)
    content["grid"] = [content["grid"][0] | {"over": {"l1": [0.01, 0.1], "width": [8, 12]}}]
    del content["grid"][0]["width"]
    two = tmp_path / "two"
    two.mkdir()
    (two / "config.json").write_text(json.dumps(parse_config(content).to_json()))
    expected = r"a \[\[grid\]\] over one of `k`.* at least 3 values.*found grids over `l1`, `width`"
    with pytest.raises(ConfigError, match=expected):
        choose_from_run(two, progress=False)
    with pytest.raises(DataError, match="at least 200 activations"):
        choose_from_run(run, tmp_path / "few", samples=100, progress=False)
