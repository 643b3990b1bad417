import pytest
import torch

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.baselines import leading_components
from latent_assay.errors import ConfigError, ShapeError
from latent_assay.evals import core_metrics
from latent_assay.sae import SAE
from latent_assay.sparsifiers import Identity, JumpReLU, ReLU
from tests.activations import tiny_models

from . import toy

HOOK = "blocks.1.hook_resid_post"


def test_oracle_beats_trained_beats_random():
    x = toy.data().x
    found = {name: core_metrics(sae, x) for name, sae in toy.saes().items()}
    oracle, trained, random = (
        found[name].metrics["explained_variance"] for name in ("oracle", "trained", "random")
    )
    assert oracle.mean == pytest.approx(1.0)
    assert oracle.against(trained) == "better"
    assert trained.against(random) == "better"
    beside = found["trained"].baselines
    assert beside["permuted decoder"]["explained_variance"].mean < trained.mean
    assert "no model and texts" in found["trained"].details["loss_recovered"]


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_the_mean_explains_nothing(scale):
    """SAEBench's explained variance gives 0.90 here, and above 1 after scaling."""
    generator = torch.Generator().manual_seed(0)
    x = scale * (torch.randn(3000, 16, generator=generator) + 1.0)
    # one latent that always fires and points nowhere: the reconstruction is b_dec
    mean_only = SAE(
        torch.zeros(1, 1, 16),
        torch.zeros(1, 1, 16),
        b_enc=torch.ones(1, 1),
        b_dec=x.mean(0)[None],
        sparsifier=ReLU(),
    )
    found = core_metrics(mean_only, x).metrics["explained_variance"]
    assert found.mean == pytest.approx(0.0, abs=1e-6)
    half = leading_components(x, k=8)
    expected = 1 - ((x - half(x)[0]).square().sum() / (x - x.mean(0)).square().sum()).item()
    assert core_metrics(half, x).metrics["explained_variance"].mean == pytest.approx(expected)


def test_batches_change_nothing(monkeypatch):
    from latent_assay.evals import core

    x = toy.data().x
    one = core_metrics(toy.saes()["trained"], x)
    monkeypatch.setattr(core, "_ROWS_AT_ONCE", 7)
    other = core_metrics(toy.saes()["trained"], x)
    for key, found in one.metrics.items():
        assert other.metrics[key].mean == pytest.approx(found.mean, rel=1e-6)
        assert other.metrics[key].sd == pytest.approx(found.sd, rel=1e-4, abs=1e-9)


def test_losses_in_a_causal_model(tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "gpt2", "gpt2"))
    d_in = model.d_in(HOOK)
    texts = tiny_models.text(6)
    x = torch.randn(400, d_in, generator=torch.Generator().manual_seed(0))
    perfect = SAE(torch.eye(d_in)[None], sparsifier=Identity())
    options = {"model": model, "texts": texts, "hook_point": HOOK, "n_parts": 2, "context_size": 32}
    result = core_metrics(perfect, x, **options)
    assert result.metrics["loss_recovered"].mean == pytest.approx(1.0, abs=1e-4)
    assert result.metrics["kl_recovered"].mean == pytest.approx(1.0, abs=1e-4)
    assert result.metrics["loss_recovered"].n == 2
    with pytest.raises(ConfigError, match="6 texts cannot be divided into 20 parts"):
        core_metrics(perfect, x, **(options | {"n_parts": 20}))


def test_an_encoder_has_no_loss():
    model = LanguageModel.load(bundled_minilm())
    d_in = model.d_in(HOOK)
    x = torch.randn(100, d_in, generator=torch.Generator().manual_seed(0))
    sae = SAE(torch.eye(d_in)[None], sparsifier=ReLU())
    result = core_metrics(sae, x, model=model, texts=tiny_models.text(6), hook_point=HOOK)
    assert "loss_recovered" not in result.metrics
    assert "predicts no next token" in result.details["loss_recovered"]


def test_bad_input():
    sae = SAE(torch.eye(4)[None], sparsifier=ReLU())
    with pytest.raises(ConfigError, match="3 activations in 5 parts"):
        core_metrics(sae, torch.ones(3, 4))
    with pytest.raises(ShapeError, match="x has d_in 5"):
        core_metrics(sae, torch.ones(30, 5))
    silent = SAE(torch.eye(4)[None], sparsifier=JumpReLU(torch.full((1, 4), 99.0)))
    assert "no latent of this SAE fires" in core_metrics(silent, torch.ones(30, 4)).not_measurable
