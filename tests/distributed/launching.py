"""Starts ranks as a launcher does."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one rank ended."""

    status: int
    said: str


def launch(
    number: int, job: str, folder: Path, *, timeout: float = 90.0, **arguments: object
) -> list[Ended]:
    """Run a job on so many ranks, and wait until all have ended; none outlives this call."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(number),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "error",
    }
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.distributed.work", job, folder, json.dumps(arguments)]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(number)
    ]
    try:
        if arguments.get("how") in ("stop", "hang"):  # these never end of themselves
            lost = int(str(arguments["rank"]))
            for rank, process in enumerate(processes):
                if rank != lost:
                    process.wait(timeout)
            processes[lost].kill()
        said = [process.communicate(timeout=timeout)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [
        Ended(status=process.returncode, said=text)
        for process, text in zip(processes, said, strict=True)
    ]


def succeed(number: int, job: str, folder: Path, **arguments: object) -> None:
    """Run a job that must end well on every rank."""
    for rank, ended in enumerate(launch(number, job, folder, **arguments)):
        assert ended.status == 0, f"rank {rank}: {ended.said}"
