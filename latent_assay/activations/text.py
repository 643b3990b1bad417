"""Documents from wherever text is kept: files, folders, data sets, Python itself."""

import hashlib
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from latent_assay.activations.contexts import TokenRow
from latent_assay.activations.cpython import cpython_documentation
from latent_assay.activations.file_hash import update_with_files
from latent_assay.activations.json_lines import JSON_LINES, documents_of_json_lines
from latent_assay.activations.tables import TABLES, rows_of_table
from latent_assay.activations.text_files import (
    TEXT_SUFFIXES,
    documents_of_file,
    files_of_folder,
)
from latent_assay.activations.token_rows import token_row
from latent_assay.errors import DataError, did_you_mean, require

_PURPOSE = "reading a data set"

TextInput = Any
"""What `documents` takes: `TextSource`, str, Path, iterable of strings, or `datasets` object."""
Document = str | TokenRow
"""A text, or a row of token numbers."""


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where text comes from, in a form that a manifest can hold."""

    kind: str
    """'cpython', 'file', 'folder', 'json lines', 'table', 'saved data set', 'hub', or 'python'."""
    location: str = ""
    """File, folder or hub name; empty for objects in memory."""
    column: str | None = None
    """Column or JSON field that holds the text, or lists of token numbers; None: `text`,
    `input_ids`, or the only one with strings."""
    split: str | None = None
    """Which part of a data set, as 'train'."""
    subset: str | None = None
    """Configuration of a hub data set, as 'en'."""
    streaming: bool = True
    """Whether a hub data set is read as it downloads."""
    content: Any = field(default=None, repr=False, compare=False)
    """The object itself, for text in memory."""

    def __iter__(self) -> Iterator[Document]:
        """Every document that is not empty.

        **Raises:** `DataError` if there is none, or one is neither text nor token numbers.
        """
        return (document for _, document in self.numbered())

    def numbered(self, start: int = 0) -> Iterator[tuple[int, Document]]:
        """Documents with their numbers, which count empty ones too, from number `start` on.

        What can be skipped without reading it (a `datasets` object, a list) is.

        **Raises:** as `__iter__`; that there is none only if `start` is 0.
        """
        source, skipped = self, 0
        content = self.content
        if start and isinstance(content, list | tuple):
            source, skipped = replace(self, content=content[start:]), start
        elif start and hasattr(content, "column_names") and hasattr(content, "skip"):
            source, skipped = replace(self, content=content.skip(start)), start
        found = start > 0
        for number, document in enumerate(_READERS[source.kind](source), start=skipped):
            if number < start:
                continue
            if isinstance(document, str):
                if not document.strip():
                    continue
            elif not isinstance(document, TokenRow):
                raise DataError(
                    f"document {number} of {self} is a {type(document).__name__}; expected a "
                    "string. Name the column that holds the text, or convert the documents."
                )
            elif not document.token_ids:
                continue
            found = True
            yield number, document
        if not found:
            raise DataError(
                f"{self} holds no text: there is no document, or all are empty. "
                "Check the file or choose another source."
            )

    @property
    def can_be_read_again(self) -> bool:
        """Whether reading it a second time gives the same; false for generators."""
        return not (self.kind == "python" and isinstance(self.content, Iterator))

    def __str__(self) -> str:
        names = {"cpython": "CPython's documentation", "python": "the Python object"}
        what = names.get(self.kind, f"the {self.kind} '{self.location}'")
        details = [part for part in (self.subset, self.split, self.column) if part]
        return f"{what} ({', '.join(details)})" if details else what

    def describe(self) -> dict[str, Any]:
        """The source as JSON: its fields, and its hash where one can be had without reading it all.

        A file or folder is named without the way to it, so that a manifest tells nothing about the
        machine it was written on.
        """
        name = self.location if self.kind == "hub" else Path(self.location).name
        return {
            "kind": self.kind,
            "location": name,
            "column": self.column,
            "split": self.split,
            "subset": self.subset,
            "hash": self.hash(),
        }

    def hash(self) -> str | None:
        """A hash of the text; None for iterators and hub data sets, which cannot be read ahead.

        For CPython's documentation it is the version of Python.
        """
        if self.kind == "cpython":
            return f"{platform.python_implementation()} {platform.python_version()}"
        digest = hashlib.sha256()
        if self.kind == "python":
            if not isinstance(self.content, list | tuple):
                return getattr(self.content, "_fingerprint", None)
            for document in self.content:
                digest.update(str(document).encode("utf-8", "surrogatepass") + b"\0")
        elif self.kind == "hub":
            return None
        else:
            update_with_files(digest, _files_behind(self))
        return digest.hexdigest()[:32]


def documents(
    source: TextInput,
    *,
    column: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    streaming: bool = True,
) -> Iterator[Document]:
    """Iterate over the documents of a source, in a fixed order; see `text_source`.

    >>> list(documents(["one", "", "two"]))
    ['one', 'two']
    """
    return iter(text_source(source, column=column, split=split, subset=subset, streaming=streaming))


def text_source(
    source: TextInput,
    *,
    column: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    streaming: bool = True,
) -> TextSource:
    """Find out what a source is.

    - `"cpython"`: the language reference and the docstrings of the standard library, in an order
      that looks random but is fixed, so that every beginning of it is a fair sample. Needs no
      download; nothing of the library is imported.
    - a text file: one document, cut at an empty line about every 65,000 characters.
    - a folder: every `.txt`, `.md`, `.rst` and `.py` file below it, sorted by path.
    - a `.jsonl` file: one object per line, its text in the field `column` (default `text`).
    - a `.csv`, `.parquet` or `.arrow` file, a folder written by `save_to_disk`, or the name of a
      data set on the Hugging Face hub: read with `datasets`.
    - any Python iterable of strings, or a `datasets` object.

    A data set with a column `input_ids` and no `text` is *pre-tokenised*: each row is a context as
    it stands. Of its other columns, `attention_mask` (0 for padding) and `length` say how much of a
    row counts, and `special_tokens_mask` (1 for special) which tokens are special; without the
    latter, those are that the model's tokenizer calls so.

    **Arguments:**
    - `source`: one of these; a `TextSource` is returned as it is.
    - `column`: field or column with the text.
    - `split`: part of a data set; by default the only one, or `train`.
    - `subset`: configuration of a hub data set.
    - `streaming`: read a hub data set as it downloads instead of downloading it first.

    **Raises:** `DataError` if there is no such file or it is not text.
    """
    if isinstance(source, TextSource):
        return source
    settings: dict[str, Any] = {
        "column": column, "split": split, "subset": subset, "streaming": streaming
    }  # fmt: skip
    if not isinstance(source, str | Path):
        rows = hasattr(source, "column_names")  # a `datasets` object; one with splits is a dict
        if not rows and (not isinstance(source, Iterable) or isinstance(source, dict | bytes)):
            raise DataError(
                f"text cannot be read from a {type(source).__name__}; expected a file, a folder, "
                "'cpython', a data set, or an iterable of strings."
            )
        return TextSource(kind="python", content=source, **settings)
    if source == "cpython":
        return TextSource(kind="cpython")
    path = Path(source).expanduser()
    location = str(path)
    if path.is_dir():
        saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
        kind = "saved data set" if saved else "folder"
        return TextSource(kind=kind, location=location, **settings)
    if path.is_file():
        kind = "table" if path.suffix in TABLES else "file"
        kind = "json lines" if path.suffix in JSON_LINES else kind
        return TextSource(kind=kind, location=location, **settings)
    name = str(source)
    if isinstance(source, Path) or path.suffix in (*TEXT_SUFFIXES, *JSON_LINES, *TABLES):
        raise DataError(f"there is no file or folder '{name}'. Check the path.{_beside(path)}")
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or any(c.isspace() for c in name):
        raise DataError(
            f"there is no file or folder '{name}', and it is no name of a data set. To use a text "
            "itself, give it in a list: [text]."
        )
    return TextSource(kind="hub", location=name, **settings)


def _beside(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder '{path.parent}' does not exist either."
    return did_you_mean(path.name, sorted(entry.name for entry in path.parent.iterdir()))


# --- readers, one per kind ------------------------------------------------------------------------


def _read_folder(source: TextSource) -> Iterator[str]:
    for path in files_of_folder(Path(source.location)):
        yield from documents_of_file(path)


def _read_table(source: TextSource) -> Iterator[Document]:
    path = Path(source.location)
    try:
        yield from _column(rows_of_table(path), source)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"'{path}' cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]} "
            "Check that the file is complete."
        ) from error


def _read_saved(source: TextSource) -> Iterator[Document]:
    datasets = require("datasets", extra="lm", purpose=_PURPOSE)
    try:
        data = datasets.load_from_disk(source.location)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the data set in '{source.location}' cannot be read: {str(error).splitlines()[0]} "
            "Save it again with save_to_disk."
        ) from error
    yield from _column(_split(data, source), source)


def _read_hub(source: TextSource) -> Iterator[Document]:
    datasets = require("datasets", extra="lm", purpose=_PURPOSE)
    try:
        data = datasets.load_dataset(
            source.location, source.subset, streaming=source.streaming, split=source.split
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{source.location}` is neither a file or folder here nor a data set that the Hugging "
            f"Face hub gave: {str(error).splitlines()[0]} Check the name, subset and split; or, "
            "where there is no network, save it to disk elsewhere and give the folder."
        ) from error
    yield from _column(_split(data, source), source)


def _read_python(source: TextSource) -> Iterator[Any]:
    if hasattr(source.content, "column_names"):  # a `datasets` object
        yield from _column(_split(source.content, source), source)
    else:
        yield from source.content


def _split(data: Any, source: TextSource) -> Any:
    """One part of a data set that may have several."""
    if not isinstance(data, dict):
        return data
    wanted = source.split or ("train" if "train" in data else next(iter(data), ""))
    if wanted not in data or (source.split is None and len(data) > 1 and "train" not in data):
        raise DataError(
            f"{source} has the splits {', '.join(data) or 'none'}; "
            + (f"there is no `{wanted}`. " if source.split else "name one as `split`. ")
            + "Choose one of them."
        )
    return data[wanted]


def _column(data: Any, source: TextSource) -> Iterator[Document]:
    rows = iter(data)
    first = next(rows, None)
    if first is None:
        return
    if not isinstance(first, dict):
        raise DataError(
            f"{source} yields {type(first).__name__}; expected rows with named columns."
        )
    strings = [name for name, value in first.items() if isinstance(value, str)]
    usual = [name for name in ("text", "input_ids") if name in first]
    name = source.column or (usual[0] if usual else None)
    if name is None and len(strings) == 1:
        name = strings[0]
    if name is None or name not in first:
        raise DataError(
            f"{source} has no column `{name or 'text'}`; its columns are {', '.join(first)}."
            f"{did_you_mean(name, first) if name else ''} Give the one with the text as `column`."
        )
    for row in chain([first], rows):
        value = "" if row[name] is None else row[name]
        if hasattr(value, "tolist"):  # an array, where the data set was given a format
            value = value.tolist()
        yield token_row(row, name) if isinstance(value, list | tuple) else value


_READERS = {
    "cpython": lambda _: cpython_documentation(),
    "file": lambda source: documents_of_file(Path(source.location)),
    "folder": _read_folder,
    "json lines": lambda source: documents_of_json_lines(Path(source.location), source.column),
    "table": _read_table,
    "saved data set": _read_saved,
    "hub": _read_hub,
    "python": _read_python,
}


def _files_behind(source: TextSource) -> Iterator[tuple[Path, str]]:
    path = Path(source.location)
    if path.is_file():
        yield path, ""
    elif source.kind == "folder":
        for file in files_of_folder(path):
            yield file, file.relative_to(path).as_posix()
    else:  # a saved data set: its state files carry a fingerprint of the tables
        for file in sorted(path.rglob("state.json")):
            yield file, file.relative_to(path).as_posix()
