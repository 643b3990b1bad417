"""Writes that happen wholly or not at all.

A folder or file is written beside its target under a temporary name, flushed to the disk, and
renamed into place. A crash, a full disk or a killed process leaves either the old content or
the new, never a mixture.
"""

import glob
import json
import os
import secrets
import shutil
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
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_dir():
            raise StorageError(
                f"cannot save to '{target}': expected a folder or a new name, found a file. "
                "Choose another name or remove the file."
            )
        draft = _beside(target, "part")
        draft.mkdir()
    try:
        with storage_errors(target):
            yield draft
            for path in draft.rglob("*"):
                if path.is_file():
                    _flush(path)
            _replace_folder(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a text file wholly or not at all."""
    target = Path(target)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = _beside(target, "part")
        try:
            with draft.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
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
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = _beside(target, "part")
        try:
            draft.touch()
            mode = draft.stat().st_mode
            # contiguous clones: safetensors refuses views that share storage
            save_file(
                {
                    name: tensor.detach().cpu().contiguous().clone()
                    for name, tensor in tensors.items()
                },
                draft,
                metadata=metadata,
            )
            draft.chmod(mode)  # safetensors leaves files that only their owner can read
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


def recover(target: str | os.PathLike[str]) -> None:
    """Clear away what a killed process left beside `target`.

    Drafts go, and a folder that was caught between the two renames of `new_folder` returns to its
    place. Only for a place where nobody else is writing.
    """
    target = Path(target)
    hidden = f".{glob.escape(target.name)}."
    with storage_errors(target):
        for old in target.parent.glob(f"{hidden}*.old"):
            kept = old / target.name
            if kept.exists() and not target.exists():
                kept.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        for draft in target.parent.glob(f"{hidden}*.part"):
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)


@contextmanager
def storage_errors(target: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the operating system says about writing `target` into a `StorageError`."""
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


def _beside(target: Path, suffix: str) -> Path:
    """A new hidden name beside a target; what is made there has the permissions that the user's
    umask gives, as tempfile's would not."""
    return target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.{suffix}"


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _replace_folder(draft: Path, target: Path) -> None:
    """Put `draft` in the place of `target`. Two renames; see `recover` for a kill between them."""
    if not target.exists():
        draft.rename(target)
        return
    old = _beside(target, "old")
    kept = old / target.name
    old.mkdir()
    try:
        target.rename(kept)
        draft.rename(target)
    except BaseException:  # Ctrl-C too must not lose what was there
        if kept.exists() and not target.exists():
            kept.rename(target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
