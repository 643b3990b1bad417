"""Environments of the peers' own, made once and kept in the folder that a variable names."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from filelock import FileLock

VARIABLE = "LATENT_ASSAY_PEERS"
"""Names the folder in which environments are kept."""
REQUIREMENTS = {
    "sae-lens": ["sae-lens==6.54.12"],
    "sparsify": ["eai-sparsify==1.3.0"],
    "dictionary-learning": ["dictionary-learning==0.1.0"],
    "sae-bench": ["sae-bench==0.6.0", "numpy<2"],
}
"""What each peer is installed from."""

_PATIENCE = 1_800
_SCRIPTS = Path(__file__).parent / "peers"


def run(peer: str, command: str, folder: Path) -> None:
    """Run a command of the peer's script in the peer's environment."""
    name = peer.replace("-", "_")
    done = subprocess.run(
        [_python(peer), _SCRIPTS / f"{name}_peer.py", command, folder],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"},
        timeout=600,
    )
    assert done.returncode == 0, f"{peer} {command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _python(peer: str) -> Path:
    """The peer's Python, in an environment that is built first if it is not there as wanted."""
    folder = Path(os.environ[VARIABLE]).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / peer / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    torch = f"torch=={metadata.version('torch').split('+')[0]}"
    wanted = " ".join([torch, *REQUIREMENTS[peer]])
    stamp = folder / f"{peer}.installed"
    with FileLock(folder / f"{peer}.lock"):  # runs that share the folder build it once
        if not python.exists() or not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            _build(peer, python, torch, folder)
            stamp.write_text(wanted)
    return python


def _build(peer: str, python: Path, torch: str, folder: Path) -> None:
    _call(peer, sys.executable, "-m", "venv", "--clear", folder / peer)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # torch first and then held fast: a free choice would bring gigabytes of CUDA libraries
    _call(peer, *pip, "install", torch)
    constraint = folder / f"{peer}.constraint.txt"
    constraint.write_text(torch + "\n")
    _call(peer, *pip, "install", "--constraint", constraint, *REQUIREMENTS[peer])
    # built for another torch it breaks the import of transformers; no peer needs it
    _call(peer, *pip, "uninstall", "--yes", "torchvision")


def _call(peer: str, *command: object) -> None:
    words = list(map(str, command))
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE)
        told = "" if done.returncode == 0 else f"{done.stdout[-1000:]}{done.stderr[-4000:]}"
        broken = done.returncode != 0
    except subprocess.TimeoutExpired:
        told, broken = f"not done after {_PATIENCE // 60} minutes", True
    if broken:
        pytest.fail(
            f"the environment of {peer} could not be built in '{os.environ[VARIABLE]}'. The step\n"
            f"    {' '.join(words)}\nended with\n{told}\n"
            "It needs about 2 GB of disk and a package index. Where there is none, let "
            f"{VARIABLE} name a folder in which the environments are built already.",
            pytrace=False,
        )
