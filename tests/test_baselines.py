"""Null baselines at equal L0; a trained SAE stands between them and the oracle."""

import dataclasses

import pytest
import torch

from latent_assay import baselines, fit, measure, recipes
from latent_assay.errors import DataError, WorldError
from latent_assay.population import minibatches
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.worlds import Constant, Independent, World, directions, presets

WORLD = presets.hedging_independent(d_in=10)


def samples(world: World, n: int = 5_000, seed: int = 9):
    return [world.sample(n, torch.Generator().manual_seed(seed))]


@pytest.fixture(scope="module")
def trained() -> SAE:
    sae, objective, config = recipes.relu_l1(d_in=10, width=4, l1=1e-3, lr=1e-2, seeds=range(6))
    config = dataclasses.replace(config, steps=1500, lr_decay_steps=700)
    fit(sae, objective, minibatches(WORLD, 256, seeds=0), config, progress=False)
    return sae


def test_oracle_beats_trained_beats_random(trained):
    l0 = float(measure(trained, samples(WORLD)).metrics["l0"].mean())
    x = WORLD.sample(5_000, torch.Generator().manual_seed(1)).x
    random = baselines.random_dictionary(x, width=4, l0=l0, seeds=range(6))
    rows = {
        name: measure(sae, samples(WORLD), features=WORLD.features).summary()
        for name, sae in {
            "oracle": baselines.oracle(WORLD), "trained": trained, "random": random,
        }.items()
    }  # fmt: skip
    for name in ("fvu", "mse"):
        assert rows["oracle"][name].mean < rows["trained"][name].mean < rows["random"][name].mean
    for name in ("mcc", "mmcs", "f1_by_match", "cosine"):
        assert rows["oracle"][name].mean >= rows["trained"][name].mean > rows["random"][name].mean
    assert rows["trained"]["fvu"].differs_from(rows["random"]["fvu"])
    assert rows["oracle"]["fvu"].mean < 1e-10
    assert rows["oracle"]["l0"].mean == pytest.approx(WORLD.true_l0(), abs=0.05)
    assert rows["oracle"]["f1_by_match"].mean == pytest.approx(1.0)


@pytest.mark.parametrize("l0", [0.5, 2.0, 6.5])
def test_baselines_fire_as_often_as_asked(l0):
    x = torch.randn(4_000, 12, generator=torch.Generator().manual_seed(0)) + 5.0
    for sae in (
        baselines.random_dictionary(x, width=40, l0=l0, seeds=(0, 1)),
        baselines.chosen_components(x, l0=l0),
    ):
        found = measure(sae, [x]).metrics
        assert found["l0"] == pytest.approx([l0] * sae.members, rel=0.01)
        assert bool((found["fvu"] < 1).all())  # the mean and one factor are fitted


def test_leading_components_are_those_of_the_svd():
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)).double()
    x = x * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1]).double() + 7
    sae = baselines.leading_components(x, k=2)
    centred = x - x.mean(0)
    _, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    left = float(singular[2:].square().sum() / singular.square().sum())
    assert float(measure(sae, [x]).metrics["fvu"]) == pytest.approx(left, rel=1e-9)
    assert float(measure(sae, [x]).metrics["l0"]) == 2


def test_permuting_keeps_firing_and_loses_meaning(trained):
    permuted = baselines.permuted_decoder(trained, seeds=range(20))
    before = measure(trained.take(0), samples(WORLD)).metrics
    after = measure(permuted, samples(WORLD)).metrics
    assert torch.allclose(after["l0"], before["l0"].expand(20))
    assert float(after["fvu"].mean()) > 10 * float(before["fvu"])
    rows = {tuple(row.tolist()) for row in trained.W_dec[0].detach()}
    assert {tuple(row.tolist()) for row in permuted.W_dec[3].detach()} == rows


def test_oracle_in_superposition_and_with_bias():
    generator = torch.Generator().manual_seed(0)
    world = World(
        directions=directions.superposed(12, 8, generator),
        firing=Independent(rates=[0.05] * 12),
        magnitudes=Constant(value=2.0),
        bias=torch.arange(8.0),
    )
    found = measure(baselines.oracle(world), samples(world), features=world.features).metrics
    assert float(found["mcc"]) == pytest.approx(1.0)
    assert float(found["fvu"]) < 0.35  # no linear reading is exact in superposition
    assert float(found["f1_by_match"]) > 0.8


def test_mistakes():
    with pytest.raises(DataError, match="at least two activations"):
        baselines.random_dictionary(torch.ones(1, 3), width=4, l0=1.0)
    with pytest.raises(DataError, match="at least two activations"):
        baselines.leading_components(torch.ones(1, 3), k=1)
    flat = World(
        directions=torch.tensor([[1.0, 0.0], [0.0, 0.0]]), firing=Independent(rates=[0.5, 0.5])
    )
    with pytest.raises(WorldError, match="feature 1 has length zero"):
        baselines.oracle(flat)


def test_a_mean_only_reconstruction_explains_nothing():
    x = torch.randn(1_000, 5, generator=torch.Generator().manual_seed(0)).double() + 100
    sae = SAE(torch.zeros(1, 2, 5).double(), b_dec=x.mean(0)[None], sparsifier=ReLU())
    found = measure(sae, x.split(77)).metrics
    assert float(found["explained_variance"]) == pytest.approx(0.0, abs=1e-12)
    assert float(found["n_dead"]) == 2


def test_measuring_needs_fitting_data(trained):
    with pytest.raises(DataError):
        measure(trained, [])
    from latent_assay.errors import ShapeError

    with pytest.raises(ShapeError, match="this SAE reads d_in 10"):
        measure(trained, [torch.ones(3, 11)])


def test_measuring_by_enumeration_equals_measuring_by_many_samples(trained):
    from latent_assay import WeightedBatch

    every = WORLD.enumerate()
    exact = measure(trained, [WeightedBatch(every.x, every.probability)]).metrics
    sampled = measure(trained, samples(WORLD, 100_000)).metrics
    for name in ("mse", "l0", "l1"):
        torch.testing.assert_close(exact[name], sampled[name], rtol=0.05, atol=1e-4)
