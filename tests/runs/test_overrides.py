import pytest

from latent_assay.errors import ConfigError
from latent_assay.runs.config import read_config
from latent_assay.runs.config.overrides import override

CONTENT = {
    "title": "t",
    "training": {"steps": 10},
    "extension": [
        {"name": "a", "n": 1, "over": {"width": [4, 8]}},
        {"name": "b c", "n": 1},
    ],
}


def test_values_are_toml_and_otherwise_text():
    found = override(
        CONTENT,
        [
            "training.steps=20",
            "training.betas=[0.0, 0.9]",
            "model.name=/some/folder",
            'model.text="cpython"',
            "model.normalise=false",
            "title = what a = b means",
        ],
    )
    assert found["training"] == {"steps": 20, "betas": [0.0, 0.9]}
    assert found["model"] == {"name": "/some/folder", "text": "cpython", "normalise": False}
    assert found["title"] == "what a = b means"
    assert CONTENT["training"] == {"steps": 10}


def test_of_a_list_every_table_or_one_by_number_or_name():
    found = override(CONTENT, ["extension.n=2", "extension.over.k=[1]"])
    assert [each["n"] for each in found["extension"]] == [2, 2]
    assert found["extension"][0]["over"] == {"width": [4, 8], "k": [1]}
    assert found["extension"][1]["over"] == {"k": [1]}
    found = override(CONTENT, ["extension.1.n=2", 'extension."b c".n=3'])
    assert [each["n"] for each in found["extension"]] == [2, 3]


def test_nothing_removes():
    assert override(CONTENT, ["extension.1.over="])["extension"][0] == {"name": "a", "n": 1}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("training.steps", r"a key, = and a value.*got 'training.steps'"),
        ("=3", "a key, = and a value"),
        ("a..b=3", "a key, = and a value"),
        ("title.x=3", r"goes into `title`, which is no table but 't'"),
        ("sae.k=3", r"for \[\[sae\]\], of which there is none"),
        ("extension=3", r"does not say what of \[\[extension\]\] to set"),
        ("extension.3.n=3", "no table number 3; they are numbered from 1 to 2"),
        ("training.stepz=", r"removes `stepz`, which is not there.*Did you mean `steps`"),
    ],
)
def test_mistakes_are_named(setting, says):
    with pytest.raises(ConfigError, match=says):
        override(CONTENT, [setting])


def test_a_shipped_configuration_with_settings():
    config = read_config("hierarchy", ["training.steps=3", "training.lr_decay_steps=0"])
    assert config.training.steps == 3
    with pytest.raises(ConfigError, match=r"\[training\] knows no `stepz`"):
        read_config("hierarchy", ["training.stepz=3"])


def test_on_the_command_line(tmp_path):
    from click.testing import CliRunner

    from latent_assay.cli import main

    out = ["--out", str(tmp_path / "run"), "--quiet"]
    wrong = CliRunner().invoke(main, ["train", "hierarchy", "--set", "training.stepz=3", *out])
    assert wrong.exit_code == 2
    assert "[training] knows no `stepz`" in wrong.stderr
    assert not (tmp_path / "run").exists()
