"""A grid of SAEs from one table: what it makes, what it refuses, what is trained together."""

import tomllib

import pytest

from latent_assay.errors import ConfigError
from latent_assay.runs.config import parse_config

BEGIN = """
title = "a grid"
[world]
preset = "absorption"
samples = 500
[training]
steps = 20
batch_size = 32
"""


def grid(text: str):
    return parse_config(tomllib.loads(BEGIN + text))


def test_the_cross_product_of_all_axes():
    config = grid(
        """
        [[grid]]
        recipe = "batchtopk"
        lr = 1e-3
        seeds = [0, 1]
        [grid.over]
        width = [4, 8]
        k = [1, 2]
        """
    )
    assert [each.name for each in config.saes] == [
        "BatchTopK width 4 k 1",
        "BatchTopK width 4 k 2",
        "BatchTopK width 8 k 1",
        "BatchTopK width 8 k 2",
    ]
    assert config.saes[1].options == {"lr": 1e-3, "seeds": [0, 1], "width": 4, "k": 2}
    assert config.saes[1].axes == {"width": 4, "k": 2}
    assert config.saes[1].members == 2
    wide, narrow = config.ensembles
    assert wide.options == {"lr": [1e-3] * 4, "seeds": [0, 1, 0, 1], "width": 4, "k": [1, 1, 2, 2]}
    assert wide.members == (range(2), range(2, 4))
    assert [each.name for each in narrow.plans] == [each.name for each in config.saes[2:]]


def test_a_value_may_be_a_table_that_sets_several_options():
    config = grid(
        """
        [[grid]]
        name = "M"
        recipe = "matryoshka_batchtopk"
        k = 1
        [grid.over]
        size = [{ width = 4, levels = [1, 4] }, { name = "wide", width = 8, levels = [2, 8] }]
        beta = [0.25, 1.0]
        """
    )
    names = ["M width 4 beta 0.25", "M width 4 beta 1", "M wide beta 0.25", "M wide beta 1"]
    assert [each.name for each in config.saes] == names
    assert config.saes[2].options == {"k": 1, "width": 8, "levels": [2, 8], "beta": 0.25}
    first, second = config.ensembles
    assert first.options["beta"] == [[0.25, 0.25], [1.0, 1.0]]
    assert second.options["levels"] == [2, 8]


def test_several_recipes():
    config = grid(
        """
        [[grid]]
        width = 4
        [grid.over]
        recipe = [{ recipe = "topk", k = 1 }, { recipe = "relu_l1", l1 = 0.1 }]
        lr = [1e-3, 3e-3]
        """
    )
    assert [each.name for each in config.saes] == [
        "TopK lr 0.001",
        "TopK lr 0.003",
        "ReLU lr 0.001",
        "ReLU lr 0.003",
    ]
    assert [len(each.plans) for each in config.ensembles] == [2, 2]


def test_the_number_of_members_can_be_bounded():
    text = """
        members = 4
        [[grid]]
        recipe = "topk"
        width = 4
        seeds = [0, 1]
        [grid.over]
        k = [1, 2, 3]
        """
    assert [len(each.plans) for each in grid(text).ensembles] == [2, 1]


def test_a_grid_survives_a_round_trip():
    text = """
        [[sae]]
        name = "A"
        recipe = "topk"
        width = 4
        k = 1
        [[grid]]
        recipe = "topk"
        width = 4
        [grid.over]
        k = [1, 2]
        [[grid]]
        recipe = "topk"
        width = 8
        [grid.over]
        seeds_of = [{ name = "few", k = 1, seeds = [0] }, { name = "many", k = 1, seeds = [0, 1] }]
        """
    config = grid(text)
    assert parse_config(config.to_json()) == config
    assert {each.grid for each in config.saes} == {"", "TopK", "TopK (2)"}


def test_hook_points_are_axes_too():
    content = tomllib.loads(
        """
        title = "layers"
        [model]
        name = "m"
        hook_points = ["a", "b"]
        [[grid]]
        recipe = "topk"
        width = 4
        k = 1
        [grid.over]
        hook_point = ["a", "b"]
        """
    )
    config = parse_config(content)
    assert [each.name for each in config.saes] == ["TopK at a", "TopK at b"]
    assert [each.hook_point for each in config.ensembles] == ["a", "b"]
    del content["grid"][0]["over"]["hook_point"]
    content["grid"][0]["over"]["lr"] = [1e-3]
    with pytest.raises(ConfigError, match="does not say which `hook_point` it reads, one of a, b"):
        parse_config(content)
    content["grid"][0]["hook_point"] = "c"
    with pytest.raises(ConfigError, match=r"`c`, but \[model\] has a, b"):
        parse_config(content)
    content["model"] |= {"hook_point": "a"}
    with pytest.raises(ConfigError, match=r"needs either `hook_point`.*or `hook_points`"):
        parse_config(content)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[grid.over]", r"number 1 has nothing to go over"),
        ("[grid.over]\nk = []", r"axis `k` has no values"),
        ("[grid.over]\nseeds = [0, 1]", r"seeds are members of each SAE, not an axis"),
        ("[grid.over]\nwidth = [4, 8]", r"sets `width` and goes over it too"),
        ("[grid.over]\nl1 = [1.0]", r"cannot go over `l1`.*it goes over auxk"),
        ("[grid.over]\nk = [1, 1]", r"two SAEs called 'TopK k 1'"),
        ("[grid.over]\nk = 3", r"`over.k` is wrong: .*array, found 3"),
        ("", r"`over` is wrong: field required"),
        ("kk = 3\n[grid.over]\nk = [1]", r"knows no `kk`"),
        ("[grid.over]\nrecipe = ['topk']", r"sets `recipe` and goes over it too"),
        ("[grid.over]\nk = [1]\nlot = [{k = 2}]", r"sets `k` twice for one SAE.*axis `lot`"),
        (
            "[grid.over]\nk = [1]\nlr = [" + ", ".join(map(str, range(1, 20_000))) + "]",
            r"makes 19,999 settings",
        ),
    ],
)
def test_mistakes_are_named(text, says):
    with pytest.raises(ConfigError, match=says):
        grid(f"[[grid]]\nrecipe = 'topk'\n{'width = 4'}\n{text}")
