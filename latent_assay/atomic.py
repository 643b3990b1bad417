"""Writes that happen wholly or not at all.

A folder or file is written beside its target under a temporary name, flushed to the disk, and
renamed into place. A crash, a full disk or a killed process leaves either the old content or
the new, never a mixture.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from latent_assay.errors import StorageError


@contextmanager
def new_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder that replaces `target` when the block ends without an error.

    **Raises:** `StorageError` if the disk is full or the place is not writable; `target` is then
    as it was before.
    """
    target = Path(target)
    with _storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_dir():
            raise StorageError(
                f"cannot save to '{target}': expected a folder or a new name, found a file. "
                "Choose another name or remove the file."
            )
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        with _storage_errors(target):
            yield draft
            for path in draft.rglob("*"):
                if path.is_file():
                    _flush(path)
            draft.chmod(0o755)
            _replace_folder(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a text file wholly or not at all."""
    target = Path(target)
    with _storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".part", dir=target.parent
        )
        draft = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.chmod(0o644)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def write_json(target: str | os.PathLike[str], content: Any) -> None:
    """Write JSON wholly or not at all; NaN and infinity are refused, as JSON has neither."""
    write_text(target, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_tensors(
    target: str | os.PathLike[str],
    tensors: dict[str, Tensor],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write a safetensors file wholly or not at all."""
    target = Path(target)
    with _storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            # contiguous clones: safetensors refuses views that share storage
            save_file(
                {
                    name: tensor.detach().cpu().contiguous().clone()
                    for name, tensor in tensors.items()
                },
                draft,
                metadata=metadata,
            )
            _flush(draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def plain(value: Any) -> Any:
    """The same content in what JSON has: tuples become lists, infinities and NaN become words."""
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _replace_folder(draft: Path, target: Path) -> None:
    """Put `draft` in the place of `target`. Two renames; a crash between them leaves both."""
    if not target.exists():
        draft.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(old / target.name)
    try:
        draft.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _storage_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except (OSError, SafetensorError) as error:
        if isinstance(error, SafetensorError) and "Error while serializing" not in str(error):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StorageError(
            f"could not write '{target}': {reason}. What was there before is untouched. "
            "Free some space or choose a place that can be written, then run again."
        ) from error
