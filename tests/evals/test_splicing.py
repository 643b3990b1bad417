import functools

import pytest
import torch
from torch.nn.functional import relu

from latent_assay.activations import LanguageModel
from latent_assay.errors import ConfigError, HookError, ShapeError
from latent_assay.evals import Splice, loss_recovered, spliced
from latent_assay.recipes import batchtopk
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU, TopK
from tests.activations import tiny_models

HOOK = "blocks.1.hook_resid_post"
WIDTH = 40
IDS = torch.randint(3, 320, (3, 12), generator=torch.Generator().manual_seed(1))
MASK = torch.ones_like(IDS, dtype=torch.bool)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    @functools.cache
    def load(family):
        folder = tiny_models.save(tmp_path_factory.mktemp("models") / family, family)
        return LanguageModel.load(folder)

    return load


@pytest.fixture(params=["gpt2", "neox", "llama", "gemma2"])
def model(request, tiny):
    return tiny(request.param)


def random_sae(sparsifier=None, members=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return SAE(
        draw(members, WIDTH, 16), draw(members, WIDTH, 16), b_enc=draw(members, WIDTH),
        b_dec=draw(members, 16), sparsifier=sparsifier or ReLU(),
    ).eval()  # fmt: skip


def logits(model):
    return model.logits(IDS, MASK)


@pytest.mark.parametrize("sparsifier", [ReLU(), TopK([4, 5])])
def test_the_error_term_kept_changes_nothing(model, sparsifier):
    sae = random_sae(sparsifier)
    clean = logits(model)
    with spliced(model, HOOK, sae, member=1, keep_error=True):
        kept = logits(model)
    torch.testing.assert_close(kept, clean, rtol=1e-3, atol=1e-3 * clean.abs().max().item())
    with spliced(model, HOOK, sae, member=1):
        assert not torch.allclose(logits(model), clean, rtol=1e-2, atol=1e-2)
    assert torch.equal(logits(model), clean)  # nothing is left behind


def test_dropped_the_model_sees_the_reconstruction(model):
    sae = random_sae()
    with torch.no_grad():
        b, W = sae.b_dec[1], sae.W_dec[1]
        with model.replace(HOOK, lambda x: relu((x - b) @ sae.W_enc[1].T + sae.b_enc[1]) @ W + b):
            expected = logits(model)
    with spliced(model, HOOK, sae, member=1):
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-3)


def test_edits_move_along_decoder_rows():
    """Steering and ablation add (z' - z) d, whether the error is kept or not."""
    sae = random_sae()
    x = torch.randn(7, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        z = sae.encode(x)[0]
        assert z[:, 5].any()
        change = -z[:, 5:6] * sae.W_dec[0, 5] + (2.5 - z[:, 9:10]) * sae.W_dec[0, 9]
        for keep_error in (False, True):
            edited = Splice(sae=sae, keep_error=keep_error, ablate=[5], steer={9: 2.5})
            plain = Splice(sae=sae, keep_error=keep_error)
            torch.testing.assert_close(edited(x) - plain(x), change, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(Splice(sae=sae, keep_error=True)(x), x, rtol=1e-4, atol=1e-4)


def test_only_some_positions(tiny):
    model = tiny("gpt2")
    where = MASK.clone()
    where[:, 4:] = False
    clean = model.capture(IDS, MASK, ["blocks.2.hook_resid_pre"])["blocks.2.hook_resid_pre"]
    with spliced(model, HOOK, random_sae(), where=where):
        found = model.capture(IDS, MASK, ["blocks.2.hook_resid_pre"])["blocks.2.hook_resid_pre"]
    assert torch.equal(found[:, 4:], clean[:, 4:])
    assert not torch.isclose(found[:, :4], clean[:, :4]).all(dim=-1).any()
    with (
        pytest.raises(ShapeError, match=r"`where` has shape \[3, 5\], but .* shape \[3, 12\]"),
        spliced(model, HOOK, random_sae(), where=where[:, :5]),
    ):
        logits(model)
    limit = clean.norm(dim=-1).median().item()
    with spliced(model, HOOK, random_sae(), max_norm=limit):
        found = model.capture(IDS, MASK, ["blocks.2.hook_resid_pre"])["blocks.2.hook_resid_pre"]
    long = clean.norm(dim=-1) > limit
    assert torch.equal(found[long], clean[long])
    assert 0 < long.sum() < long.numel()


def test_in_half_precision(tmp_path):
    folder = tiny_models.save(tmp_path / "m", "llama")
    model = LanguageModel.load(folder, dtype=torch.bfloat16)
    clean = logits(model)
    with spliced(model, HOOK, random_sae(), keep_error=True):
        difference = (logits(model) - clean).abs().max()
    assert difference <= 0.05 * clean.abs().max()


def test_cross_entropy_and_divergence(tiny):
    model = tiny("llama")
    sae = random_sae(members=1)
    texts = tiny_models.text(5)

    def measured(reconstruct):
        return loss_recovered(model, texts, HOOK, reconstruct, context_size=32)

    kept = measured(Splice(sae=sae, keep_error=True))
    assert kept.ce_spliced == pytest.approx(kept.ce_clean, rel=1e-4)
    assert abs(kept.kl_spliced) < 1e-5
    dropped = measured(sae)
    assert dropped == measured(lambda x: sae(x)[0].detach())
    assert dropped.kl_spliced > 0.01
    steered = measured(Splice(sae=sae, keep_error=True, steer={3: 20.0}))
    assert steered.kl_spliced > 100 * abs(kept.kl_spliced)
    with pytest.raises(ConfigError, match=r"this SAE has 2 members, and only one"):
        measured(random_sae())


def test_errors(tiny):
    model = tiny("gpt2")
    for change, message in (
        ({"member": 2}, r"has members 0 to 1, asked for was 2"),
        ({"ablate": [40]}, r"latent 40 is to be edited, but this SAE has latents 0 to 39"),
        ({"steer": {-1: 1.0}}, r"latent -1 is to be edited"),
        ({"ablate": [3], "steer": {3: 1.0}}, r"latent 3 is to be ablated and steered"),
    ):
        with (
            pytest.raises(ConfigError, match=message),
            spliced(model, HOOK, random_sae(), **change),
        ):
            pass
    with pytest.raises(HookError, match=r"nowhere"), spliced(model, "nowhere", random_sae()):
        pass
    with (
        pytest.raises(ShapeError, match=r"reads d_in 16, but activations at .* have d_in 64"),
        spliced(model, "blocks.1.mlp.hook_post", random_sae()),
    ):
        pass
    training = batchtopk(d_in=16, width=32, k=4).sae.train()
    with pytest.raises(ConfigError, match=r"Call sae.eval\(\) first"):
        Splice(sae=training)
