"""Labelled texts: given, read from a file, or made from CPython's own documentation."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from latent_assay.activations.cpython import package_documentation
from latent_assay.errors import ConfigError, DataError

PACKAGES = ("topics", "asyncio", "email", "unittest", "xml")
"""The packages of the standard library, and the language reference, between which the default task
distinguishes: those with the most passages in every Python that is supported."""


@dataclass(frozen=True, kw_only=True)
class LabelledTexts:
    """Texts, each with a label."""

    texts: Sequence[str]
    """What the model reads."""
    labels: Sequence[str]
    """One label per text."""
    name: str
    """How results call these data."""
    groups: Sequence[str] | None = None
    """Texts of one group are never on both sides of a split; None if each stands for itself."""

    def __post_init__(self) -> None:
        lengths = {len(self.texts), len(self.labels)}
        if self.groups is not None:
            lengths.add(len(self.groups))
        if len(lengths) > 1 or not self.texts:
            raise DataError(
                f"{self.name}: expected one label (and group) for each text, and at least one "
                f"text; got {len(self.texts)} texts and {len(self.labels)} labels."
            )
        if len(set(self.labels)) < 2:
            raise DataError(
                f"{self.name}: every text has the label {self.labels[0]!r}, so there is nothing to "
                "tell apart. Give texts of at least two classes."
            )

    @property
    def classes(self) -> list[str]:
        """The labels that occur, in alphabetical order."""
        return sorted(set(self.labels))

    @classmethod
    def read(cls, path: str | Path, *, text: str = "text", label: str = "label") -> "LabelledTexts":
        """Read a CSV file with a header, or a JSON Lines file.

        **Arguments:**
        - `path`: the file; `.csv`, `.jsonl` or `.json` (an object per line).
        - `text`, `label`: names of the columns.

        **Raises:** `DataError` if the file cannot be read, or lacks a column.
        """
        path = Path(path).expanduser()
        rows = list(_rows(path))
        if not rows:
            raise DataError(f"'{path}' holds no rows. Give a file with labelled texts.")
        for column in (text, label):
            if column not in rows[0]:
                raise DataError(
                    f"'{path}' has no column `{column}`; its columns are {', '.join(rows[0])}. "
                    "Name those with texts and labels as `text` and `label`."
                )
        return cls(
            texts=tuple(row[text] for row in rows),
            labels=tuple(str(row[label]) for row in rows),
            name=path.stem,
        )


def python_passages(
    packages: Sequence[str] = PACKAGES, *, min_words: int = 12, max_passages: int = 400
) -> LabelledTexts:
    """Which part of Python's documentation is a passage from?

    Passages are paragraphs of the docstrings of a package, or of the language reference
    (`topics`), without repetitions; the dotted names that head them are left out, as they would
    give the answer away. Which passages there are depends on the Python that runs this; the name
    carries its version, so that results of different versions are not compared.

    **Arguments:**
    - `packages`: top-level packages of the standard library; `topics` for the reference.
    - `min_words`: shorter paragraphs are left out.
    - `max_passages`: the most passages of one package, in the documentation's hashed order.

    **Raises:** `ConfigError` for fewer than two packages, `DataError` if one has no documentation
    in this Python.
    """
    if len(set(packages)) < 2:
        raise ConfigError(f"packages is {list(packages)}; expected at least two to tell apart.")
    texts: list[str] = []
    labels: list[str] = []
    seen: set[str] = set()
    counts = dict.fromkeys(packages, 0)
    for package, page in package_documentation(packages):
        for paragraph in page.split("\n\n"):
            words = paragraph.split()
            passage = " ".join(words)
            if len(words) < min_words or passage in seen or counts[package] == max_passages:
                continue
            seen.add(passage)
            counts[package] += 1
            texts.append(passage)
            labels.append(package)
    if empty := [package for package, count in counts.items() if not count]:
        raise DataError(
            f"this Python documents no package `{empty[0]}`. Choose others of the standard "
            "library, such as asyncio, email, unittest, xml, or `topics` for the reference."
        )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return LabelledTexts(
        texts=tuple(texts), labels=tuple(labels), name=f"documentation of Python {version}"
    )


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if not path.is_file():
        raise DataError(
            f"there is no file '{path}'. Give a CSV file with a header, or a JSON Lines file."
        )
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                yield from csv.DictReader(file)
            elif path.suffix in (".jsonl", ".json"):
                for line in file:
                    if line.strip():
                        yield json.loads(line)
            else:
                raise DataError(
                    f"'{path}' ends in {path.suffix or 'nothing'}; expected .csv or .jsonl."
                )
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise DataError(
            f"'{path}' cannot be read: {error}. Expected UTF-8, as CSV with a header or one JSON "
            "object per line."
        ) from error
