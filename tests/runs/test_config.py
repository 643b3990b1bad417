"""Configuration files: what is valid survives a round trip, what is not is named."""

import json
import tomllib

import pytest

from latent_assay.atomic import plain
from latent_assay.errors import ConfigError
from latent_assay.runs.config import parse_config, read_config, shipped_configs

WORLD = """
title = "a run"
[world]
preset = "absorption"
[training]
steps = 10
[[sae]]
name = "A"
recipe = "topk"
width = 4
k = 1
"""


def changed(old: str, new: str) -> dict:
    assert old in WORLD
    return tomllib.loads(WORLD.replace(old, new))


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_shipped_configurations_survive_a_round_trip(name, tmp_path):
    config = read_config(name)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(plain(config.to_json())))
    assert plain(read_config(path).to_json()) == plain(config.to_json())
    again = read_config(path)
    assert [plan.options for plan in again.saes] == [plan.options for plan in config.saes]
    assert config.saes or config.extensions
    assert again.extensions == config.extensions


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("steps = 10", "stepz = 10", r"\[training\] knows no `stepz`.*Did you mean `steps`"),
        ("steps = 10", 'steps = "ten"', r"\[training\]: `steps` is wrong.*integer.*'ten'"),
        ("steps = 10", "steps = 0", r"`steps` must be at least 1, got 0"),
        ("k = 1", "kk = 1", r"recipe `topk`, knows no `kk`.*Did you mean `k"),
        ('recipe = "topk"', 'recipe = "topp"', r"number 1 needs a `recipe`.*Did you mean `topk`"),
        ("[world]", "[wurld]", r"knows no `wurld`.*Did you mean `world`"),
        ('title = "a run"', "", r"`title` is wrong: field required"),
        ('name = "A"', "", r"number 1: `name` is wrong: field required"),
        ('name = "A"', 'name = "A"\ninit = "zeros"', r"`init` is wrong"),
        (
            '[world]\npreset = "absorption"',
            '[activations]\npath = "x.npy"\n[model]\nname = "m"\nhook_point = "h"',
            r"exactly one of the tables.*found \[?model.* and \[?activations",
        ),
        (
            '[world]\npreset = "absorption"',
            "",
            r"exactly one of the tables.*found none",
        ),
    ],
)
def test_mistakes_are_named(old, new, says):
    with pytest.raises(ConfigError, match=says):
        parse_config(changed(old, new))


def test_two_saes_of_one_name():
    content = tomllib.loads(WORLD)
    content["sae"] *= 2
    with pytest.raises(ConfigError, match="name of its own; 'A' occurs twice"):
        parse_config(content)


def test_features_are_known_in_worlds_only():
    content = changed('[world]\npreset = "absorption"', '[activations]\npath = "x.npy"')
    content["sae"][0]["init"] = "features"
    with pytest.raises(ConfigError, match=r"only a \[world\] knows them"):
        parse_config(content)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*No such file.*Did you mean `minilm`"):
        read_config("minilmm")
    broken = tmp_path / "broken.toml"
    broken.write_text("title = ")
    with pytest.raises(ConfigError, match="not valid TOML: Invalid value"):
        read_config(broken)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text"):
        read_config(binary)


def test_a_recipe_that_passes_arguments_on_takes_them():
    content = changed('recipe = "topk"', 'recipe = "balance_matryoshka"')
    content["sae"][0] |= {"levels": [1, 4], "multiplier": 0.5, "dead_after": 1000}
    assert parse_config(content).saes[0].options["dead_after"] == 1000
