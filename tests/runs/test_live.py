"""A live stream: every SAE of the run on one pass through the model, as each would be alone."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import torch

from latent_assay import checkpoint, fit, load
from latent_assay.activations import ActivationStore
from latent_assay.errors import ConfigError, DataError
from latent_assay.runs import train
from latent_assay.runs.building import build
from latent_assay.runs.config import parse_config, training_config
from latent_assay.runs.live_source import LaterDocuments
from latent_assay.runs.sources import prepare

POINTS = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")

CONFIG = """
title = "live"
seed = 3
[model]
name = "bundled:all-MiniLM-L6-v2"
hook_points = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
text = "text.jsonl"
tokens = 4_000
held_out = 0.2
context_size = 32
stream = "live"
buffer_rows = 1_984
[training]
steps = 12
batch_size = 64
log_every = 5
checkpoint_every = 5
[[sae]]
name = "alone"
recipe = "relu_l1"
hook_point = "blocks.0.hook_resid_post"
width = 16
[[grid]]
recipe = "batchtopk"
width = 24
lr = 1e-3
seeds = [0, 1]
[grid.over]
hook_point = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
k = [2, 4]
"""


def write_text(folder: Path) -> None:
    """A hundred short documents."""
    words = ["cat", "dog", "sat", "ran", "on", "the", "mat", "tree", "blue", "seven"]
    with (folder / "text.jsonl").open("w") as file:
        for number in range(100):
            chosen = [words[(number * 7 + i * i) % len(words)] for i in range(40)]
            file.write(json.dumps({"text": f"Number {number}: {' '.join(chosen)}."}) + "\n")


def config_of(**model: object):
    content = tomllib.loads(CONFIG)
    content["model"] |= model
    return parse_config(content)


@pytest.fixture(scope="module", autouse=True)
def work(tmp_path_factory):
    """The folder that the text is in, to be in while the tests run."""
    folder = tmp_path_factory.mktemp("work")
    write_text(folder)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def run(work):
    assert train(config_of(), work / "run", progress=False).report is not None
    return work / "run"


def test_lockstep_equals_each_alone(run):
    """On the same batches each ensemble ends at the weights that it has without company."""
    config = config_of()
    assert [len(each.plans) for each in config.ensembles] == [1, 2, 2]
    prepared = prepare(config, run, harvest=True, progress=False)
    for ensemble in config.ensembles:
        stream = prepared.together(config.training.batch_size, config.seed)
        assert stream is not None
        data = prepared.at(ensemble.hook_point)
        sae, objective, published = build(ensemble.together, data, config)
        own = training_config(published, config.training)
        fit(sae, objective, stream.at(str(ensemble.hook_point)), own, progress=False)
        stream.live.close()
        for plan, members in zip(ensemble.plans, ensemble.members, strict=True):
            folder = plan.name.lower().replace(" ", "-").replace(".", "-").replace("_", "-")
            saved = load(run / "saes" / folder)
            expected = sae.take(members).rescaled(data.scale).exported()
            assert torch.equal(saved.W_dec, expected.W_dec)
            assert torch.equal(saved.W_enc, expected.W_enc)
            assert torch.equal(saved.b_enc, expected.b_enc)


def test_nothing_is_stored_but_what_is_held_out(run):
    kept = ActivationStore.open(run / "activations", POINTS[1])
    assert kept.n_rows <= 800
    data = prepare(config_of(), run, harvest=False).at(POINTS[1])
    assert data.d_in == 384
    assert 0 < sum(len(x) for x in data.held_out()) < kept.n_rows
    assert data.seen(10) is None


def test_training_reads_other_documents_than_what_is_held_out(run):
    """The stream begins behind the last document that the kept part has touched."""
    config = config_of()
    data = prepare(config, run, harvest=True, progress=False).first
    stream = data.reader.stream([POINTS[0]], 64, 0)  # type: ignore[attr-defined]
    later = stream.reader.source.content
    assert isinstance(later, LaterDocuments)
    kept = ActivationStore.open(run / "activations", POINTS[0])
    tokens = [kept.context(i).tolist() for i in range(kept.n_contexts)]
    first = stream.reader.first_contexts(1)[0]
    assert list(first.token_ids) not in tokens
    skipped = "".join(text for _, text in zip(range(later.start), later.source, strict=False))
    assert len(skipped) > 800  # characters, at least one for each token that is kept


def test_killed_and_continued_to_the_same_weights(run, tmp_path):
    """A process killed at some step after a checkpoint; the same command ends as if it had not."""
    (tmp_path / "live.toml").write_text(CONFIG)
    write_text(tmp_path)
    command = [sys.executable, "-m", "latent_assay", "train", "live.toml", "--quiet", "--out", "r"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment)
    folder = tmp_path / "r" / "training"
    try:
        for _ in range(6000):
            if checkpoint.exists(folder) or process.poll() is not None:
                break
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert checkpoint.exists(folder)
    assert not (tmp_path / "r" / "report.html").exists()
    train(config_of(), tmp_path / "r", progress=False)
    for place in sorted((run / "saes").rglob("sae_weights.safetensors")):
        again = tmp_path / "r" / "saes" / place.relative_to(run / "saes")
        assert again.read_bytes() == place.read_bytes(), place


def test_settings_that_do_not_go_with_it():
    with pytest.raises(ConfigError, match=r"`shuffle_seed` says how activations are stored"):
        config_of(shuffle_seed=1)
    with pytest.raises(ConfigError, match=r'`buffer_rows` is for `stream = "live"`'):
        config_of(stream="disk")


def test_a_text_without_later_documents(tmp_path):
    (tmp_path / "short.txt").write_text("one two three four " * 300)
    config = config_of(text=str(tmp_path / "short.txt"), tokens=1_000)
    with pytest.raises(DataError, match=r"no document that begins behind the 200 tokens"):
        train(config, tmp_path / "run", progress=False)
