"""Peers' own virtual environments, installed from PyPI when first needed."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(__file__).resolve().parent / ".peers"

REQUIREMENTS = {"sae-lens": "sae-lens==6.54.12", "sparsify": "eai-sparsify==1.3.0"}
"""What each peer is installed from."""

CORE = "latent-assay"
"""Latent Assay without extras, installed to see how large that is."""


class Unavailable(Exception):
    """A peer cannot be had; the message says why, without names of this machine."""


@dataclass(frozen=True)
class Environments:
    """Where the interpreter of each side is."""

    given: dict[str, Path]
    """Interpreters that exist already, by side; others are made."""
    folder: Path = FOLDER
    """Where environments are made."""

    def python(self, side: str) -> Path:
        """The interpreter of a side, after installing what it needs.

        **Raises:** `Unavailable` if that fails, as it does without a network.
        """
        if side == "ours":
            return Path(sys.executable)
        if side in self.given:
            return self.given[side]
        environment = self.folder / side
        stamp = environment / ".installed"
        wanted = f"torch=={torch_version()} {REQUIREMENTS.get(side, side)}"
        # our own package changes without a change of its version
        known = side != CORE and stamp.exists() and stamp.read_text() == wanted
        if not known:
            self._install(side, environment)
            stamp.write_text(wanted)
        return _python(environment)

    def site_packages(self, side: str) -> Path:
        """Where the packages of a side lie."""
        program = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
        return Path(subprocess.check_output([self.python(side), "-c", program], text=True).strip())

    def _install(self, side: str, environment: Path) -> None:
        print(f"installing {side} (once) ...", file=sys.stderr)
        python = _python(environment)
        if not python.exists():
            _run([sys.executable, "-m", "venv", "--clear", environment], side)
        torch = f"torch=={torch_version()}"
        pip: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        uninstall: list[str | Path] = [python, "-m", "pip", "uninstall", "--quiet", "--yes"]
        # torch first and then held fast: a free choice would bring gigabytes of CUDA libraries
        _run([*pip, torch], side)
        constraints = environment / "constraints.txt"
        constraints.write_text(torch + "\n")
        pip += ["--constraint", constraints]
        if side == CORE:
            with tempfile.TemporaryDirectory() as folder:
                _run([*uninstall, CORE], side)
                _run([*pip, _sources(Path(folder))], side)
        else:
            _run([*pip, REQUIREMENTS[side]], side)
        # built for another torch it breaks the import of transformers; no peer needs it
        _run([*uninstall, "torchvision"], side)


def torch_version() -> str:
    """The version of our torch, which every peer gets too."""
    return metadata.version("torch").split("+")[0]


def sizes_mb(site_packages: Path) -> dict[str, float]:
    """MB of each distribution in a folder, as its record of installed files lists them."""
    sizes: dict[str, float] = {}
    for distribution in metadata.distributions(path=[str(site_packages)]):
        paths = (Path(str(file.locate())) for file in distribution.files or ())
        sizes[distribution.metadata["Name"]] = (
            sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
        )
    return sizes


def _sources(folder: Path) -> Path:
    """A copy of what a build needs, so that it leaves nothing behind in the sources."""
    target = folder / "sources"
    target.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    shutil.copytree(
        ROOT / "latent_assay",
        target / "latent_assay",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return target


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(command: list[str | Path], side: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr[-2000:], file=sys.stderr)
        raise Unavailable(f"{side} could not be installed")
