import pytest

from latent_assay import errors
from latent_assay.errors import AssayError, MissingExtra, did_you_mean, require


def test_missing_package_names_the_command_that_installs_it():
    with pytest.raises(MissingExtra, match=r"drawing clouds needs the package `no_such_pkg`") as e:
        require("no_such_pkg", extra="clouds", purpose="drawing clouds")
    assert "pip install 'latent-assay[clouds]'" in str(e.value)
    assert isinstance(e.value, ImportError)


def test_missing_submodule_names_the_whole_module():
    with pytest.raises(MissingExtra, match=r"`no_such_pkg\.inner`"):
        require("no_such_pkg.inner", extra="clouds", purpose="drawing clouds")


def test_present_package_is_returned():
    import json.decoder

    assert require("json.decoder", extra="x", purpose="y") is json.decoder


def test_a_package_that_is_broken_inside_is_not_called_missing(tmp_path, monkeypatch):
    """Its own missing dependency is not ours to install."""
    (tmp_path / "half_installed.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as e:
        require("half_installed", extra="x", purpose="y")
    assert not isinstance(e.value, MissingExtra)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("topkk", " Did you mean `topk` or `batchtopk`?"),
        ("jumprelu", " Did you mean `jumprelu`?"),
        ("zzz", ""),
    ],
)
def test_did_you_mean(wrong, sentence):
    assert did_you_mean(wrong, ["batchtopk", "topk", "jumprelu"]) == sentence


def test_every_error_can_be_caught_as_one_and_says_its_message_plainly():
    tree = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, AssayError)
    ]
    assert len(tree) == 11
    for each in tree:
        # a KeyError would show the repr of its message, quotes included
        assert str(each("what was wrong")) == "what was wrong"
        assert each.__name__ in (errors.__doc__ or "")
