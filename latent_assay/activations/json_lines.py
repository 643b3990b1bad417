"""Files with one JSON object per line, as documents."""

import json
from collections.abc import Iterator
from pathlib import Path

from latent_assay.activations.contexts import TokenRow
from latent_assay.activations.token_rows import token_row
from latent_assay.errors import DataError

JSON_LINES = (".jsonl", ".ndjson")
"""What such files are called."""


def documents_of_json_lines(path: Path, column: str | None) -> Iterator[str | TokenRow]:
    """The documents of a file with one JSON object per line.

    **Arguments:**
    - `path`: the file.
    - `column`: the field with the text or the token numbers; None for `text`, or for `input_ids`
      where there is no text.

    **Raises:** `DataError` naming the line that is no object with that field.
    """
    name = column or _field_of(path)
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"line {number} of '{path}' is not JSON: {error.msg}. Expected one object per "
                    f'line, as {{"{name}": "..."}}.'
                ) from error
            if not isinstance(record, dict) or name not in record:
                fields = ", ".join(record) if isinstance(record, dict) else type(record).__name__
                raise DataError(
                    f"line {number} of '{path}' has no field `{name}`; found {fields}. "
                    "Give the field that holds the text as `column`."
                )
            value = record[name]
            yield token_row(record, name) if isinstance(value, list | tuple) else value


def _field_of(path: Path) -> str:
    """`text`, or `input_ids` if the first line has only that."""
    with path.open(encoding="utf-8") as file:
        line = next((line for line in file if line.strip()), "")
    return "input_ids" if '"input_ids"' in line and '"text"' not in line else "text"
