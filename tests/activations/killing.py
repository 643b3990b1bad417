"""Kills harvests and trainings at random moments, for `test_kills`; a script of its own.

The imports and the model are paid for once: every run is a fork, killed by SIGKILL from outside.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from latent_assay import checkpoint
from latent_assay.activations import LanguageModel, LiveConfig, LiveStream, harvest
from latent_assay.recipes import topk
from latent_assay.training import TrainingConfig, fit
from tests.activations import tiny_models

HOOKS = ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out")
STEPS, EVERY = 60, 7
DOCUMENTS = tiny_models.text(120)


def run_harvest(model: LanguageModel, folder: Path) -> None:
    harvest(
        model, DOCUMENTS[:60], hook_points=HOOKS, folder=folder, context_size=24, batch_size=4,
        shard_tokens=256, shuffle_seed=1, dtype=torch.bfloat16, progress=False,
    )  # fmt: skip


def run_training(model: LanguageModel, folder: Path) -> None:
    config = LiveConfig(
        hook_points=HOOKS, batch_size=64, seed=3, buffer_rows=1000, context_size=24,
        normalise=True, buffer_dtype=torch.bfloat16,
    )  # fmt: skip
    stream = LiveStream(model, DOCUMENTS, config)
    sae, objective, _ = topk(d_in=16, width=32, k=4, seeds=(0, 1))
    training = TrainingConfig(steps=STEPS, checkpoint_every=EVERY, log_every=1)
    fit(sae, objective, stream.at(*HOOKS), training, folder=folder, progress=False)
    stream.close()


def fork(run, model: LanguageModel, folder: Path, *, after: float | None) -> bool:
    """Run in a child, killed after so many seconds; whether it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(model, folder)
            status = 0
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        os._exit(status)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def content(folder: Path) -> dict[str, bytes]:
    """Every file by its name, with what counts in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def trial(run, model: LanguageModel, folder: Path, after: float) -> dict[str, int | bool]:
    finished = fork(run, model, folder, after=after)
    if run is run_training:
        log = folder / "log.jsonl"
        done = len(log.read_text().splitlines()) if log.is_file() else 0
        if folder.is_dir() and not checkpoint.exists(folder):
            checkpoint.prepare(folder, resume=True)  # it may lie between two renames
        kept = checkpoint.load(folder)[1]["step"] if checkpoint.exists(folder) else 0
        assert fork(run, model, folder, after=None)
        return {"finished": finished, "lost": done - kept, "kept": kept}
    complete = {p: p.stat().st_mtime_ns for p in folder.glob("contexts-*.safetensors")}
    assert fork(run, model, folder, after=None)
    again = sum(p.stat().st_mtime_ns != stamp for p, stamp in complete.items())
    return {"finished": finished, "lost": again, "kept": len(complete)}


def main(kind: str, folder: Path, n_kills: int, seed: int) -> None:
    torch.set_num_threads(1)  # a forked child cannot use its parent's other threads
    run = {"harvest": run_harvest, "training": run_training}[kind]
    model = LanguageModel.load(tiny_models.save(folder / "model", "neox"))
    assert fork(run, model, folder / "warm", after=None)
    start = time.monotonic()
    assert fork(run, model, folder / "whole", after=None)
    duration = time.monotonic() - start
    expected = content(folder / "whole")
    moments = random.Random(seed)
    trials = []
    while sum(not each["finished"] for each in trials) < n_kills and len(trials) < 6 * n_kills:
        place = folder / str(len(trials))
        result = trial(run, model, place, moments.uniform(0.0, duration))
        trials.append(result | {"equal": content(place) == expected})
    # one that is killed again and again
    n = 0
    while not fork(run, model, folder / "often", after=moments.uniform(0.2, 1.0) * duration):
        n += 1
        assert n < 100
    last = {"kills": n, "equal": content(folder / "often") == expected}
    json.dump({"duration": duration, "trials": trials, "often": last}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
