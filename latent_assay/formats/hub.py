"""SAEs on the Hugging Face hub: `owner/name`, `owner/name/folder`, `owner/name@revision/folder`.

Only the files that make up an SAE are fetched, through `huggingface_hub` and into its cache. With
HF_HUB_OFFLINE=1 nothing leaves the machine: what is in the cache is read, and what is not is named.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_assay.errors import FormatError, require
from latent_assay.formats.files import shown

_ADDRESS = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[A-Za-z0-9][\w.-]*))?"
    r"(?:/(?P<inside>[^\\*?\[\]:]+?))?/?",
    re.ASCII,
)
_WEIGHTS = (".npz", ".safetensors", ".pt", ".pth")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A place on the hub."""

    repo_id: str
    """`owner/name`."""
    revision: str | None
    """Branch, tag or commit; the main branch if None."""
    inside: str
    """Folder or file in the repository; empty for its root."""


def address(text: str) -> Address | None:
    """The place that a text means, or None if no place on the hub can be written so."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not text.isprintable():
        return None
    inside = found["inside"] or ""
    if inside and not all(part.strip(". ") for part in inside.split("/")):
        return None  # no way out of the repository, and no empty names
    return Address(repo_id=found["repo"], revision=found["revision"], inside=inside)


def fetch(place: Address, names: Iterable[str]) -> tuple[Path, str | None]:
    """Bring the files of one SAE to this machine.

    **Arguments:**
    - `place`: where they are.
    - `names`: names of the files that an SAE may be made of.

    **Returns:** the folder or file in the cache, and the commit that it is of.

    **Raises:** `MissingExtra` without huggingface_hub; `FormatError` if the repository cannot be
    reached or read, saying what would help.
    """
    hub: Any = require(
        "huggingface_hub",
        extra="hub",
        purpose=f"'{_text(place)}' is nothing on this machine; fetching it from the hub",
    )
    try:
        snapshot = Path(
            hub.snapshot_download(
                place.repo_id,
                revision=place.revision,
                allow_patterns=_patterns(place.inside, list(names)),
            )
        )
    except Exception as error:  # its own, httpx's, requests' and the operating system's
        raise FormatError(_explained(place, error)) from error
    commit = snapshot.name if re.fullmatch(r"[0-9a-f]{40}", snapshot.name) else None
    return (snapshot / place.inside if place.inside else snapshot), commit


def candidates(place: Address, names: Iterable[str]) -> list[str]:
    """Folders of a repository that hold SAEs, if the hub can be asked; a few of them."""
    hub: Any = require("huggingface_hub", extra="hub", purpose="reading from the hub")
    try:
        files = hub.HfApi().list_repo_files(place.repo_id, revision=place.revision)
    except Exception:  # only to help; the error that leads here says what is wrong
        return []
    wanted = set(names)
    folders = {
        file.rpartition("/")[0]
        for file in files
        if isinstance(file, str) and file.isprintable() and file.rpartition("/")[2] in wanted
    }
    return sorted(each for each in folders if each.startswith(place.inside))


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE=1 forbids to ask the hub."""
    hub: Any = require("huggingface_hub.constants", extra="hub", purpose="reading from the hub")
    return bool(hub.HF_HUB_OFFLINE)


def _patterns(inside: str, names: list[str]) -> list[str]:
    folder, patterns = inside, []
    if inside.endswith(_WEIGHTS):
        folder = inside.rpartition("/")[0]
        patterns.append(inside)
        above = folder.rpartition("/")[0]
        patterns.append(f"{above}/config.json" if above else "config.json")
        names = [name for name in names if name.endswith(".json")]
    start = f"{folder}/" if folder else ""
    above = folder.rpartition("/")[0]
    if folder:  # what a run says of all its SAEs
        patterns.append(f"{above}/config.json" if above else "config.json")
    patterns += [f"{start}{name}" for name in names]
    return patterns + [f"{start}member_*/{name}" for name in names]


def _text(place: Address) -> str:
    revision = f"@{place.revision}" if place.revision else ""
    return f"{place.repo_id}{revision}" + (f"/{place.inside}" if place.inside else "")


def _explained(place: Address, error: Exception) -> str:
    kind = type(error).__name__
    fetching = f"hf download {place.repo_id}" + (
        f" --include '{place.inside}/*'" if place.inside else ""
    )
    if is_offline() or kind in ("LocalEntryNotFoundError", "IncompleteSnapshotError"):
        offline = (
            "HF_HUB_OFFLINE=1 forbids to ask the hub" if is_offline() else "it is out of reach"
        )
        return (
            f"'{_text(place)}' is nothing on this machine, is not in the hub's cache, and "
            f"{offline}. Fetch it while online with: {fetching}"
        )
    advice = {
        "GatedRepoError": "accept its licence on the hub, then log in with: hf auth login",
        "RepositoryNotFoundError": "check owner and name; log in with `hf auth login` if private",
        "RevisionNotFoundError": "check the branch, tag or commit after the @",
    }.get(kind, "check the network, or give a folder on this machine")
    return (
        f"'{_text(place)}' is nothing on this machine and cannot be had from the hub "
        f"({kind}: {shown(error, str)}); {advice}."
    )
