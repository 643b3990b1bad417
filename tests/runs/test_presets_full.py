"""The full presets run unchanged but for model, text and sizes, on tiny models of their families.

Everything is replaced by `--set` values alone. The models have as many layers as the real ones, so
that hook points stay as they are.
"""

import json

import pytest

from latent_assay.runs import read_config, train
from latent_assay.runs.config import shipped_configs

from ..activations import tiny_models

LAYERS = {"gemma2": 26, "llama": 16, "neox": 12}
FAMILY = {"gemma_2_2b": "gemma2", "llama_3_2_1b": "llama", "pythia_160m": "neox"}
FULL = sorted(name for name in shipped_configs() if name.startswith(tuple(FAMILY)))


def family(name: str) -> str:
    return next(value for start, value in FAMILY.items() if name.startswith(start))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """family → the folder of a tiny model; and a file of text."""
    folder = tmp_path_factory.mktemp("models")
    text = folder / "text.jsonl"
    text.write_text("\n".join(json.dumps({"text": each}) for each in tiny_models.text(60)))
    found = {}
    for name, layers in LAYERS.items():
        size = dict(tiny_models.SIZE)
        tiny_models.SIZE["num_hidden_layers"] = layers
        try:
            found[name] = tiny_models.save(folder / name, name)
        finally:
            tiny_models.SIZE.update(size)
    return found, text


SIZES = {
    "model.tokens": "6_000",
    "model.context_size": "32",
    "model.contexts_at_once": "8",
    "model.buffer_rows": "2_000",
    "model.held_out": "0.2",
    "model.measured": "200",
    "model.browsed": "300",
    "model.device": "cpu",
    "device": "cpu",
    "training.steps": "4",
    "training.batch_size": "32",
    "training.lr_warm_up_steps": "0",
    "training.log_every": "2",
}
OWN = {
    "hedging_width": {"extension.over.width": "[24]", "extension.1.case.at": "{ width = 24 }"},
    "hedging_l0": {
        "extension.width": "24",
        "extension.1.over.k": "[2, 4]",
        "extension.2.over.l1": "[0.5]",
    },
    "hedging_layer": {"extension.width": "24"},
    "hedging_n": {"extension.width": "24", "extension.over.n": "[1, 2]"},
    "multipliers": {
        "grid.width": "20",
        "grid.levels": "[2, 4, 8, 12, 20]",
        "grid.k": "4",
        "grid.seeds": "[0]",
    },
    "wsae": {"grid.width": "24", "grid.k": "4"},
}


def settings(name: str, places) -> list[str]:
    models, text = places
    study = next(key for key in OWN if name.endswith(key))
    found = SIZES | OWN[study]
    if study.startswith("hedging"):
        found = found | {
            "extension.seeds": "[0]",
            "extension.1.n": "2",
            "extension.1.k": "3",
            "extension.baselines": "3",
            "training.steps": "2",
        }
        if study == "hedging_n":
            del found["extension.1.n"]
        else:
            found["extension.2.n"] = "2"
            found["extension.2.sparsity_warm_up_steps"] = "1"
        if study == "hedging_l0":
            del found["extension.1.k"]
    if study == "hedging_layer":  # all are read, two are trained on
        points = json.dumps(list(read_config(name).source.names[:3:2]))
        found |= {"extension.1.over.hook_point": points, "extension.2.over.hook_point": points}
    found |= {"model.name": f'"{models[family(name)]}"', "model.text": f'"{text}"'}
    return [f"{key}={value}" for key, value in found.items()]


def test_they_are_all_there():
    assert len(FULL) == 9


@pytest.mark.parametrize("name", FULL)
def test_a_full_preset_runs_on_a_tiny_model_of_its_family(name, places, tmp_path):
    config = read_config(name, settings(name, places))
    outcome = train(config, tmp_path, progress=False)
    report = json.loads((tmp_path / "report.json").read_text())
    assert outcome.report is not None
    titles = [section["title"] for section in report["sections"]]
    for plan in config.extensions:
        assert f"{plan.name}: Both forms of the metric" in titles
    assert len(list(tmp_path.rglob("outcome.json"))) == sum(
        len(plan.settings) for plan in config.extensions
    )
    assert len(list(tmp_path.glob("saes/*"))) == len(config.saes)
