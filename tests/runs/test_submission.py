"""A grid of runs through submitit; its local executor stands in for a cluster."""

import json
import os
import pickle
import subprocess
import sys

import pytest

from latent_assay.errors import ConfigError, MissingExtra
from latent_assay.runs.submission import Task, submit

CONFIG = """
title = "A very short run"
[world]
preset = "absorption"
samples = 200
[training]
steps = {steps}
batch_size = 16
[[sae]]
name = "TopK"
recipe = "topk"
width = 4
k = {k}
"""


@pytest.fixture
def configs(tmp_path):
    paths = [tmp_path / f"k_{k}.toml" for k in (1, 2)]
    for k, path in enumerate(paths, start=1):
        path.write_text(CONFIG.format(steps=5, k=k))
    return paths


def test_a_grid_runs_as_jobs_on_this_machine(configs, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    jobs = submit(configs, tmp_path / "grid", executor="local", timeout_min=5)
    assert list(jobs) == ["k-1", "k-2"]
    for name, job in jobs.items():
        assert job.result() == str(tmp_path / "grid" / name)
        assert (tmp_path / "grid" / name / "report.html").exists()
        assert (tmp_path / "grid" / name / "saes" / "topk" / "sae_weights.safetensors").exists()
    assert any((tmp_path / "grid" / "jobs").iterdir())


def test_a_job_that_must_make_room_goes_on_where_it_was(tmp_path):
    task = Task(config="hierarchy", folder=str(tmp_path))
    again = task.checkpoint()
    assert again.function == task
    assert not again.args
    assert not again.kwargs
    assert pickle.loads(pickle.dumps(task)) == task  # our own, as submitit sends it


@pytest.mark.parametrize(
    ("names", "settings", "says"),
    [
        (["k_1.toml", "missing.toml"], {}, "cannot read the configuration"),
        (["k_1.toml", "k-1.toml"], {}, "two configurations would share the folder"),
        (["jobs.toml"], {}, "none the name `jobs`"),
        ([], {}, "nothing to submit"),
        (["k_1.toml"], {"colour": "red"}, "submitit refuses the settings of the jobs.*colour"),
        (["k_1.toml"], {"executor": "slumr"}, '`executor` must be "slurm", "local" or "debug"'),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(configs, tmp_path, names, settings, says):
    for name in {*names} - {"missing.toml"}:
        (tmp_path / name).write_text(CONFIG.format(steps=5, k=1))
    with pytest.raises(ConfigError, match=says):
        submit(
            [tmp_path / name for name in names],
            tmp_path / "grid",
            **({"executor": "local"} | settings),
        )
    jobs = tmp_path / "grid" / "jobs"
    assert not jobs.exists() or not any(jobs.iterdir())


def test_without_submitit_the_command_that_installs_it_is_named(configs, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(MissingExtra, match=r"pip install 'latent-assay\[cluster\]'"):
        submit(configs, tmp_path / "grid")


def test_the_command(configs, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def submit_them(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "latent_assay", "submit", *map(str, configs)]
        return subprocess.run(
            [*command, "--out", "grid", *arguments],
            cwd=tmp_path, env=environment, text=True, capture_output=True, check=False,
        )  # fmt: skip

    done = submit_them("--executor", "local", "-s", "timeout_min=5", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    jobs = json.loads(done.stdout)
    assert {name: job["folder"] for name, job in jobs.items()} == {
        "k-1": "grid/k-1",
        "k-2": "grid/k-2",
    }
    assert all(job["error"] is None for job in jobs.values())
    assert (tmp_path / "grid" / "k-2" / "report.html").exists()
    done = submit_them("--executor", "local", "-s", "timeout_min")
    assert done.returncode == 2
    assert "must read NAME=VALUE, as timeout_min=60, got 'timeout_min'" in done.stderr
