"""A hash of files that is cheap even where they are large."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_HASHED_WHOLE = 2**26
"""Files up to this many bytes are hashed whole; of larger ones 64 pieces are."""


def update_with_files(digest: Any, files: Iterable[tuple[Path, str]]) -> None:
    """Add files, and the names under which they count, to a hash.

    **Arguments:**
    - `digest`: of `hashlib`.
    - `files`: where each is, and its name.
    """
    for path, name in files:
        digest.update(name.encode() + b"\0")
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as file:
            if size <= _HASHED_WHOLE:
                digest.update(file.read())
                continue
            for i in range(64):
                file.seek(i * (size // 64))
                digest.update(file.read(2**16))
