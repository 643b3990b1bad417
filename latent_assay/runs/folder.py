"""Where things lie in a run's folder.

config.json            what was asked for
activations/           what was harvested, for runs on a language model
training/<sae>/        checkpoint and log.jsonl
saes/<sae>/            the trained SAE (an ensemble has a folder per member)
extensions/<name>/     a folder for each setting: logs, and the outcome for each number of latents
report.html, report.json
"""

import re
from pathlib import Path

from latent_assay.errors import FormatError
from latent_assay.runs.config import RunConfig, read_config

CONFIG_FILE = "config.json"


def slug(name: str) -> str:
    """A name as a folder: lower case, letters, digits and dashes.

    >>> slug("Matryoshka (β = 0.25)")
    'matryoshka-0-25'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "sae"


def training_folder(folder: Path, name: str) -> Path:
    """Where the checkpoint and log of an SAE or ensemble are; all their folders' if unnamed."""
    return folder / "training" / slug(name) if name else folder / "training"


def sae_folder(folder: Path, name: str) -> Path:
    """Where a trained SAE is."""
    return folder / "saes" / slug(name)


def extension_folder(folder: Path, name: str) -> Path:
    """Where the settings of an extension are."""
    return folder / "extensions" / slug(name)


def stored_config(folder: Path) -> RunConfig:
    """The configuration of the run in a folder.

    **Raises:** `FormatError` if it is not the folder of a run.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        found = "no such folder" if not folder.exists() else "none there"
        raise FormatError(
            f"'{folder}' is not the folder of a run: expected {CONFIG_FILE} in it, as `assay "
            "train` leaves "
            f"it, found {found}."
        )
    return read_config(path)
