"""The folder of SAE-Probes: binary data sets as CSV files, and a table that lists them.

    FOLDER/probing_datasets_MASTER.csv        which data sets there are, and of which kind
    FOLDER/cleaned_data/100_news_fake.csv     columns `prompt` and `target`

Each file may be compressed, as `.csv.zst`. The package `sae-probes` carries them all.
"""

import csv
import importlib.util
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latent_assay.errors import ConfigError, DataError, did_you_mean, require

_TABLE = "probing_datasets_MASTER.csv"
_KIND = "Binary Classification"


@dataclass(frozen=True, kw_only=True)
class BinarySet:
    """Prompts of two classes."""

    name: str
    """The file's name without its ending, such as `100_news_fake`."""
    prompts: tuple[str, ...]
    """What the model reads."""
    positive: tuple[bool, ...]
    """Which prompts have the second of the two targets, in alphabetical (or numerical) order."""
    targets: tuple[str, str]
    """The two targets."""


def binary_sets(folder: str | Path | None = None) -> list[str]:
    """Names of the binary data sets in a folder, in the table's order.

    **Arguments:**
    - `folder`: the folder with the table; None for that of the package `sae-probes`, if installed
      (which is looked at, not imported).

    **Raises:** `DataError` if the folder is not there or has another layout.
    """
    folder = _folder(folder)
    rows = list(csv.DictReader(io.StringIO(_text(folder / _TABLE))))
    columns = ("Data type", "Dataset save name")
    if not rows or any(column not in rows[0] for column in columns):
        raise DataError(
            f"'{folder / _TABLE}' lists no data sets; expected a table with the columns "
            f"{' and '.join(f'`{column}`' for column in columns)}, as SAE-Probes has it."
        )
    names = [Path(row[columns[1]]).stem for row in rows if row[columns[0]] == _KIND]
    if not names:
        raise DataError(f"'{folder / _TABLE}' lists no data set of the kind `{_KIND}`.")
    return names


def read_binary_set(name: str, folder: str | Path | None = None) -> BinarySet:
    """Read one data set.

    **Arguments:**
    - `name`: as `binary_sets` lists it.
    - `folder`: see `binary_sets`.

    **Raises:** `ConfigError` for a name that is not listed, `DataError` if the file is not there,
    or has not two targets, `MissingExtra` if it is compressed and nothing can read that.
    """
    folder = _folder(folder)
    listed = binary_sets(folder)
    if name not in listed:
        raise ConfigError(
            f"'{folder}' lists no data set `{name}`; it has {len(listed)}, from `{listed[0]}` to "
            f"`{listed[-1]}`.{did_you_mean(name, listed)}"
        )
    path = folder / "cleaned_data" / f"{name}.csv"
    rows = list(_rows(path))
    targets = sorted({target for _, target in rows}, key=_order)
    if len(targets) != 2:
        raise DataError(
            f"`{name}` has {len(targets)} targets ({', '.join(targets[:4])}); expected two."
        )
    return BinarySet(
        name=name,
        prompts=tuple(prompt for prompt, _ in rows),
        positive=tuple(target == targets[1] for _, target in rows),
        targets=(targets[0], targets[1]),
    )


def _order(target: str) -> tuple[int, float, str]:
    try:
        return 0, float(target), target
    except ValueError:
        return 1, 0.0, target


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    reader = csv.DictReader(io.StringIO(_text(path)))
    found = reader.fieldnames or []
    for column in ("prompt", "target"):
        if column not in found:
            raise DataError(
                f"'{path}' has no column `{column}`; its columns are {', '.join(found) or 'none'}. "
                "Expected `prompt` and `target`, as in SAE-Probes."
            )
    for row in reader:
        if row["prompt"]:
            yield row["prompt"], row["target"]


def _folder(folder: str | Path | None) -> Path:
    if folder is None:
        found = importlib.util.find_spec("sae_probes")
        if found is None or not found.submodule_search_locations:
            raise DataError(
                "no folder with the data sets of SAE-Probes was given, and the package "
                "`sae-probes`, which carries them, is not installed. Give a folder that holds "
                f"{_TABLE} and cleaned_data/, such as `data` in the repository "
                "JoshEngels/SAE-Probes, or: pip install sae-probes"
            )
        folder = Path(found.submodule_search_locations[0]) / "data"
    folder = Path(folder).expanduser()
    if not any((folder / f"{_TABLE}{ending}").is_file() for ending in ("", ".zst")):
        raise DataError(
            f"'{folder}' is no folder of SAE-Probes: expected {_TABLE} (or {_TABLE}.zst) and a "
            "folder cleaned_data in it. Give the folder `data` of the repository "
            "JoshEngels/SAE-Probes or of the package `sae-probes`."
        )
    return folder


def _text(path: Path) -> str:
    """A file's text, whether it is compressed or not."""
    packed = path.with_name(path.name + ".zst")
    try:
        if path.is_file():
            content = path.read_bytes()
        elif packed.is_file():
            content = _unpacked(packed)
        else:
            raise DataError(
                f"'{path}' is not there, nor '{packed.name}'. Complete the folder, or leave this "
                "data set out."
            )
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' cannot be read: {error}. Get the file again.") from error


def _unpacked(path: Path) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd

        unpack, broken = zstd.decompress, zstd.ZstdError
    else:
        zstandard = require("zstandard", extra="evals", purpose=f"reading '{path.name}'")
        broken = zstandard.ZstdError

        def unpack(content: bytes) -> bytes:
            # a stream, because a frame need not say how large its content is
            return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()

    try:
        return unpack(path.read_bytes())
    except broken as error:
        raise DataError(f"'{path}' is damaged: {error}. Get the file again.") from error
