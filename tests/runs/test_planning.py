"""What a run takes is told before it starts; what cannot fit is refused."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import namedtuple

import pytest

from latent_assay.errors import ConfigError, StorageError
from latent_assay.runs import plan_of, train
from latent_assay.runs.config import parse_config

WORLD = """
title = "a plan"
[world]
preset = "absorption"
samples = 500
[training]
steps = 1_000
batch_size = {batch}
[[grid]]
recipe = "topk"
seeds = [0, 1]
k = 1
[grid.over]
width = [4, 8]
lr = [1e-3, 1e-2]
"""


def config_of(batch: int = 32):
    return parse_config(tomllib.loads(WORLD.format(batch=batch)))


def test_what_is_counted(tmp_path):
    # so large that a step, and not the report, is the peak
    plan = plan_of(config_of(2_000_000), tmp_path / "not" / "there")
    assert plan.saes == 8
    assert plan.ensembles == 2
    members, width = 4, 8
    assert plan.harvest is None
    shares = {share.what: share.bytes for share in plan.ram}
    (weights,) = (n for what, n in shares.items() if what.startswith("weights, gradients"))
    d_in = next(d for d in range(1, 200) if weights == 16 * members * (2 * width * d + width + d))
    assert d_in > 1
    assert plan.seconds["training"] > 0
    lines = "\n".join(plan.lines())
    assert "a plan: 8 SAEs in 2 ensembles" in lines
    assert "checkpoints" in lines
    assert not (tmp_path / "not").exists()
    plan.check()


def test_what_cannot_fit_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("latent_assay.runs.planning.memory_limit", lambda: 2**20)
    with pytest.raises(ConfigError, match=r"a plan: this needs .* of memory, .*there are 1.05 MB"):
        train(config_of(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "training").exists()
    monkeypatch.undo()
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1_000))
    with pytest.raises(StorageError, match=r"needs about .* of disk, but there are 1 kB free"):
        train(config_of(), tmp_path / "run", progress=False)


def test_the_plan_is_printed_where_a_person_reads_it(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("latent_assay.runs.run.write_report", lambda folder, **_: folder)
    config = parse_config(tomllib.loads(WORLD.format(batch=16).replace("1_000", "3")))
    train(config, tmp_path / "run", progress=True)
    said = capfd.readouterr().err
    assert "8 SAEs in 2 ensembles" in said
    train(config, tmp_path / "quiet", progress=False)
    assert "ensembles" not in capfd.readouterr().err


def test_a_wider_step_needs_more(tmp_path):
    small, large = (plan_of(config_of(batch), tmp_path) for batch in (2_000_000, 8_000_000))
    step = [{s.what: s.bytes for s in each.ram}["a training step"] for each in (small, large)]
    assert step[1] == 4 * step[0]


def test_the_command(tmp_path):
    model = """
    title = "live"
    [model]
    name = "bundled:all-MiniLM-L6-v2"
    hook_point = "blocks.0.hook_resid_post"
    text = "text.jsonl"
    tokens = 4_000
    context_size = 32
    stream = "live"
    buffer_rows = 1_984
    max_ram = {limit}
    [training]
    steps = 10
    batch_size = 64
    [[sae]]
    name = "A"
    recipe = "topk"
    width = 8
    k = 1
    """
    documents = [{"text": f"Document {n} is about the number {n} and {n + 1}."} for n in range(300)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, documents)))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for limit, status in ((20_000_000_000, 0), (1_000_000, 2)):
        (tmp_path / "run.toml").write_text(model.format(limit=limit))
        done = subprocess.run(
            [sys.executable, "-m", "latent_assay", "plan", "run.toml", "--json"],
            cwd=tmp_path, env=environment, text=True, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        found = json.loads(done.stdout)
        assert found["bytes_per_token"] == 384 * 4
        assert found["ram_bytes"] > 1_000_000
        assert set(found["seconds"]) == {"harvest", "reading beside training", "training"}
        assert ("1 MB" in done.stderr) == (status == 2)
    assert not (tmp_path / "runs").exists()
