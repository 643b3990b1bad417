"""Rows of a table on disk. pyarrow comes with datasets, whose own readers leave files open."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latent_assay.errors import require

TABLES = (".csv", ".parquet", ".arrow")
_PURPOSE = "reading a table"


def rows_of_table(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table, a block at a time.

    **Raises:** `OSError` or `ValueError`, as pyarrow does, if the file is not what its name says.
    """
    if path.suffix == ".parquet":
        parquet = require("pyarrow.parquet", extra="lm", purpose=_PURPOSE)
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    elif path.suffix == ".csv":
        csv = require("pyarrow.csv", extra="lm", purpose=_PURPOSE)
        options = {
            "parse_options": csv.ParseOptions(newlines_in_values=True),
            "read_options": csv.ReadOptions(block_size=2**24),  # more than any one text
        }
        with csv.open_csv(path, **options) as file:
            for batch in file:
                yield from batch.to_pylist()
    else:
        arrow = require("pyarrow", extra="lm", purpose=_PURPOSE)
        with arrow.memory_map(str(path)) as mapped:
            try:
                file = arrow.ipc.open_stream(mapped)
            except arrow.ArrowInvalid:
                mapped.seek(0)
                whole = arrow.ipc.open_file(mapped)
                file = (whole.get_batch(i) for i in range(whole.num_record_batches))
            for batch in file:
                yield from batch.to_pylist()
