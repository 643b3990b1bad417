"""CPython's own documentation as text: real English and code on every machine, no download.

The language reference (`pydoc_data.topics`) and the docstrings of the standard library are read
from source files with `ast`. Nothing is imported, so nothing of the library can have side effects.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from latent_assay.errors import DataError

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
_TOPICS = "pydoc_data.topics"


def cpython_documentation() -> Iterator[str]:
    """One document per page of the language reference and per module of the standard library.

    A module's document is its docstrings, each under the name of what it describes. The order is
    that of a hash of the names: it looks random, yet is the same everywhere, so every beginning of
    the sequence is a fair sample (alphabetical order would open with `abc`, `aifc`, `argparse`).

    **Raises:** `DataError` if this Python came without its source files.
    """
    library = Path(sysconfig.get_path("stdlib"))
    modules = {
        ".".join(path.relative_to(library).with_suffix("").parts): path
        for path in library.rglob("*.py")
        if not _LEFT_OUT & set(path.relative_to(library).parts)
    }
    topics = _topics(modules.pop(_TOPICS)) if _TOPICS in modules else {}
    if not modules and not topics:
        raise DataError(
            f"this Python has no source files in '{library}', so there is no documentation to "
            "read. Use another Python, or text of your own."
        )
    for name in sorted([*topics, *modules], key=lambda n: hashlib.sha256(n.encode()).digest()):
        if name in topics:
            yield topics[name]
        elif page := "\n\n".join(_docstrings(_parse(modules[name]), name)):
            yield page


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return ast.Module(body=[], type_ignores=[])  # a template that is no valid Python


def _topics(path: Path) -> dict[str, str]:
    """The one dictionary literal in `pydoc_data.topics`: heading to text of the reference."""
    for node in _parse(path).body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Dict):
            return {f"topic {name}": text for name, text in ast.literal_eval(value).items()}
    return {}


def _docstrings(node: ast.AST, name: str) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if docstring := ast.get_docstring(node):
            yield f"{name}\n\n{docstring}"
        for child in node.body:
            yield from _docstrings(child, f"{name}.{getattr(child, 'name', '')}")
