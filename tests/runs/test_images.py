"""[images]: from a configuration to SAEs, with semantic consistency in the report."""

import json

import pytest
import torch

from latent_assay import formats
from latent_assay.errors import ConfigError, DataError, FormatError
from latent_assay.evals import semantic_consistency
from latent_assay.runs import read_config, train, write_report
from latent_assay.runs.config import ImagesSource, parse_config
from latent_assay.runs.sources import prepare

RUN = {
    "title": "digits",
    "images": {
        "path": "digits",
        "channels": [4, 8],
        "depths": [1, 1],
        "hidden": 16,
        "out": 12,
        "epochs": 2,
        "warm_up_epochs": 0,
        "batch_size": 128,
        "held_out": 0.85,
        "flip": False,
        "top": 7,
    },
    "training": {"steps": 30, "batch_size": 64, "checkpoint_every": None},
    "grid": [
        {
            "name": "by variance",
            "recipe": "wsae",
            "width": 16,
            "k": 2,
            "scores": "variance",
            "seeds": [0, 1],
            "over": {"alpha": [0.0, 1.0]},
        },
        {
            "name": "by consistency",
            "recipe": "wsae",
            "width": 16,
            "k": 2,
            "scores": "semantic_consistency",
            "seeds": [0, 1],
            "over": {"alpha": [1.0]},
        },
    ],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "run"
    config = parse_config(RUN)
    train(config, folder, progress=False)
    return config, folder


def table(folder):
    sections = json.loads((folder / "report.json").read_text())["sections"]
    (found,) = [each for each in sections if "Semantic consistency" in each.get("title", "")]
    return {row["name"]: row["cells"] for row in found["rows"]}


def test_the_report_has_the_table(run):
    _, folder = run
    rows = table(folder)
    assert list(rows)[-2:] == ["input dimensions, before", "random dictionary"]
    assert len(rows) == 5
    for name, cells in rows.items():
        assert 0.1 <= cells["top_activated"]["mean"] <= 1
        assert 0.1 <= cells["all_chance"]["mean"] <= 1
        assert ("fvu" in cells) == (name != "input dimensions, before")
    before = (folder / "report.html").read_text()
    assert "what permuted labels give" in before


def test_the_table_says_what_the_evaluation_says(run):
    config, folder = run
    data = prepare(config, folder, harvest=False, progress=False).first
    x = data.test_store.rows(0, data.test_store.n_rows)
    labels = data.found.labels[data.found.n_train :]
    name, cells = next(iter(table(folder).items()))
    (place,) = [
        each for each in (folder / "saes").iterdir() if each.name.endswith("variance-alpha-0")
    ]
    result = semantic_consistency(
        formats.load(place), x, labels, reference=data.excerpt(300), classes=10, top=7
    )
    for key, value in result.metrics.items():
        assert cells[key]["mean"] == pytest.approx(value.mean, abs=1e-5), (name, key)
    before = table(folder)["input dimensions, before"]
    key = "all_activated"
    assert before[key]["mean"] == pytest.approx(
        result.baselines["input dimensions"][key].mean, abs=1e-5
    )
    assert result.baselines["permuted labels"][key].mean == pytest.approx(
        cells["all_chance"]["mean"], abs=1e-5
    )
    assert set(result.against(result).values()) == {"not distinguishable"}


def test_scores_by_name(run):
    config, folder = run
    data = prepare(config, folder, harvest=False, progress=False).first
    n = data.found.n_train
    x = data.store.rows(0, n)
    assert torch.allclose(data.scored("variance"), x.var(0), atol=1e-6)
    scores = data.scored("semantic_consistency")
    fires = (x > 0).any(0)
    assert (scores[~fires] == 0).all()
    assert (scores[fires] >= 0.1).all()
    assert data.scored("wisdom") is None


def test_a_second_run_trains_nothing_and_the_report_needs_no_images(run, monkeypatch):
    _, folder = run
    before = json.loads((folder / "report.json").read_text())["sections"]
    monkeypatch.setattr("latent_assay.activations.images.pretraining.contrastive_loss", None)
    monkeypatch.setattr("latent_assay.activations.images.labelled_images", None)
    write_report(folder, progress=False)
    assert json.loads((folder / "report.json").read_text())["sections"] == before


def test_other_images_need_another_folder(run):
    _, folder = run
    other = parse_config(RUN | {"images": RUN["images"] | {"seed": 1}})
    with pytest.raises(DataError, match="made otherwise: pretraining differ"):
        prepare(other, folder, harvest=True, progress=False)


def test_configurations_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match=r"\[images\] knows no `pth`.*Did you mean `path`"):
        parse_config(RUN | {"images": {"pth": "digits"}})
    with pytest.raises(ConfigError, match="`layer` is wrong"):
        parse_config(RUN | {"images": {"layer": "stem"}})
    with pytest.raises(FormatError, match="holds no activations of images"):
        prepare(parse_config(RUN), tmp_path, harvest=False)


def test_the_preset_is_valid_and_returns_to_itself():
    config = read_config("digits_wsae")
    assert isinstance(config.source, ImagesSource)
    assert len(config.saes) == 5
    assert parse_config(config.to_json()) == config
