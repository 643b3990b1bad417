"""The command line, as a person uses it: real processes, real files, small sizes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_assay import checkpoint, load
from latent_assay.diagnosis import VERDICTS, Diagnosis

WORLD = """
title = "Small world"
[world]
preset = "absorption"
samples = 2_000
[training]
steps = {steps}
batch_size = 64
log_every = 10
checkpoint_every = 20
[[sae]]
name = "plain"
recipe = "relu_l1"
width = 4
lr = 1e-3
seeds = [0, 1]
[[sae]]
name = "TopK"
recipe = "topk"
width = 4
k = 1
lr = 1e-3
"""

MODEL = """
title = "Small model"
[model]
name = "bundled:all-MiniLM-L6-v2"
hook_point = "{hook}"
text = "{text}"
tokens = 2_000
[training]
steps = 20
batch_size = 128
log_every = 10
[[sae]]
name = "BatchTopK"
recipe = "batchtopk"
width = 128
k = 8
lr = 1e-3
"""


def assay(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "latent_assay", *map(str, arguments)],
        cwd=cwd, env=environment, text=True, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def world_run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    (folder / "small.toml").write_text(WORLD.format(steps=60))
    assay("train", "small.toml", "--quiet", cwd=folder)
    return folder


def test_train_leaves_what_it_says(world_run):
    run = world_run / "runs" / "small"
    report = json.loads((run / "report.json").read_text())
    kinds = [section["kind"] for section in report["sections"]]
    assert kinds[0] == "cosine_maps"
    assert {"metrics_table", "training_curves", "histogram", "verdicts"} <= set(kinds)
    (table,) = [s for s in report["sections"] if s["title"].startswith("What they do")]
    names = {row["name"]: row["kind"] for row in table["rows"]}
    assert names["plain"] == names["TopK"] == "trained"
    assert names["random dictionary"] == names["PCA, leading components"] == "baseline"
    assert names["plain, decoder permuted"] == "baseline"
    assert names["oracle"] == "oracle"
    by_name = {row["name"]: row["cells"] for row in table["rows"]}
    assert by_name["oracle"]["fvu/v1"]["mean"] < 1e-6
    assert by_name["plain"]["fvu/v1"]["n"] == 2
    assert load(run / "saes" / "plain").members == 2
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    (verdicts,) = [s for s in report["sections"] if s["kind"] == "verdicts"]
    assert verdicts["page"] == "diagnosis.html"
    assert [sae["name"] for sae in verdicts["saes"]] == ["plain", "TopK"]
    for sae in verdicts["saes"]:
        assert sum(line["count"] for line in sae["lines"]) == 4
        assert "The features are known here" in sae["truth"]
    assert (run / "diagnosis.html").read_text().startswith("<!doctype html>")
    assert Diagnosis.read(run / "diagnosis" / "plain").evidence.n_samples == 40_000


def test_the_same_command_again_reports_only(world_run):
    weights = world_run / "runs" / "small" / "training" / "plain" / "log.jsonl"
    before = weights.read_text()
    done = assay("train", "small.toml", "--json", cwd=world_run)
    assert json.loads(done.stdout)["report"].endswith("report.html")
    assert weights.read_text() == before


def test_another_configuration_is_refused(world_run):
    (world_run / "other.toml").write_text(WORLD.format(steps=70))
    done = assay("train", "other.toml", "--out", "runs/small", cwd=world_run, code=2)
    assert "holds a run with another configuration" in done.stderr
    assert "--fresh" in done.stderr


def test_report_from_the_folder_alone(world_run):
    page = world_run / "runs" / "small" / "report.html"
    page.unlink()
    done = assay("report", "runs/small", "--quiet", cwd=world_run)
    assert done.stdout.strip() == "report: runs/small/report.html"
    assert page.exists()


def test_convert(world_run, tmp_path):
    """What was converted shows as what it was, and answers as it did."""
    source = world_run / "runs/small/saes/topk"
    place = source if (source / "cfg.json").exists() else sorted(source.iterdir())[0]
    assay("convert", place, tmp_path / "new", cwd=world_run)
    content = json.loads(assay("show", tmp_path / "new", "--json", cwd=world_run).stdout)
    assert content["architecture"] == "topk"
    assert (tmp_path / "new" / "golden.safetensors").exists()


def test_show(world_run):
    done = assay("show", "runs/small/saes/plain", cwd=world_run)
    assert "architecture  standard" in done.stdout
    assert "recipe relu_l1" in done.stdout
    content = json.loads(assay("show", "runs/small/saes/topk", "--json", cwd=world_run).stdout)
    assert content["k"] == 1
    assert content["width"] == 4
    assert content["origin"]["training_samples"] == 60 * 64


def test_seed_changes_the_data(world_run):
    for seed in (1, 1, 2):
        out = f"runs/seed{seed}"
        assay("train", "small.toml", "--out", out, "--seed", seed, "--quiet", cwd=world_run)
    base = load(world_run / "runs" / "small" / "saes" / "plain").W_dec
    one = load(world_run / "runs" / "seed1" / "saes" / "plain").W_dec
    two = load(world_run / "runs" / "seed2" / "saes" / "plain").W_dec
    assert not torch.equal(base, one)
    assert not torch.equal(one, two)


def test_interrupted_and_continued(tmp_path):
    (tmp_path / "long.toml").write_text(WORLD.format(steps=4000))
    command = [sys.executable, "-m", "latent_assay", "train", "long.toml", "--quiet"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    log = tmp_path / "runs" / "long" / "training" / "plain" / "log.jsonl"
    for _ in range(3000):
        if log.exists() and log.read_text().count("\n") >= 3:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in stderr
    _, state = checkpoint.load(log.parent)
    assert 30 <= state["step"] < 4000


def test_a_language_model_from_text_to_report(tmp_path):
    text = "\n\n".join(
        f"The {animal} sat on the {place}, and the {animal} was {mood}."
        for animal in ("cat", "dog", "horse", "owl")
        for place in ("mat", "roof", "chair", "table")
        for mood in ("happy", "<b>angry</b>", "sleepy", "hungry", "proud", "tired", "calm", "lost")
    )
    (tmp_path / "text.txt").write_text(text)
    config = MODEL.format(hook="blocks.1.hook_resid_post", text="text.txt")
    (tmp_path / "m.toml").write_text(config)
    assay("train", "m.toml", "--quiet", cwd=tmp_path)
    run = tmp_path / "runs" / "m"
    report = json.loads((run / "report.json").read_text())
    (browser,) = [s for s in report["sections"] if s["kind"] == "latent_browser"]
    assert len(browser["saes"][0]["density"]) == 128
    labels = set(browser["saes"][0]["labels"])
    assert labels <= {verdict.value.replace("_", " ") for verdict in VERDICTS}
    (verdicts,) = [s for s in report["sections"] if s["kind"] == "verdicts"]
    assert sum(line["count"] for line in verdicts["saes"][0]["lines"]) == 128
    page = (run / "diagnosis.html").read_text()
    assert '"example.position":{' in page
    assert "<b>angry" not in page
    assert " cat" in browser["corpus"]["pieces"] or "cat" in browser["corpus"]["pieces"]
    request = report["provenance"]["activations"]["request"]
    assert request["model"]["name"].endswith("all-MiniLM-L6-v2")
    show = json.loads(assay("show", run / "saes" / "batchtopk", "--json", cwd=tmp_path).stdout)
    assert show["origin"]["hook_name"] == "blocks.1.hook_resid_post"
    assert show["architecture"] == "jumprelu"


def test_activations_of_your_own(tmp_path):
    x = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    np.save(tmp_path / "mine.npy", x)
    config = WORLD.format(steps=20).replace(
        '[world]\npreset = "absorption"\nsamples = 2_000', '[activations]\npath = "mine.npy"'
    )
    (tmp_path / "own.toml").write_text(config)
    assay("train", "own.toml", "--quiet", cwd=tmp_path)
    sae = load(tmp_path / "runs" / "own" / "saes" / "plain")
    assert sae.d_in == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "nowhere.toml"], "cannot read the configuration 'nowhere.toml'"),
        (["show", "nowhere"], "'nowhere' is no SAE: .* found no such folder"),
        (["show", "."], "'.' is no SAE: expected a folder with cfg.json"),
        (["report", "."], "'.' is not the folder of a run"),
        (["report", "nowhere"], "found no such folder"),
    ],
)
def test_mistakes_end_in_a_paragraph(arguments, says, tmp_path):
    import re

    done = assay(*arguments, cwd=tmp_path, code=2)
    assert re.search(says, done.stderr)
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("hook", "text", "says"),
    [
        ("blocks.1.hook_resid_pots", "cpython", "Did you mean `hook_resid_post`"),
        ("blocks.1.hook_resid_post", "no_such_text.txt", "no_such_text.txt"),
        ("blocks.1.hook_resid_post", "empty.txt", "empty"),
    ],
)
def test_mistakes_about_models_and_text(hook, text, says, tmp_path):
    (tmp_path / "empty.txt").write_text("  \n")
    (tmp_path / "m.toml").write_text(MODEL.format(hook=hook, text=text))
    done = assay("train", "m.toml", "--quiet", cwd=tmp_path, code=2)
    assert says in done.stderr


def test_reproductions_are_listed_and_run(tmp_path):
    listed = assay("reproduce", "--list", cwd=tmp_path).stdout
    assert "000-proposition-1  " in listed
    assert listed.count("\n") > 50
    done = assay("reproduce", "000-proposition-1", "--quick", "--json", "--out", "r", cwd=tmp_path)
    assert json.loads(done.stdout)["passed"] == 1
    assert json.loads((tmp_path / "r" / "reproductions.json").read_text())[0]["passed"]
    done = assay("reproduce", "000-proposition-9", cwd=tmp_path, code=2)
    assert "Did you mean `000-proposition-" in done.stderr


def test_help_teaches_by_example(tmp_path):
    for command in ("demo", "train", "report", "show", "convert", "reproduce"):
        done = assay(command, "--help", cwd=tmp_path)
        assert "Examples:" in done.stdout
        assert f"  assay {command}" in done.stdout
