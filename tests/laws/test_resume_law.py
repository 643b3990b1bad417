"""Kill a run anywhere and resume it: the weights equal those of the uninterrupted run, bit for "
"bit."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import Tensor

from latent_assay import checkpoint
from latent_assay.kernels import force_path
from latent_assay.sae import SAE
from latent_assay.training import fit

from . import recipes

STEPS = 60


class Stream:
    """An endless stream that can say where it is."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Tensor:
        return torch.randn(recipes.BATCH, recipes.D_IN, generator=self.generator)

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])


class Killed(Exception):
    pass


class DyingStream(Stream):
    """Dies when asked for a certain batch."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def __next__(self) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super().__next__()


def run(name: str, stream, folder, **changes: int) -> SAE:
    sae, objective, config = recipes.ensemble(name, dtype=torch.float32)
    settings = {"steps": STEPS, "log_every": 7, "checkpoint_every": 11, "lr_warm_up_steps": 10}
    config = dataclasses.replace(config, **(settings | changes))
    fit(sae, objective, stream, config, folder=folder, progress=False)
    return sae


def same(first: SAE, second: SAE) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return all(torch.equal(one[name].nan_to_num(), two[name].nan_to_num()) for name in one)


@pytest.mark.parametrize("path", ["dense", "sparse", "gram"])
@pytest.mark.parametrize("name", recipes.NAMES)
def test_killed_at_a_random_step(name, path, tmp_path):
    at = random.Random(name + path).randrange(1, STEPS)
    with force_path(path):
        whole = run(name, Stream(), tmp_path / "whole")
        with pytest.raises(Killed):
            run(name, DyingStream(at), tmp_path / "part")
        assert checkpoint.exists(tmp_path / "part") == (at >= 11)
        again = run(name, Stream(), tmp_path / "part")
    assert same(whole, again)
    lines = [(tmp_path / part / "log.jsonl").read_text() for part in ("whole", "part")]
    assert lines[0] == lines[1]


def test_stream_without_state_is_read_again(tmp_path):
    whole = run("batchtopk", recipes.batches(torch.float32), tmp_path / "whole")
    with pytest.raises(Killed):
        run("batchtopk", dying(recipes.batches(torch.float32), 40), tmp_path / "part")
    assert same(whole, run("batchtopk", recipes.batches(torch.float32), tmp_path / "part"))


def dying(stream, at: int):
    for number, batch in enumerate(stream):
        if number == at:
            raise Killed
        yield batch


PROGRAM = """
import sys, time, torch
sys.path.insert(0, {root!r})
from tests.laws.test_resume_law import Stream, run
class Slow(Stream):
    def __next__(self):
        time.sleep(0.01)
        return super().__next__()
run("topk", Slow(), {folder!r}, steps=100)
"""


def start(folder, root) -> subprocess.Popen:
    program = PROGRAM.format(root=str(root), folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", program])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_process_killed_for_real(how, tmp_path, request):
    root = request.config.rootpath
    process = start(tmp_path / "part", root)
    log = tmp_path / "part" / "log.jsonl"
    for _ in range(3000):  # wait for the third record, at most 30 s
        if log.exists() and log.read_text().count("\n") >= 3:
            break
        time.sleep(0.01)
    os.kill(process.pid, how)
    code = process.wait(timeout=30)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 0)
    _, state = checkpoint.load(tmp_path / "part")
    assert 11 <= state["step"] < 100
    if how == signal.SIGINT:  # Ctrl-C keeps every step that was done, not only the last checkpoint
        assert state["step"] >= 21
    again = run("topk", Stream(), tmp_path / "part", steps=100)
    assert same(run("topk", Stream(), tmp_path / "whole", steps=100), again)
