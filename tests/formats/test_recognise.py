"""The format is recognised from files, never asked for."""

import os

import pytest

from latent_assay.errors import FormatError
from latent_assay.formats import load, recognise, save

from .foreign import dictionary_learning, gemma_scope, sae_lens, sparsify, weights
from .test_saelens import make

MAKERS = {
    "SAELens": lambda folder: sae_lens(folder, weights(), architecture="standard"),
    "Gemma Scope": lambda folder: gemma_scope(folder)[0],
    "sparsify": lambda folder: sparsify(folder)[0],
    "dictionary_learning": lambda folder: dictionary_learning(folder, "AutoEncoder")[0],
}
WEIGHTS = {
    "SAELens": "sae_weights.safetensors",
    "Gemma Scope": "params.npz",
    "sparsify": "sae.safetensors",
    "dictionary_learning": "ae.pt",
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_folder_and_its_weights(name, tmp_path):
    folder = MAKERS[name](tmp_path / "sae")
    for source in (folder, str(folder), folder / WEIGHTS[name]):
        found = recognise(source)
        assert (found.format, len(found.places)) == (name, 1)
        assert load(source).width == 6
    assert found.origin.repo_id is None


def test_members(tmp_path):
    save(make("relu", 2), tmp_path / "sae")
    assert [place.name for place in recognise(tmp_path / "sae").places] == [
        "member_000",
        "member_001",
    ]


@pytest.mark.parametrize("name", MAKERS)
def test_links_are_followed(name, tmp_path):
    """The hub's cache is made of them."""
    folder = MAKERS[name](tmp_path / "sae")
    (tmp_path / "linked").mkdir()
    for path in folder.iterdir():
        (tmp_path / "linked" / path.name).symlink_to(path)
    assert load(tmp_path / "linked").width == 6


def test_saes_further_in_are_named(tmp_path):
    for layer in range(8):
        MAKERS["sparsify"](tmp_path / "run" / f"layers.{layer}")
    with pytest.raises(FormatError, match=r"further in: layers\.0, layers\.1, .* … \(8 in all\)"):
        load(tmp_path / "run")
    with pytest.raises(FormatError, match=r"further in: run/layers\.0"):
        load(tmp_path)


def test_a_file_that_is_no_sae(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FormatError, match=r"is no SAE.*found a file"):
        load(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "\ud800", "../" * 400, "", ".", "a\nb"])
def test_names_that_no_file_can_have(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match="is no SAE"):
        load(name)


def test_pipes_and_devices_are_not_opened(tmp_path):
    """They would wait, or never end."""
    for name in MAKERS:
        folder = MAKERS[name](tmp_path / name)
        (folder / WEIGHTS[name]).unlink()
        os.mkfifo(folder / WEIGHTS[name])
        with pytest.raises(FormatError):
            load(folder)
        (folder / WEIGHTS[name]).unlink()
        (folder / WEIGHTS[name]).symlink_to("/dev/zero")
        with pytest.raises(FormatError):
            load(folder)
    folder = MAKERS["SAELens"](tmp_path / "config")
    (folder / "cfg.json").unlink()
    os.mkfifo(folder / "cfg.json")
    with pytest.raises(FormatError, match="is no SAE"):
        load(folder)


def test_a_link_to_itself(tmp_path):
    (tmp_path / "sae").symlink_to(tmp_path / "sae")
    with pytest.raises(FormatError, match="is no SAE"):
        load(tmp_path / "sae")
