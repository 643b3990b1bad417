"""What has been asked and answered so far, kept so that nothing is asked twice."""

import json
import os
from pathlib import Path
from typing import Any

from latent_assay.atomic import storage_errors, write_json
from latent_assay.errors import ConfigError, FormatError

_SETTINGS = "settings.json"


class Ledger:
    """A folder of JSON Lines files, one entry per key, to which entries are only added.

    An entry that was cut short by a crash is dropped when the file is read again.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Open a folder, new or begun with the same settings.

        **Arguments:**
        - `folder`: made if it is not there.
        - `settings`: whatever the entries depend on.

        **Raises:** `ConfigError` if it was begun with other settings.
        """
        self.folder = folder
        place = folder / _SETTINGS
        plain = json.loads(json.dumps(settings))
        if place.is_file():
            try:
                stored = json.loads(place.read_text(encoding="utf-8"))
            except ValueError as error:
                raise FormatError(
                    f"'{place}' is not JSON: {error}. Remove the folder, or choose another."
                ) from error
            changed = sorted(key for key in {*stored, *plain} if stored.get(key) != plain.get(key))
            if changed:
                key = changed[0]
                raise ConfigError(
                    f"'{folder}' was begun with other settings: `{key}` is {stored.get(key)!r} "
                    f"there and {plain.get(key)!r} now. Choose another folder, or remove this one."
                )
        else:
            write_json(place, plain)

    def read(self, name: str) -> dict[int, Any]:
        """The entries of one file by key."""
        place = self.folder / f"{name}.jsonl"
        found: dict[int, Any] = {}
        if not place.is_file():
            return found
        for line in place.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                found[int(entry["key"])] = entry["value"]
            except (ValueError, KeyError, TypeError):
                continue  # cut short by a crash; it will be made again
        return found

    def add(self, name: str, key: int, value: Any) -> None:
        """Add an entry and flush it to the disk.

        **Raises:** `StorageError` if it cannot be written.
        """
        place = self.folder / f"{name}.jsonl"
        line = json.dumps({"key": key, "value": value}, ensure_ascii=False, allow_nan=False)
        with storage_errors(place), place.open("ab") as file:
            # a line that was cut short must not swallow this one
            broken = file.tell() > 0 and _last_byte(place) != b"\n"
            file.write((("\n" if broken else "") + line + "\n").encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())


def _last_byte(place: Path) -> bytes:
    with place.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
