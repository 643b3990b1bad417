"""Text files and folders of them, as documents."""

from collections.abc import Iterator
from pathlib import Path

from latent_assay.errors import DataError

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".py")
"""What text files are called."""

_CHARACTERS_PER_DOCUMENT = 2**16
"""A text file is cut at the first empty line behind this many characters, to bound memory."""


def documents_of_file(path: Path) -> Iterator[str]:
    """A text file as one document, cut at empty lines if it is long.

    **Raises:** `DataError` if it cannot be read, or is not UTF-8.
    """
    lines: list[str] = []
    size = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                lines.append(line)
                size += len(line)
                if size >= _CHARACTERS_PER_DOCUMENT and (
                    not line.strip() or size >= 2 * _CHARACTERS_PER_DOCUMENT
                ):
                    yield "".join(lines)
                    lines, size = [], 0
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' is not UTF-8 text: {error.reason} (byte 0x{error.object[error.start]:02x}). "
            "Convert it to UTF-8, or leave it out."
        ) from error
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}. Check its rights.") from error
    yield "".join(lines)


def files_of_folder(folder: Path) -> list[Path]:
    """Every text file below a folder, sorted by path.

    **Raises:** `DataError` if there is none.
    """
    files = sorted(
        (path for path in folder.rglob("*") if path.suffix in TEXT_SUFFIXES and path.is_file()),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    if not files:
        found = sorted({path.suffix or path.name for path in folder.rglob("*") if path.is_file()})
        raise DataError(
            f"the folder '{folder}' holds no text: expected {', '.join(TEXT_SUFFIXES)} files, "
            f"found {', '.join(found[:8]) or 'nothing'}. Give a data set file by its own path."
        )
    return files
