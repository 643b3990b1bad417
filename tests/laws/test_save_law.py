"""load(save(sae)) gives equal outputs on raw activations, for every recipe."""

import dataclasses

import pytest
import torch

from latent_assay.formats import load, save
from latent_assay.training import fit

from . import recipes


@pytest.mark.parametrize("name", recipes.NAMES)
def test_saved_is_what_was_trained(name, tmp_path):
    sae, objective, config = recipes.ensemble(name, dtype=torch.float32)
    config = dataclasses.replace(config, steps=30, lr_warm_up_steps=0)
    fit(sae, objective, recipes.batches(torch.float32), config, progress=False)
    save(sae, tmp_path / "sae")
    loaded = load(tmp_path / "sae")
    x = next(recipes.batches(torch.float32, seed=5))
    with torch.no_grad():
        assert torch.equal(sae.encode(x), loaded.encode(x))
        assert torch.equal(sae(x), loaded(x))
        assert float((sae(x) - x).abs().max()) < 10  # a reconstruction, not an accident
    assert loaded.members == 2
    assert loaded.tied == sae.tied
    assert loaded.frozen == sae.frozen


@pytest.mark.parametrize("name", recipes.NAMES)
def test_scaled_inputs_are_folded(name, tmp_path):
    """An SAE trained on s·x takes x once it is rescaled, and reconstructs the same."""
    scale = 7.0
    sae, objective, config = recipes.ensemble(name)
    config = dataclasses.replace(config, steps=30, lr_warm_up_steps=0)
    fit(sae, objective, (scale * x for x in recipes.batches()), config, progress=False)
    save(sae.rescaled(scale), tmp_path / "sae")
    loaded = load(tmp_path / "sae")
    x = next(recipes.batches(seed=5))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), sae(scale * x) / scale)
        torch.testing.assert_close(loaded.encode(x), sae.encode(scale * x) / scale)
