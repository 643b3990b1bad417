"""Files that may come from anyone: only regular ones are opened, and only within bounds.

A pipe or a device would never end, a header may promise more than the file holds, and a text may
carry control characters to the reader's terminal. All of that is decided here, before a format
looks at the content.
"""

import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from latent_assay.errors import FormatError
from latent_assay.formats.stored import Stored

JSON_BYTES = 16 * 2**20
"""The largest configuration that is read."""
JSON_DEPTH = 64
"""The deepest nesting that is read."""


def is_file(path: Path) -> bool:
    """Whether a path leads to a regular file, through links or not."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def names_in(folder: Path, most: int = 10_000) -> list[str]:
    """Names of what lies in a folder, sorted; of a huge folder only some."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                if len(names) >= most:
                    break
    except (OSError, ValueError):
        return []
    return sorted(names)


def regular(path: Path) -> int:
    """The size of a regular file.

    **Raises:** `FormatError` if there is none, or it is a folder, a pipe or a device.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise FormatError(
            f"'{path}' is missing, truncated or corrupted ({error}). Copy it anew from where it "
            "came."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise FormatError(
            f"'{path}' is missing, truncated or corrupted (it is a folder, a pipe or a device); "
            "expected a regular file. Copy it anew from where it came."
        )
    return status.st_size


@contextmanager
def damage(path: Path, kind: str) -> Iterator[None]:
    """Turn what a reader says about a damaged file into a `FormatError`."""
    try:
        yield
    except FormatError:
        raise
    except (
        OSError,
        SafetensorError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        RuntimeError,
        MemoryError,
        EOFError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise FormatError(
            f"'{path}' is missing, truncated or corrupted ({shown(error, str)}); expected {kind}. "
            "Copy it anew, or save the SAE again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, its texts without control characters."""
    size = regular(path)
    if size > JSON_BYTES:
        raise FormatError(
            f"'{path}' cannot be read as JSON: it has {size:,} bytes, and a configuration has at "
            f"most {JSON_BYTES:,}. Copy it anew from where it came."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cleaned = clean(content)
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(
            f"'{path}' cannot be read as JSON ({shown(error, str)}); copy it anew from where it "
            "came."
        ) from error
    if not isinstance(cleaned, dict):
        raise FormatError(f"'{path}' must hold a JSON object, found {type(content).__name__}.")
    return cleaned


def safetensors(path: Path) -> dict[str, Stored]:
    """The tensors in a safetensors file, by name, none of them read yet."""
    regular(path)

    def reader(name: str) -> Tensor:
        with damage(path, "a safetensors file"), safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    with damage(path, "a safetensors file"), safe_open(path, framework="pt") as file:
        found = {}
        for name in file.keys():  # noqa: SIM118
            view = file.get_slice(name)
            found[name] = Stored(
                shape=tuple(view.get_shape()),
                dtype=str(view.get_dtype()),
                read=lambda name=name: reader(name),  # type: ignore[misc]
            )
        return found


def clean(value: Any, depth: int = 0) -> Any:
    """The same content without control characters and halves of surrogate pairs.

    **Raises:** `ValueError` if it is nested too deeply.
    """
    if depth > JSON_DEPTH:
        raise ValueError(f"nested more than {JSON_DEPTH} levels deep")
    if isinstance(value, dict):
        return {clean(str(name)): clean(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [clean(each, depth + 1) for each in value]
    if isinstance(value, str) and not value.isprintable():
        return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in value)
    return value


def shown(value: object, to_text: Any = repr) -> str:
    """A value in an error message: on one line, without control characters, not too long."""
    try:
        text = clean(to_text(value)).replace("\n", " ")
    except (ValueError, RecursionError):  # a number with thousands of digits
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 160 else f"{text[:157]}…"
