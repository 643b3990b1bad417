"""Gemma Scope's files."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latent_assay.errors import ConfigError, FormatError
from latent_assay.formats import describe, load, read

from .foreign import D, W, X, draw, gemma_scope, weights

PUBLISHED = "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"


def test_what_it_computes(tmp_path):
    folder, t = gemma_scope(tmp_path / "sae")
    pre = X @ t["W_enc"] + t["b_enc"]
    z = (pre > t["threshold"]) * pre.relu()
    sae = load(folder)
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(X)[0], z)
        torch.testing.assert_close(sae(X)[0], z @ t["W_dec"] + t["b_dec"])
        torch.testing.assert_close(load(folder / "params.npz")(X), sae(X))
    assert (t["threshold"] < 0).any()


@pytest.mark.parametrize(
    ("name", "model", "hook_point"),
    [
        (PUBLISHED, "google/gemma-2-2b", "blocks.20.hook_resid_post"),
        ("gemma-scope-9b-it-res/layer_9/x", "google/gemma-2-9b-it", "blocks.9.hook_resid_post"),
        ("gemma-scope-2b-pt-mlp/layer_3/x", "google/gemma-2-2b", "blocks.3.hook_mlp_out"),
        ("gemma-scope-2b-pt-att/layer_3/x", "google/gemma-2-2b", "blocks.3.attn.hook_z"),
        ("gemma-scope-2-1b-pt/resid_post/layer_7_w", "google/gemma-3-1b-pt", "blocks.7.hook_resid"),
        ("elsewhere/layer_20", None, None),
    ],
)
def test_where_it_comes_from_as_its_folder_says(name, model, hook_point, tmp_path):
    (reading,) = read(gemma_scope(tmp_path / name)[0])
    assert reading.model == model
    assert (reading.hook_point or "").startswith(hook_point or "")
    assert (reading.hook_point is None) == (hook_point is None)
    assert (reading.reshape == "hook_z") == ("att" in name)


def test_description(tmp_path):
    found = describe(gemma_scope(tmp_path / PUBLISHED)[0])
    assert (found["format"], found["sparsifier"]) == ("Gemma Scope", "jumprelu")
    assert found["origin"]["average_l0"] == 71
    assert found["apply_b_dec_to_input"] is False


def test_the_second_generation(tmp_path):
    """Safetensors with names in small letters, and a configuration that names the place."""
    folder = tmp_path / "layer_3_width_16k" / "resid_post"
    folder.mkdir(parents=True)
    t = weights(threshold=draw(W, seed=5).abs())
    small = {name.replace("W_", "w_"): tensor for name, tensor in t.items()}
    save_file(small, folder / "params.safetensors")
    config = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt"}
    (folder / "config.json").write_text(json.dumps(config))
    (reading,) = read(folder)
    assert (reading.model, reading.hook_point) == (
        "google/gemma-3-1b-pt",
        "blocks.3.hook_resid_post",
    )
    pre = X @ t["W_enc"] + t["b_enc"]
    torch.testing.assert_close(reading.sae.encode(X)[0], pre * (pre > t["threshold"]))
    (folder / "config.json").write_text(json.dumps(config | {"hf_hook_point_out": "x"}))
    with pytest.raises(FormatError, match="is a transcoder"):
        load(folder)


@pytest.mark.parametrize("name", ["gemma-scope-2b-pt-transcoders/layer_3", "clt/width_16k"])
def test_transcoders_are_refused(name, tmp_path):
    with pytest.raises(FormatError, match="is a transcoder: it reads one place"):
        load(gemma_scope(tmp_path / name)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": None}, "lacks threshold; it has"),
        ({"W_enc": None}, "lacks a matrix W_enc"),
        ({"W_enc": np.zeros(3)}, "lacks a matrix W_enc"),
        ({"W_dec": np.zeros((D, W), np.float32)}, r"`W_dec` in .* asks for \[6, 4\]"),
        ({"threshold": np.full(W, np.nan)}, "`threshold` in .* must hold finite numbers"),
        ({"threshold": np.full(W, np.inf)}, "`threshold` in .* must hold finite numbers"),
        ({"b_dec": np.zeros(D, np.int64)}, "finite numbers of floating point, found torch.int64"),
        ({"b_dec": np.zeros(D, complex)}, "holds '<c16'; expected plain numbers"),
        ({"b_dec": np.array(["x"] * D)}, "holds '<U1'; expected plain"),
        ({"b_dec": np.array([{}] * D, dtype=object)}, "which runs code from the file"),
    ],
)
def test_files_that_do_not_fit(changes, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        load(gemma_scope(tmp_path / "sae", **changes)[0])


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2"])
def test_other_types_and_orders(dtype, tmp_path):
    t = weights(threshold=draw(W, seed=5).abs())
    arrays = {name: np.asfortranarray(each.numpy().astype(dtype)) for name, each in t.items()}
    np.savez_compressed(tmp_path / "params.npz", **arrays)
    sae = load(tmp_path)
    torch.testing.assert_close(sae.W_dec[0].float(), t["W_dec"], rtol=1e-3, atol=1e-3)
    assert (
        str(sae.W_enc.dtype)
        == {
            "<f8": "torch.float64",
            ">f4": "torch.float32",
            "<f2": "torch.float16",
        }[dtype]
    )


def test_an_input_scale_means_nothing_here(tmp_path):
    with pytest.raises(ConfigError, match="which those of Gemma Scope never do"):
        load(gemma_scope(tmp_path / "sae")[0], input_scale=2.0)
