"""The page for users says nothing that does not run."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "worlds.md"


def test_every_example_runs_and_prints_what_it_says(capsys):
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    code = [block for language, block in blocks if language == "python"]
    assert len(code) >= 8
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    (shown,) = (block for language, block in blocks if language == "text")
    assert shown in printed
    assert "magnitudes are normal with mean 1 and sd 0.15. Sample it instead" in printed


def test_every_preset_and_law_is_on_the_page():
    from latent_assay import worlds
    from latent_assay.worlds import presets

    text = PAGE.read_text(encoding="utf-8")
    laws = [
        name
        for name, thing in vars(worlds).items()
        if isinstance(thing, type)
        and issubclass(thing, (worlds.Firing, worlds.Magnitudes))
        and thing not in (worlds.Firing, worlds.Magnitudes)
    ]
    assert len(laws) == 13
    for name in (*presets.PRESETS, *laws, *worlds.directions.__all__):
        assert f"`{name}" in text, name
