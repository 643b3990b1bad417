"""`assay eval` on the real model, real text and two SAEs, in a small size."""

import json

import pytest
from click.testing import CliRunner

from latent_assay import cli, formats
from latent_assay.activations import LanguageModel
from latent_assay.errors import ConfigError
from latent_assay.evals import PerturbationConfig, ProbeConfig, evaluation, python_passages
from latent_assay.evals.autointerp import AutoInterpConfig, ExampleConfig
from latent_assay.evals.materials import SuiteConfig
from latent_assay.recipes import topk
from latent_assay.runs.evaluating import evaluate_files
from tests.evals.schema import faults
from tests.evals.test_sae_bench_json import SCHEMAS

HOOK = "blocks.2.hook_resid_post"
MODEL = "bundled:all-MiniLM-L6-v2"
SMALL = SuiteConfig(
    tokens=2_500,
    context_size=40,
    texts_of_class=12,
    perturbation=PerturbationConfig(ablated=(2, 5), probe=ProbeConfig(epochs=1, batch_size=64)),
    perturbation_seeds=(0, 1),
    autointerp=AutoInterpConfig(
        examples=ExampleConfig(latents=4, top=3, spread=2, tested=4, fewest=8), seeds=(0,)
    ),
)


def asked(folder):
    return {
        "model": MODEL,
        "only": ["core", "semantic_consistency", "autointerp", "tpp"],
        "labelled": folder / "texts.jsonl",
        "config": SMALL,
    }


@pytest.fixture(scope="module")
def saes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saes")
    about = {"model_name": "all-MiniLM-L6-v2", "hook_name": HOOK}
    formats.save(topk(d_in=384, width=64, k=4, seeds=(1, 2)).sae.exported(), folder / "two", about)
    passages = python_passages(("asyncio", "email"))
    of_each = dict.fromkeys(passages.classes, 0)
    with (folder / "texts.jsonl").open("w") as file:
        for text, label in zip(passages.texts, passages.labels, strict=True):
            of_each[label] += 1
            if of_each[label] <= 60:
                file.write(json.dumps({"text": text, "label": label}) + "\n")
    formats.save(topk(d_in=384, width=64, k=4).sae.exported(), folder / "one", about)
    return folder


@pytest.fixture(scope="module")
def made(saes):
    sources = [str(saes / "two"), str(saes / "one")]
    return evaluate_files(sources, saes / "out", **asked(saes))


def test_numbers_beside_baselines(made, saes):
    assert made.page.is_file()
    content = json.loads((saes / "out" / "results.json").read_text())
    assert content == made.content
    for sae, results in made.results.items():
        assert set(results) == {"core", "semantic_consistency", "autointerp", "tpp"}
        for name, result in results.items():
            assert result.not_measurable is None, (sae, name, result.not_measurable)
            assert "random dictionary" in result.baselines
    assert made.results["two"]["tpp"].metrics["tpp@2"].n == 2  # members
    compared = {each["evaluation"] for each in content["comparisons"]}
    assert compared == {"core", "semantic_consistency", "autointerp"}  # not TPP


def test_the_page_ranks_only_what_exceeds_the_noise(made):
    page = made.page.read_text()
    for each in ("At a glance", "What may be said", "known to be unreliable", "Null baselines"):
        assert each in page
    report = json.loads((made.page.parent / "report.json").read_text())
    tables = [each for each in report["sections"] if each["kind"] == "metrics_table"]
    assert not any(table["ranked"] for table in tables)
    glance = tables[0]
    shown = {column["key"] for column in glance["columns"]}
    assert "autointerp.detection" in shown
    assert not any(key.startswith("tpp") for key in shown)
    assert "Unreliable" in tables[-1]["sentence"]


def test_sae_bench_reads_it(made, saes):
    written = sorted((saes / "out" / "sae_bench").rglob("*.json"))
    assert [each.parent.name for each in written] == ["autointerp"] * 2 + ["tpp"] * 2
    for place in written:
        schema = SCHEMAS[place.parent.name]
        assert faults(json.loads(place.read_text()), schema, schema) == []


def test_a_second_call_measures_nothing(made, saes, monkeypatch):
    monkeypatch.setattr(LanguageModel, "capture", None)  # would be needed to measure
    monkeypatch.setattr(LanguageModel, "d_in", lambda *_: 384)
    sources = [str(saes / "two"), str(saes / "one")]
    again = evaluate_files(sources, saes / "out", **asked(saes))
    assert again.content == made.content


def test_the_command_says_why_something_cannot_be_measured(saes, tmp_path):
    (tmp_path / "few.csv").write_text("text,label\none two three,a\nfour five six,b\n")
    arguments = [
        "eval", str(saes / "one"), "--model", MODEL, "--only", "tpp",
        "--labelled", str(tmp_path / "few.csv"), "--out", str(tmp_path / "out"), "--quiet",
    ]  # fmt: skip
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == 0, done.output
    assert "tpp: not measurable, because the class 'a' has" in done.output
    assert "Not measurable" in (tmp_path / "out" / "report.html").read_text()
    arguments[5] = "scrr"
    wrong = CliRunner().invoke(cli.main, arguments)
    assert wrong.exit_code == 2
    assert "Did you mean `scr`" in wrong.output
    assert evaluation("scr").headline is None


def test_bad_input(saes, tmp_path):
    place = str(saes / "one")
    with pytest.raises(ConfigError, match="which model at http"):
        evaluate_files([place], tmp_path, model=MODEL, judge="http://localhost:1/v1")
    narrow = topk(d_in=8, width=16, k=2).sae.exported()
    formats.save(narrow, tmp_path / "narrow", {"hook_name": HOOK})
    with pytest.raises(ConfigError, match=r"narrow reads d_in 8, but activations of .* have 384"):
        evaluate_files([str(tmp_path / "narrow")], tmp_path, model=MODEL)
    formats.save(narrow, tmp_path / "nameless", {})
    with pytest.raises(ConfigError, match="their files name none"):
        evaluate_files([str(tmp_path / "nameless")], tmp_path, model=MODEL)
