"""CPython's own documentation as text: real English and code on every machine, no download.

The language reference (`pydoc_data.topics`) and the docstrings of the standard library are read
from source files with `ast`. Nothing is imported, so nothing of the library can have side effects.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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
    modules = _modules()
    topics = _topics(modules.pop(_TOPICS)) if _TOPICS in modules else {}
    if not modules and not topics:
        raise DataError(
            f"this Python has no source files in '{_library()}', so there is no documentation to "
            "read. Use another Python, or text of your own."
        )
    for name in _in_hashed_order([*topics, *modules]):
        if name in topics:
            yield topics[name]
        elif page := "\n\n".join(_docstrings(_parse(modules[name]), name)):
            yield page


def package_documentation(packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The documents of some top-level packages, each with its package, in the same hashed order.

    **Arguments:**
    - `packages`: names such as `asyncio`, or `topics` for the pages of the language reference. Only
      their files are read. One that this Python does not have yields nothing.
    """
    wanted = set(packages)
    modules = _modules()
    topics = _topics(modules[_TOPICS]) if "topics" in wanted and _TOPICS in modules else {}
    chosen = [name for name in modules if name.split(".")[0] in wanted]
    for name in _in_hashed_order([*topics, *chosen]):
        if name in topics:
            yield "topics", topics[name]
        elif page := "\n\n".join(_docstrings(_parse(modules[name]), name)):
            yield name.split(".")[0], page


def library_source(packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The source of some top-level packages' modules, each with its name, in hashed order.

    A file that is not UTF-8 is passed over.
    """
    wanted = set(packages)
    modules = {name: path for name, path in _modules().items() if name.split(".")[0] in wanted}
    for name in _in_hashed_order(modules):
        with suppress(OSError, UnicodeDecodeError):
            yield name, modules[name].read_text(encoding="utf-8")


def _library() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _modules() -> dict[str, Path]:
    library = _library()
    return {
        ".".join(path.relative_to(library).with_suffix("").parts): path
        for path in library.rglob("*.py")
        if not _LEFT_OUT & set(path.relative_to(library).parts)
    }


def _in_hashed_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


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
