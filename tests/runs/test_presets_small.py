"""The small presets, at a size of seconds, on the bundled model."""

import json

import numpy as np
import pytest

from latent_assay.activations import bundled_minilm
from latent_assay.errors import ConfigError, MissingExtra
from latent_assay.runs import read_config, train
from latent_assay.runs.config import shipped_configs

SMALL = {
    "minilm_choosing": {
        "grid.1.width": "32",
        "grid.1.over.k": "[4, 8]",
        "grid.2.over.width": "[32]",
    },
    "minilm_hedging_width": {"extension.over.width": "[24, 32]", "extension.case.at": ""},
    "minilm_hedging_l0": {"extension.1.over.k": "[4]", "extension.2.over.l1": "[1.0]"},
    "minilm_hedging_layer": {},
    "minilm_multipliers": {"grid.width": "32", "grid.levels": "[8, 32]"},
    "minilm_wsae": {"grid.width": "64", "grid.over.k": "[8, 16]"},
}


@pytest.fixture(scope="module")
def activations(tmp_path_factory):
    try:
        bundled_minilm()
    except MissingExtra as missing:
        pytest.skip(str(missing))
    return tmp_path_factory.mktemp("shared")


def settings(name: str, activations) -> list[str]:
    sizes = SMALL[name] | {
        "training.steps": "6",
        "training.batch_size": "64",
        "training.lr_decay_steps": "0",
        "model.tokens": "1_500",
        "model.measured": "200",
        "model.browsed": "300",
        "model.activations": f'"{activations / ("layers" if "layer" in name else "one layer")}"',
    }
    return [f"{key}={value}" for key, value in sizes.items()]


def test_they_are_all_there():
    assert set(SMALL) == {name for name in shipped_configs() if name.startswith("minilm_")}


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"minilm_hedging_l0"}))
def test_a_small_preset_runs(name, activations, tmp_path):
    train(read_config(name, settings(name, activations)), tmp_path, progress=False)
    report = json.loads((tmp_path / "report.json").read_text())
    titles = [section["title"] for section in report["sections"]]
    if name == "minilm_wsae":
        assert "WSAE: at equal FVU" in titles
    if name == "minilm_hedging_width":
        assert "BatchTopK: Hedging degree against width" in titles
        assert (tmp_path / "case_studies" / "batchtopk" / "report.html").is_file()
    if name == "minilm_hedging_layer":
        table = next(each for each in report["sections"] if each["title"].endswith("the metric"))
        assert [row["name"] for row in table["rows"]] == [f"layer {i}" for i in (0, 1, 3, 5)]
    assert not (tmp_path / "activations").exists()  # they are where the setting says


def test_weights_of_a_wsae_from_scores_of_ones_own(activations, tmp_path):
    scores = np.linspace(1, 2, 384)
    np.save(tmp_path / "scores.npy", scores)
    wanted = [
        *settings("minilm_wsae", activations),
        f'grid.scores="{tmp_path / "scores.npy"}"',
        "grid.over.alpha=[1.0]",
        "grid.over.k=[8]",
    ]
    train(read_config("minilm_wsae", wanted), tmp_path / "run", progress=False)
    state = json.loads(
        next((tmp_path / "run").rglob("checkpoint/state.json")).read_text(encoding="utf-8")
    )
    (term,) = state["settings"]["objective"]
    gamma = np.array(term["gamma"]).reshape(-1, 384)[0]
    np.testing.assert_allclose(gamma, scores / np.sqrt((scores**2).mean()), rtol=1e-5)
    np.save(tmp_path / "scores.npy", scores[:3])
    with pytest.raises(ConfigError, match="`scores` must hold 384 numbers"):
        train(read_config("minilm_wsae", wanted), tmp_path / "other", progress=False)
