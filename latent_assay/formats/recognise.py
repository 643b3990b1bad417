"""Which format a folder or file is of: told from its files, never asked for."""

import os
from dataclasses import dataclass
from pathlib import Path

from latent_assay.errors import FormatError
from latent_assay.formats import dictionary_learning, gemma_scope, hub, saelens, sparsify
from latent_assay.formats.files import is_file, is_folder, names_in, shown
from latent_assay.formats.golden import GOLDEN_FILE
from latent_assay.formats.reading import Origin
from latent_assay.formats.saelens.reader import SCALER_FILE, WHITENING_FILE

NAMES = (
    saelens.CONFIG_FILE,
    saelens.WEIGHTS_FILE,
    SCALER_FILE,
    WHITENING_FILE,
    GOLDEN_FILE,
    sparsify.WEIGHTS_FILE,
    *gemma_scope.FILES,
    dictionary_learning.WEIGHTS_FILE,
    dictionary_learning.CONFIG_FILE,
)
"""Every file that an SAE may be made of, in any format."""

_EXPECTED = (
    f"expected a folder with {saelens.CONFIG_FILE} and {saelens.WEIGHTS_FILE} (SAELens; or "
    f"member_000, member_001 … with these), {sparsify.CONFIG_FILE} and {sparsify.WEIGHTS_FILE} "
    f"(sparsify), {gemma_scope.FILES[0]} (Gemma Scope) or {dictionary_learning.WEIGHTS_FILE} "
    "(dictionary_learning)"
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """Files of a known format."""

    format: str
    """Its name."""
    places: tuple[Path, ...]
    """Folder or file of each member."""
    origin: Origin
    """Where they came from."""


def recognise(source: str | os.PathLike[str]) -> Found:
    """The format of a folder or file, on this machine or on the hub.

    **Arguments:**
    - `source`: a path; or `owner/name`, `owner/name/folder` or `owner/name@revision/folder` on the
      Hugging Face hub, if there is no such path.

    **Raises:** `FormatError` if it is no SAE, saying what is there.
    """
    text = os.fspath(source)
    path = Path(text)
    if is_folder(path) or is_file(path):
        origin = Origin(text="/".join(_absolute(path).parts[-5:]))
        return _local(path, origin)
    place = hub.address(text) if not path.is_absolute() else None
    if place is None:
        raise _none(text, path)
    found, commit = hub.fetch(place, NAMES)
    origin = Origin(text=place.inside, repo_id=place.repo_id, revision=commit or place.revision)
    try:
        return _local(found, origin)
    except FormatError as error:
        raise _not_on_hub(text, place, error) from error


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:  # the working folder is gone
        return path


def _local(path: Path, origin: Origin) -> Found:
    if is_file(path):
        format, place = _format_of_file(path)
        return Found(format=format, places=(place,), origin=origin)
    if (format_and_place := _format_of_folder(path)) is not None:
        return Found(format=format_and_place[0], places=(format_and_place[1],), origin=origin)
    members = [path / name for name in names_in(path) if name.startswith("member_")]
    members = [place for place in members if is_file(place / saelens.CONFIG_FILE)]
    if members:  # member_999 comes before member_1000
        members.sort(key=lambda place: (len(place.name), place.name))
        return Found(format="SAELens", places=tuple(members), origin=origin)
    raise _none(str(path), path)


def _format_of_folder(folder: Path) -> tuple[str, Path] | None:
    if is_file(folder / saelens.CONFIG_FILE):
        # a folder with only the configuration is of the layout that we write, and lacks weights
        ours = is_file(folder / saelens.WEIGHTS_FILE)
        if not ours and is_file(folder / sparsify.WEIGHTS_FILE):
            return "sparsify", folder
        return "SAELens", folder
    for name in gemma_scope.FILES:
        if is_file(folder / name):
            return "Gemma Scope", folder / name
    if is_file(folder / dictionary_learning.WEIGHTS_FILE):
        return "dictionary_learning", folder / dictionary_learning.WEIGHTS_FILE
    return None


def _format_of_file(path: Path) -> tuple[str, Path]:
    if path.suffix == ".npz" or path.name == gemma_scope.FILES[1]:
        return "Gemma Scope", path
    if path.suffix in (".pt", ".pth"):
        return "dictionary_learning", path
    named = (saelens.CONFIG_FILE, saelens.WEIGHTS_FILE, sparsify.WEIGHTS_FILE)
    if path.name in named and (found := _format_of_folder(path.parent)) is not None:
        return found
    raise _none(str(path), path)


def _none(text: str, path: Path) -> FormatError:
    if is_file(path):
        found = "a file"
    elif not is_folder(path):
        found = "no such folder"
    else:
        names = names_in(path)
        listed = shown(", ".join(names[:8]), str) + (" …" if len(names) > 8 else "")
        found = f"a folder with {listed}" if names else "an empty folder"
    inner = _inner(path)
    advice = (
        f"There are SAEs further in: {_few(inner)}."
        if inner
        else "Give the folder that `save` or one of these tools wrote."
    )
    return FormatError(f"'{shown(text, str)}' is no SAE: {_EXPECTED}, found {found}. {advice}")


def _inner(path: Path) -> list[str]:
    """Folders with SAEs, up to three levels down; not a search of the whole disk."""
    found: list[str] = []
    level = [path] if is_folder(path) else []
    for _ in range(3):
        inner = [each / name for each in level[:50] for name in names_in(each, 200)]
        level = [each for each in inner[:2000] if is_folder(each) and not each.name.startswith(".")]
        found += [
            each.relative_to(path).as_posix()
            for each in level
            if _format_of_folder(each) is not None
        ]
    return found


def _not_on_hub(text: str, place: hub.Address, error: FormatError) -> FormatError:
    inner = hub.candidates(place, set(NAMES) - {"config.json"})
    if inner:
        advice = f"SAEs there: {_few(inner)}."
    elif hub.is_offline():
        advice = (
            "HF_HUB_OFFLINE=1 forbids to ask the hub, and the cache lacks the files. Fetch them "
            f"while online with: hf download {place.repo_id}"
            + (f" --include '{place.inside}/*'" if place.inside else "")
        )
    else:
        advice = "Look at the repository for the folder that holds the SAE."
    return FormatError(f"'{text}' is no SAE on the hub: {_EXPECTED}. {advice}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" … ({len(names)} in all)" if len(names) > 6 else "")
