"""Architectures, versions and normalisations of SAELens, against its formulas written out."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from latent_assay.errors import ConfigError, FormatError
from latent_assay.formats import describe, load, read, save
from latent_assay.formats.saelens.reader import gated_as_jumprelu
from latent_assay.sae import SAE
from latent_assay.sparsifiers import Identity, JumpReLU, TopK

from .foreign import D, K, W, X, draw, gated, sae_lens, weights


def same(sae: SAE, z: torch.Tensor, x_hat: torch.Tensor, x: torch.Tensor = X) -> None:
    assert (z == 0).any()
    assert (z != 0).any()
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(x)[0], z, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(sae(x)[0], x_hat, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- architectures


@pytest.mark.parametrize("inside", [True, False])
def test_a_gated_sae_is_a_jumprelu_one(inside, tmp_path):
    folder, t = gated(tmp_path / "sae", apply_b_dec_to_input=inside)
    u = X - t["b_dec"] if inside else X
    shared = u @ t["W_enc"]
    z = (shared + t["b_gate"] > 0) * (u @ (t["W_enc"] * t["r_mag"].exp()) + t["b_mag"]).relu()
    sae = load(folder)
    assert isinstance(sae.sparsifier, JumpReLU)
    same(sae, z, z @ t["W_dec"] + t["b_dec"])


def test_the_gate_and_the_threshold_open_at_the_same_place():
    """Both cases of the derivation: a gate that decides, and one that the ReLU makes idle."""
    t = {
        "W_enc": torch.ones(1, 2, dtype=torch.float64),
        "r_mag": torch.tensor([0.5, 0.5]).double(),
        "b_gate": torch.tensor([-2.0, 3.0]).double(),
        "b_mag": torch.tensor([1.0, -1.0]).double(),
        "W_dec": torch.eye(2).double(),
        "b_dec": torch.zeros(2).double(),
    }
    j = gated_as_jumprelu(t)
    growth = t["r_mag"].exp()
    # the gate opens at u = 2, where the magnitude is 1 + 2 e^r; an idle one leaves the ReLU alone
    torch.testing.assert_close(j["threshold"], torch.stack([1 + 2 * growth[0], growth[0] * 0]))
    u = torch.linspace(-5, 5, 1001).double().unsqueeze(-1)
    z = (u + t["b_gate"] > 0) * (growth * u + t["b_mag"]).relu()
    pre = u * j["W_enc"] + j["b_enc"]
    torch.testing.assert_close(torch.where(pre > j["threshold"], pre, 0.0), z)


def test_a_gated_sae_in_bfloat16_keeps_its_digits(tmp_path):
    folder, t = gated(tmp_path / "sae")
    save_file({n: e.bfloat16() for n, e in t.items()}, folder / "sae_weights.safetensors")
    config = json.loads((folder / "cfg.json").read_text()) | {"dtype": "bfloat16"}
    (folder / "cfg.json").write_text(json.dumps(config))
    (reading,) = read(folder)
    assert reading.sae.W_enc.dtype == torch.float32
    assert any("kept in float32" in note for note in reading.notes)
    assert reading.dtype == "bfloat16"


@pytest.mark.parametrize("by_length", [True, False])
def test_signed_latents_become_two(by_length, tmp_path):
    folder = sae_lens(
        tmp_path / "sae",
        weights(),
        architecture="abstopk",
        k=K,
        rescale_acts_by_decoder_norm=by_length,
    )
    t = weights()
    length = t["W_dec"].norm(dim=-1) if by_length else torch.ones(W)
    pre = ((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * length
    z = pre * (pre.abs() >= pre.abs().topk(K).values[:, -1:])
    assert (z < 0).any()
    sae = load(folder)
    assert (sae.width, sae.sparsifier.k.tolist()) == (2 * W, [K])
    same(sae, torch.cat([z.relu(), (-z).relu()], -1), (z / length) @ t["W_dec"] + t["b_dec"])


def test_selecting_all_signed_latents_is_the_identity(tmp_path):
    folder = sae_lens(tmp_path / "sae", weights(), architecture="abstopk", k=W)
    assert isinstance(load(folder).sparsifier, Identity)


def test_the_word_that_earlier_versions_wrote_for_the_identity(tmp_path):
    folder = sae_lens(tmp_path / "sae", weights(), architecture="latent_assay_identity")
    assert isinstance(load(folder).sparsifier, Identity)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
@pytest.mark.parametrize("by_length", [True, False])
def test_training_checkpoints_of_batchtopk(architecture, by_length, tmp_path):
    t = weights(topk_threshold=torch.tensor(0.8, dtype=torch.float64))
    folder = sae_lens(
        tmp_path / "sae",
        t,
        architecture=architecture,
        k=2.5,
        rescale_acts_by_decoder_norm=by_length,
    )
    length = t["W_dec"].norm(dim=-1) if by_length else torch.ones(W)
    pre = ((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]) * length
    z = pre * (pre > 0.8)
    same(load(folder), z, (z / length) @ t["W_dec"] + t["b_dec"])


# ---------------------------------------------------------------- versions


def test_the_fields_of_version_2(tmp_path):
    """Names of before 2024, no architecture, and metadata at the top."""
    folder = sae_lens(
        tmp_path / "sae",
        weights(),
        metadata=None,
        hook_point="blocks.8.hook_resid_pre",
        hook_point_layer=8,
        model_name="gpt2-small",
        normalize_activations=False,
        activation_fn_str="relu",
        dtype="torch.float32",
        context_size=128,
        use_ghost_grads=True,
    )
    (reading,) = read(folder)
    assert reading.architecture == "standard"
    assert (reading.model, reading.hook_point) == ("gpt2-small", "blocks.8.hook_resid_pre")
    assert reading.metadata["context_size"] == 128
    assert reading.metadata["hook_layer"] == 8


def test_topk_as_an_activation_function(tmp_path):
    folder = sae_lens(
        tmp_path / "sae",
        weights(),
        metadata={},
        activation_fn="topk",
        activation_fn_kwargs={"k": 3},
    )
    sae = load(folder)
    assert isinstance(sae.sparsifier, TopK)
    assert sae.sparsifier.k.tolist() == [3]


def test_heads_side_by_side(tmp_path):
    folder = sae_lens(
        tmp_path / "sae", weights(), metadata={}, hook_name="blocks.8.attn.hook_z", extra=1
    )
    (reading,) = read(folder)
    assert reading.reshape == "hook_z"
    assert "flatten [head, d_head]" in describe(folder)["notes"][0]


def test_a_factor_on_latent_activations(tmp_path):
    factor = draw(W, seed=8).abs()
    t = weights(scaling_factor=factor)
    folder = sae_lens(tmp_path / "sae", t, architecture="standard", finetuning_scaling_factor=True)
    z = ((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    same(load(folder), z, (z * factor) @ t["W_dec"] + t["b_dec"])


def test_a_factor_that_the_configuration_denies(tmp_path):
    t = weights(scaling_factor=draw(W, seed=8).abs())
    folder = sae_lens(tmp_path / "sae", t, architecture="standard")
    with pytest.raises(FormatError, match="does not say finetuning_scaling_factor: true"):
        load(folder)
    save_file(t | {"scaling_factor": torch.ones(W)}, folder / "sae_weights.safetensors")
    assert load(folder).width == W


# ---------------------------------------------------------------- normalised inputs


def scaled(folder, architecture="standard", **config):
    t = weights(threshold=draw(W, seed=5).abs()) if architecture == "jumprelu" else weights()
    config |= {"normalize_activations": "expected_average_only_in"}
    return sae_lens(folder, t, architecture=architecture, **config), t


def test_without_its_factor_a_scaled_one_is_refused(tmp_path):
    folder, _ = scaled(tmp_path / "sae")
    with pytest.raises(FormatError, match=r"activation_scaler\.json, which is not beside it.*inpu"):
        load(folder)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_a_scale_is_folded(given, inside, tmp_path):
    folder, t = scaled(tmp_path / "sae", "jumprelu", apply_b_dec_to_input=inside)
    if not given:
        (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.3}')
    sae = load(folder, input_scale=0.3 if given else None)
    u = 0.3 * X
    pre = (u - inside * t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    z = pre * (pre > t["threshold"])
    same(sae, z, (z @ t["W_dec"] + t["b_dec"]) / 0.3)


@pytest.mark.parametrize("inside", [True, False])
def test_whitening_is_folded(inside, tmp_path):
    t = weights()
    folder = sae_lens(
        tmp_path / "sae",
        t,
        architecture="standard",
        normalize_activations="covariance_whitening",
        apply_b_dec_to_input=inside,
    )
    mean, matrix = draw(D, seed=10).double(), draw(D, D, seed=11).double()
    stored = {"mean": mean, "matrix": matrix, "inverse_matrix": matrix.inverse().contiguous()}
    save_file(stored, folder / "activation_whitening.safetensors")
    u = ((X.double() - mean) @ matrix).float()
    z = ((u - inside * t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    x_hat = ((z @ t["W_dec"] + t["b_dec"]).double() @ matrix.inverse() + mean).float()
    same(load(folder), z, x_hat)


@pytest.mark.parametrize("content", ["{}", '{"scaling_factor": 0}', '{"scaling_factor": "1"}', "["])
def test_scales_that_are_none(content, tmp_path):
    folder, _ = scaled(tmp_path / "sae")
    (folder / "activation_scaler.json").write_text(content)
    with pytest.raises(FormatError, match=r"activation_scaler\.json"):
        load(folder)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf"), True])
def test_input_scales_that_are_none(scale, tmp_path):
    folder, _ = scaled(tmp_path / "sae")
    with pytest.raises(ConfigError, match="input_scale must be a number above zero"):
        load(folder, input_scale=scale)


def test_an_input_scale_that_nothing_asks_for(tmp_path):
    folder = sae_lens(tmp_path / "sae", weights(), architecture="standard")
    with pytest.raises(FormatError, match="it takes activations unscaled"):
        load(folder, input_scale=2.0)


def test_what_is_written_is_what_sae_lens_6_calls_new(tmp_path):
    """Older files lose their metadata in SAELens."""
    sae = load(sae_lens(tmp_path / "old", weights(), metadata={}, hook_name="h"))
    save(sae, tmp_path / "new", {"sae_lens_version": "5.1.0", "hook_name": "h"})
    metadata = json.loads((tmp_path / "new" / "cfg.json").read_text())["metadata"]
    assert metadata["sae_lens_version"] == "6.0.0"
    assert load_file(tmp_path / "new" / "sae_weights.safetensors").keys() == weights().keys()
