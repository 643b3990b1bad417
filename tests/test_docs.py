"""The documentation's code runs, page by page, top to bottom."""

import re
from pathlib import Path

import pytest

from latent_assay.runs.config import parse_config

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [
    "first_steps.md",
    "recipes.md",
    "training.md",
    "extension.md",
    "images.md",
    "your_own_claim.md",
    "choosing.md",
    "comparing.md",
    "evals.md",
    "diagnosis.md",
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_page_runs(page, capsys):
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert blocks
    scope: dict = {"__name__": "__docs__"}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)


def test_configurations_on_the_page_are_valid():
    import tomllib

    page = (DOCS / "command_line.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    whole = tomllib.loads(blocks[0])
    assert len(parse_config(whole).saes) == 2
    for block in blocks[1:]:  # another source in place of the model
        other = {key: value for key, value in whole.items() if key != "model"}
        assert parse_config(other | tomllib.loads(block)).source is not None


def test_grids_on_the_page_are_valid():
    import tomllib

    page = (DOCS / "grids.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    counts = [len(parse_config(tomllib.loads(block)).saes) for block in blocks]
    assert counts == [6, 6, 3]


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index


def test_links_lead_somewhere():
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
