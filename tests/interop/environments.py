"""Environments of the peers' own, made once and kept in the folder that a variable names."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

VARIABLE = "LATENT_ASSAY_PEERS"
"""Names the folder in which environments are kept."""
REQUIREMENTS = {
    "sae-lens": ["sae-lens==6.54.12"],
    "sparsify": ["eai-sparsify==1.3.0"],
    "dictionary-learning": ["dictionary-learning==0.1.0"],
    "sae-bench": ["sae-bench==0.6.0", "numpy<2"],
}
"""What each peer is installed from."""

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
    folder = Path(os.environ[VARIABLE]).resolve()
    python = folder / peer / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    torch = f"torch=={metadata.version('torch').split('+')[0]}"
    wanted = " ".join([torch, *REQUIREMENTS[peer]])
    stamp = folder / f"{peer}.installed"
    if not python.exists() or not stamp.exists() or stamp.read_text() != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        _call(sys.executable, "-m", "venv", "--clear", folder / peer)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # torch first and then held fast: a free choice would bring gigabytes of CUDA libraries
        _call(*pip, torch)
        constraint = folder / "constraint.txt"
        constraint.write_text(torch + "\n")
        _call(*pip, "--constraint", constraint, *REQUIREMENTS[peer])
        # built for another torch it breaks the import of transformers; no peer needs it
        _call(python, "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision")
        stamp.write_text(wanted)
    return python


def _call(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
