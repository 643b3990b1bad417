"""The page on theory runs from top to bottom and leaves no printed form out."""

import inspect
import re
from pathlib import Path

import pytest

from latent_assay import theory

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"
PRINTED = [
    name
    for module in theory.__all__
    for name, _ in inspect.getmembers(getattr(theory, module), inspect.isfunction)
    if "as_printed" in name
]


def test_snippets_run():
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 10
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


@pytest.mark.parametrize("name", sorted(set(PRINTED)))
def test_every_printed_form_is_on_the_page(name):
    text = PAGE.read_text(encoding="utf-8")
    assert f"{name}`" in text.replace("`…_as_printed_literally`", f"`{name}`")


def test_there_are_printed_forms():
    assert len(set(PRINTED)) >= 14
