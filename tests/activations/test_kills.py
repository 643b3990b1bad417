"""Harvest and training survive SIGKILL at any moment; `killing` is the script that kills."""

import json
import secrets
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def killed(kind, folder, n_kills=20):
    seed = secrets.randbits(32)
    command = [sys.executable, "-m", "tests.activations.killing", kind, folder, n_kills, seed]
    run = subprocess.run(
        [str(each) for each in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, (seed, run.stderr[-3000:])
    found = json.loads(run.stdout.splitlines()[-1])
    assert sum(not trial["finished"] for trial in found["trials"]) >= n_kills
    return seed, found


def test_harvest_killed_at_random_moments_ends_with_the_same_files(tmp_path):
    seed, found = killed("harvest", tmp_path)
    for trial in found["trials"]:
        assert trial["equal"], (seed, trial)
        assert trial["lost"] == 0, (seed, trial)  # no shard that was complete is made again
    assert any(trial["kept"] for trial in found["trials"])
    assert found["often"]["equal"]


def test_streamed_training_killed_at_random_moments_ends_with_the_same_weights(tmp_path):
    seed, found = killed("training", tmp_path)
    for trial in found["trials"]:
        assert trial["equal"], (seed, trial)
        assert trial["lost"] <= 7, (seed, trial)  # checkpoints are written every 7 steps
    assert any(trial["kept"] for trial in found["trials"])
    assert found["often"]["equal"]
