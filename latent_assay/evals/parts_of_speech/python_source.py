"""Python's own source with the lexical category of each token: labels that are exactly right."""

import builtins
import io
import keyword
import sys
import tokenize
from collections.abc import Iterator, Sequence

from latent_assay.activations.cpython import library_source
from latent_assay.errors import DataError
from latent_assay.evals.parts_of_speech.tagged import Span, TaggedText

CATEGORIES = ("keyword", "builtin", "defined", "attribute", "name", "number", "string", "operator")
"""What `tokenize` tells apart, names divided by what stands before them."""

PACKAGES = ("asyncio", "concurrent", "email", "http", "json", "logging", "unittest", "urllib")
"""The packages whose source is read."""

_BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_"))
_LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
           tokenize.ENCODING, tokenize.COMMENT, tokenize.ERRORTOKEN}  # fmt: skip


def python_source(
    packages: Sequence[str] = PACKAGES, *, n_texts: int = 400, max_lines: int = 12
) -> list[TaggedText]:
    """Pieces of the standard library's source, each token tagged by its lexical category.

    `keyword` (`for`), `builtin` (`len`), `defined` (a name after `def` or `class`), `attribute` (a
    name after a dot), `name` (any other), `number`, `string` (those on one line) and `operator`.
    Comments and strings of several lines, such as docstrings, have no tag. A file is one group.

    **Arguments:**
    - `packages`: top-level packages of the standard library.
    - `n_texts`: the most pieces, as many from each file, evenly spaced.
    - `max_lines`: the most lines of a piece; blank ones end it.

    **Raises:** `DataError` if this Python has no source of them.
    """
    sources = list(library_source(packages))
    share = -(-n_texts // max(1, len(sources)))
    made: list[TaggedText] = []
    for name, source in sources:
        pieces = list(_pieces(name, source, max_lines))
        step = max(1, len(pieces) // share)
        made += pieces[::step][:share]
        if len(made) >= n_texts:
            break
    if not made:
        raise DataError(
            f"this Python has no source of {', '.join(packages)}. Name other packages of the "
            "standard library, or use another Python."
        )
    return made[:n_texts]


def version() -> str:
    """How results call these data; the source changes with Python's version."""
    return f"source of Python {sys.version_info.major}.{sys.version_info.minor}"


def _pieces(name: str, source: str, max_lines: int) -> Iterator[TaggedText]:
    lines = source.splitlines(keepends=True)
    tagged = _tagged(source)
    row = 0
    while row < len(lines):
        if not lines[row].strip():
            row += 1
            continue
        end = row
        while end < len(lines) and end - row < max_lines and lines[end].strip():
            end += 1
        starts = [0]
        for line in lines[row:end]:
            starts.append(starts[-1] + len(line))
        spans = tuple(
            Span(start=starts[number - row] + first, end=starts[number - row] + last, tag=tag)
            for number in range(row, end)
            for first, last, tag in tagged.get(number, ())
        )
        if spans:
            yield TaggedText(text="".join(lines[row:end]), spans=spans, group=name)
        row = end


def _tagged(source: str) -> dict[int, list[tuple[int, int, str]]]:
    """First and last column, and category, of the tokens of each line, lines counted from 0."""
    found: dict[int, list[tuple[int, int, str]]] = {}
    before = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in _LAYOUT:
                continue
            tag = _category(token, before)
            before = token.string
            if tag and token.start[0] == token.end[0]:
                found.setdefault(token.start[0] - 1, []).append((token.start[1], token.end[1], tag))
    except (tokenize.TokenError, SyntaxError):
        return {}  # a template that is no valid Python
    return found


def _category(token: tokenize.TokenInfo, before: str) -> str | None:
    if token.type == tokenize.NAME:
        if keyword.iskeyword(token.string):
            return "keyword"
        if before in ("def", "class"):
            return "defined"
        if before == ".":
            return "attribute"
        return "builtin" if token.string in _BUILTINS else "name"
    return {
        tokenize.NUMBER: "number",
        tokenize.STRING: "string",
        tokenize.OP: "operator",
    }.get(token.type)
