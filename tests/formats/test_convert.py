"""Conversion, and the golden vectors that come with it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from latent_assay.errors import ConfigError, FormatError, StorageError
from latent_assay.formats import convert, describe, golden, load, read, save
from latent_assay.formats.saelens import writer

from .foreign import D, W, X, dictionaries, dictionary_learning, draw, gated, gemma_scope, sparsify
from .test_saelens import KINDS, make

SOURCES = {
    "gated": lambda folder: gated(folder)[0],
    "gemma": lambda folder: gemma_scope(folder)[0],
    "sparsify": lambda folder: sparsify(folder)[0],
} | {
    kind: lambda folder, kind=kind: dictionary_learning(folder, kind)[0] for kind in dictionaries()
}


@pytest.mark.parametrize("name", SOURCES)
def test_conversion(name, tmp_path):
    source = SOURCES[name](tmp_path / "source")
    done = convert(source, tmp_path / "target")
    assert {path.name for path in (tmp_path / "target").iterdir()} == {
        "cfg.json",
        "sae_weights.safetensors",
        "golden.safetensors",
    }
    (reading,) = read(source)
    assert (done.format, done.architecture) == (reading.format, reading.architecture)
    assert (done.members, done.d_in, done.width, done.notes) == (1, D, (W,), reading.notes)
    told = done.to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["written"] == str(tmp_path / "target")
    assert told["golden vectors"].startswith("16, reproduced to ")
    (agreement,) = done.agreement
    assert max(agreement.latents, agreement.reconstruction) < 1e-5
    assert 0 < agreement.firing < W
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "target")(X), reading.sae(X))
    metadata = json.loads((tmp_path / "target" / "cfg.json").read_text())["metadata"]
    assert metadata["converted_from"]["format"] == reading.format
    assert metadata["converted_from"]["name"] == "source"
    assert str(tmp_path) not in (tmp_path / "target" / "cfg.json").read_text()
    assert metadata.get("hook_name") == reading.hook_point
    found = describe(tmp_path / "target")
    assert found["golden vectors"].startswith("16, reproduced to")
    # once more: the same again
    convert(tmp_path / "target", tmp_path / "again")
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "again")(X), load(tmp_path / "target")(X))


@pytest.mark.parametrize("kind", KINDS)
def test_ours_with_members(kind, tmp_path):
    sae = make(kind, 2, widths=(W, W - 1))
    save(sae, tmp_path / "source", {"model_name": "m"})
    done = convert(tmp_path / "source", tmp_path / "target")
    assert (done.members, done.width) == (2, (W, W - 1))
    assert (tmp_path / "target" / "member_001" / "golden.safetensors").is_file()
    sae.eval()
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "target")(X), sae(X))
    assert describe(tmp_path / "target")["golden vectors"].startswith("32,")


def test_what_golden_vectors_hold(tmp_path):
    """Inputs with few and many latents, and what the format's formula makes of them."""
    source, t = gemma_scope(tmp_path / "source")
    convert(source, tmp_path / "target")
    g = load_file(tmp_path / "target" / "golden.safetensors")
    assert {name: list(each.shape) for name, each in g.items()} == {
        "x": [16, D],
        "z": [16, W],
        "x_hat": [16, D],
    }
    pre = g["x"] @ t["W_enc"] + t["b_enc"]
    z = pre.relu() * (pre > t["threshold"])
    torch.testing.assert_close(g["z"], z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(g["x_hat"], z @ t["W_dec"] + t["b_dec"], rtol=1e-4, atol=1e-3)
    lengths = (g["x"] - t["b_dec"]).norm(dim=-1)
    assert float(lengths.max() / lengths.min()) > 1000


def test_they_are_the_same_each_time(tmp_path):
    source = SOURCES["gated"](tmp_path / "source")
    convert(source, tmp_path / "a")
    convert(source, tmp_path / "b")
    assert (tmp_path / "a" / "golden.safetensors").read_bytes() == (
        tmp_path / "b" / "golden.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types(dtype, tmp_path):
    save(make("jumprelu").to(dtype), tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "target")
    assert load(tmp_path / "target").W_enc.dtype == dtype
    expected = torch.float64 if dtype == torch.float64 else torch.float32
    assert load_file(tmp_path / "target" / "golden.safetensors")["z"].dtype == expected


# ---------------------------------------------------------------- the check bites


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("W_enc", lambda t: t.flip(0)),
        ("W_dec", lambda t: t * 1.001),
        ("b_enc", lambda t: t + 1e-2),
        ("b_dec", lambda t: t + 1e-2),
        ("threshold", lambda t: t + 0.5),
    ],
)
def test_changed_weights_are_noticed_when_they_are_loaded(name, change, tmp_path):
    convert(gemma_scope(tmp_path / "source")[0], tmp_path / "target")
    path = tmp_path / "target" / "sae_weights.safetensors"
    t = load_file(path)
    save_file(t | {name: change(t[name]).contiguous()}, path)
    with pytest.raises(
        FormatError, match=r"does not reproduce its golden vectors.*or remove golden"
    ):
        load(tmp_path / "target")
    (tmp_path / "target" / "golden.safetensors").unlink()
    assert load(tmp_path / "target").width == W


def test_a_changed_configuration_is_noticed(tmp_path):
    convert(sparsify(tmp_path / "source")[0], tmp_path / "target")
    path = tmp_path / "target" / "cfg.json"
    for changes in ({"k": 1}, {"apply_b_dec_to_input": False}):
        before = path.read_text()
        path.write_text(json.dumps(json.loads(before) | changes))
        with pytest.raises(FormatError, match="does not reproduce its golden vectors"):
            load(tmp_path / "target")
        path.write_text(before)


def test_a_wrong_reading_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    """The formula shares no code with the SAE, so a mistake in either is seen."""
    from latent_assay.formats.saelens import reader

    right = reader.gated_as_jumprelu

    def wrong(t):
        return right(t | {"b_gate": -t["b_gate"]})

    monkeypatch.setattr(reader, "gated_as_jumprelu", wrong)
    source = SOURCES["gated"](tmp_path / "source")
    with pytest.raises(FormatError, match="does not reproduce its golden vectors"):
        convert(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_wrong_writing_is_noticed(tmp_path, monkeypatch):
    source = SOURCES["gemma"](tmp_path / "source")
    write = writer.write_tensors
    monkeypatch.setattr(
        writer, "write_tensors", lambda p, t: write(p, t | {"b_dec": t["b_dec"] + 1})
    )
    with pytest.raises(FormatError, match="nothing was written"):
        convert(source, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": None}, "found 0"),
        ({"x": draw(2000, D)}, "found 2000"),
        ({"z": None}, "lacks z"),
        ({"z": draw(16, W + 1)}, "the SAE beside it has d_in 4 and width 6"),
        ({"x_hat": torch.full((16, D), float("nan"))}, "must hold finite numbers"),
        ({"x": torch.zeros(16, D, dtype=torch.int64)}, "of floating point"),
    ],
)
def test_golden_vectors_that_are_damaged(changes, message, tmp_path):
    convert(gemma_scope(tmp_path / "source")[0], tmp_path / "target")
    path = tmp_path / "target" / "golden.safetensors"
    t = load_file(path) | changes
    save_file({name: each for name, each in t.items() if each is not None}, path)
    with pytest.raises(FormatError, match=message):
        load(tmp_path / "target")


def test_products_in_blocks(monkeypatch):
    x, W_ = draw(3, 5).double(), draw(5, 7, seed=1)
    monkeypatch.setattr(golden, "_BLOCK", 11)
    torch.testing.assert_close(golden.product(x, W_), x @ W_.double())


def test_numbers_of_absurd_size(tmp_path):
    sae = make("relu")
    with torch.no_grad():
        sae.W_dec.fill_(3e38)
        sae.b_dec.fill_(3e38)
    save(sae, tmp_path / "source")
    with pytest.raises(FormatError, match="no golden vectors: the SAE's numbers are of absurd"):
        convert(tmp_path / "source", tmp_path / "target")


# ---------------------------------------------------------------- where to


def test_a_target_that_holds_something_else_is_left_alone(tmp_path):
    source = SOURCES["gemma"](tmp_path / "source")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=r"it holds letter\.txt, which is no part of an SAE"):
        convert(source, tmp_path / "home")
    (tmp_path / "nested" / "member_000").mkdir(parents=True)
    (tmp_path / "nested" / "member_000" / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=r"it holds member_000/letter\.txt"):
        convert(source, tmp_path / "nested")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="found a file"):
        convert(source, tmp_path / "file")
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_an_earlier_sae_and_an_empty_folder_are_replaced(tmp_path):
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "target", tmp_path / "target"):
        convert(SOURCES["gemma"](tmp_path / f"from_{len(list(tmp_path.iterdir()))}"), target)
        assert load(target).width == W
    save(make("relu", 2), tmp_path / "members")
    convert(tmp_path / "target", tmp_path / "members")
    assert load(tmp_path / "members").members == 1


@pytest.mark.parametrize("where", [".", "..", "../.."])
def test_the_source_is_not_overwritten(where, tmp_path):
    source = SOURCES["gemma"](tmp_path / "a" / "source")
    before = (source / "params.npz").read_bytes()
    with pytest.raises(StorageError, match="which holds the source"):
        convert(source, source / where)
    assert (source / "params.npz").read_bytes() == before


def test_a_linked_target_is_replaced_not_followed(tmp_path):
    source = SOURCES["gemma"](tmp_path / "source")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target").symlink_to(tmp_path / "elsewhere")
    convert(source, tmp_path / "target")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert load(tmp_path / "target").width == W


def test_what_the_layout_has_no_word_for(tmp_path):
    source = sparsify(tmp_path / "source", activation="groupmax")[0]
    with pytest.raises(FormatError, match="no word for the sparsifier GroupMax"):
        convert(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_an_input_scale_is_handed_on(tmp_path):
    with pytest.raises(ConfigError, match="never do"):
        convert(SOURCES["gemma"](tmp_path / "source"), tmp_path / "target", input_scale=2.0)


def test_heads_stay_heads_for_sae_lens(tmp_path):
    source = gemma_scope(tmp_path / "gemma-scope-2b-pt-att" / "layer_3")[0]
    convert(source, tmp_path / "target")
    config = json.loads((tmp_path / "target" / "cfg.json").read_text())
    assert config["reshape_activations"] == "hook_z"
    assert config["metadata"]["hook_name"] == "blocks.3.attn.hook_z"


def test_texts_of_strangers_carry_no_control_characters(tmp_path):
    """Neither to the terminal nor into the converted file, nor half a surrogate pair."""
    source = gated(
        tmp_path / "source",
        metadata={"sae_lens_version": "6.0.0", "hook_name": "a\x1b[2Jb\ud800", "x\x07": ["\x9b"]},
    )[0]
    assert describe(source)["hook point"] == "a\ufffd[2Jb\ufffd"
    convert(source, tmp_path / "target")
    text = (tmp_path / "target" / "cfg.json").read_text(encoding="utf-8")
    assert Path(tmp_path / "target").is_dir()
    assert all(each.isprintable() or each == "\n" for each in text)
