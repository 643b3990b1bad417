"""A configuration trained by several processes leaves what one process leaves."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from latent_assay import load

CONFIG = """
title = "a run on two ranks"
[model]
name = "bundled:all-MiniLM-L6-v2"
hook_point = "blocks.0.hook_resid_post"
text = "text.txt"
tokens = 1_500
context_size = 32
browsed = 300
[training]
steps = 8
batch_size = 64
log_every = 4
[[grid]]
recipe = "batchtopk"
width = 12
lr = 1e-3
[grid.over]
k = [2, 3]
"""


def assay_train(folder: Path, out: str, number: int) -> list[str]:
    """Run the command as `torchrun` would, on so many ranks; what each printed."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    if number > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(number),
            "GLOO_SOCKET_IFNAME": "lo",
        }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "latent_assay", "train", "run.toml", "--out", out, "--json"],
            cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if number > 1 else {}),
        )
        for rank in range(number)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=150) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, error) in zip(processes, said, strict=True):
        assert process.returncode == 0, error[-2000:]
    return [output for output, _ in said]


def test_two_ranks_save_what_one_does(tmp_path):
    text = "\n".join(f"The number {n} is {'even' if n % 2 == 0 else 'odd'}." for n in range(400))
    (tmp_path / "text.txt").write_text(text)
    (tmp_path / "run.toml").write_text(CONFIG)
    assay_train(tmp_path, "alone", 1)
    first, second = assay_train(tmp_path, "shared", 2)
    assert json.loads(first)["report"] == str(Path("shared") / "report.html")
    assert second == ""
    for name in ("batchtopk-k-2", "batchtopk-k-3"):
        one, two = (load(tmp_path / run / "saes" / name) for run in ("alone", "shared"))
        for key, value in one.state_dict().items():
            # Adam makes a step of a fifth of the learning rate out of a rounding error
            torch.testing.assert_close(two.state_dict()[key], value, rtol=1e-4, atol=2e-4)
        assert not torch.equal(one.W_dec, torch.zeros_like(one.W_dec))
    assert (tmp_path / "shared" / "report.html").exists()
