"""A rank that dies or hangs ends the run on the others, who say which and where to go on."""

import os
import socket
import subprocess
import sys

import pytest

from latent_assay import checkpoint
from latent_assay.distributed import Ranks
from latent_assay.errors import ConfigError

from . import work
from .launching import ROOT, launch


@pytest.mark.parametrize(
    ("ranks", "rank", "how", "says"),
    [
        (3, 1, "kill", "gives no sign of life: it was killed or stopped"),
        (2, 1, "raise", "ended with: RuntimeError: the disk is on fire"),
        (2, 1, "stop", "gives no sign of life: it was killed or stopped"),
        (2, 1, "hang", "is alive but did not come to an exchange within 12 s"),
        (2, 0, "kill", "the store that all ranks meet at gives no answer"),
    ],
)
def test_the_others_name_it(tmp_path, ranks, rank, how, says):
    ended = launch(ranks, "losing", tmp_path, rank=rank, step=45, how=how, patience=12.0)
    for other in {*range(ranks)} - {rank}:
        assert ended[other].status == 3, ended[other].said
        said = ended[other].said
        assert f"RankLost: rank {rank} of {ranks}" in said, said
        assert says in said, said
        assert f"The last good checkpoint, of step 40, is in '{tmp_path / 'run'}'" in said
    _, state = checkpoint.load(tmp_path / "run")
    assert state["step"] == 40
    if ranks == 3:  # and so they can, even in one process
        _, history = work.train("topk", folder=tmp_path / "run")
        assert history.steps[-1] == work.STEPS


def test_a_meeting_waits_for_the_late_and_not_for_the_dead(tmp_path):
    late, dead = launch(2, "meeting", tmp_path, killed=True)
    assert (tmp_path / "met-0").exists(), late.said
    assert (tmp_path / "met-1").exists()
    assert late.status == 3
    assert "RankLost: rank 1 of 2" in late.said
    assert dead.status < 0


def test_torchrun_shows_the_message_of_the_survivor(tmp_path):
    """It ends the others as soon as one has died; they still come to say which."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = '{"rank": 1, "step": 25, "how": "kill"}'
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(port), "-m", "tests.distributed.work", "losing"]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, str(tmp_path), arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode != 0
    assert "RankLost: rank 1 of 2" in ended.stderr, ended.stderr
    assert "The last good checkpoint, of step 20" in ended.stderr


def test_a_process_that_nobody_launched_is_told_how(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert not Ranks.launched()
    with pytest.raises(ConfigError, match=r"RANK.* not set\); start it with `torchrun"):
        Ranks.join()
