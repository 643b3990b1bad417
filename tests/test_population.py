"""Training on a finite world itself: the law of minibatches, exact gradients, every sparsifier."""

import dataclasses
import itertools

import pytest
import torch
from scipy.stats import chi2

from latent_assay.errors import ConfigError, WorldError
from latent_assay.losses import Forward, Progress
from latent_assay.population import (
    counts_in_turn,
    counts_of_draws,
    minibatches,
    population,
)
from latent_assay.recipes import RECIPES, Recipe, relu_l1, topk
from latent_assay.training import TrainingConfig, fit
from latent_assay.worlds import presets

from .laws import recipes as small

WORLD = presets.balance_matryoshka(d_in=small.D_IN)


def gradients(recipe: Recipe, x, weight=None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    recipe.sae.zero_grad(set_to_none=True)
    since = torch.zeros(recipe.sae.members, recipe.sae.width, dtype=torch.int64)
    progress = Progress(step=0, samples=10**6, since_fired=since)
    total, _ = recipe.objective(Forward(recipe.sae.train(), x, weight), progress)
    total.sum().backward()
    found = {n: p.grad.clone() for n, p in recipe.sae.named_parameters() if p.grad is not None}
    return total.detach(), found


def test_population_is_the_enumeration():
    batch = next(population(WORLD, dtype=torch.float64))
    enumeration = WORLD.enumerate(dtype=torch.float64)
    assert torch.equal(batch.x, enumeration.x)
    assert torch.equal(batch.weight, enumeration.probability)
    assert abs(float(batch.weight.sum()) - 1) < 1e-12


def test_minibatches_have_the_law_of_samples():
    """Chi-square of pattern counts against probabilities, and of pairs within a batch."""
    batches = list(itertools.islice(minibatches(WORLD, 50, seeds=3, dtype=torch.float64), 2000))
    counts = torch.stack([batch.weight * 50 for batch in batches])
    assert bool((counts - counts.round()).abs().max() < 1e-9)
    assert bool((counts.sum(-1) - 50).abs().max() < 1e-9)
    probability = WORLD.enumerate(dtype=torch.float64).probability
    expected = probability * 50 * 2000
    statistic = float(((counts.sum(0) - expected) ** 2 / expected).sum())
    assert statistic < chi2.ppf(1 - 1e-6, len(probability) - 1)
    # multinomial, not only the right means: Cov(n_i, n_j) = -B p_i p_j, Var n_i = B p_i (1 - p_i)
    covariance = torch.cov(counts.T)
    theory = 50 * (torch.diag(probability) - probability.outer(probability))
    # the fourth moments of nearly Poisson counts with means B p
    mean = 50 * probability
    sd = ((2 * mean.outer(mean) + torch.diag(mean)) / 2000).sqrt()
    assert bool(((covariance - theory).abs() < 6 * sd).all())


def test_sampled_batches_agree_with_counts_of_patterns():
    """The same pattern frequencies as drawing samples one by one."""
    n = 40_000
    sample = WORLD.sample(n, torch.Generator().manual_seed(0))
    enumeration = WORLD.enumerate()
    code = 2 ** torch.arange(WORLD.n_features)
    drawn = torch.bincount((sample.firing * code).sum(1), minlength=2**WORLD.n_features)
    drawn = drawn[(enumeration.firing * code).sum(1)].double()
    counted = (next(minibatches(WORLD, n, seeds=1, dtype=torch.float64)).weight * n).round()
    both = drawn + counted
    statistic = float(((drawn - counted) ** 2 / both.clamp_min(1)).sum())
    assert statistic < chi2.ppf(1 - 1e-6, len(both) - 1)


def test_members_draw_for_themselves():
    together = next(minibatches(WORLD, 64, seeds=(5, 6, 7)))
    assert together.weight.shape[0] == 3
    for member, seed in enumerate((5, 6, 7)):
        assert torch.equal(together.weight[member], next(minibatches(WORLD, 64, seeds=seed)).weight)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_counts_give_what_the_samples_give(name):
    """Loss and gradient of a weighted batch equal those of the samples that it stands for."""
    batch = next(minibatches(WORLD, 40, seeds=(1, 2), dtype=torch.float64))
    counts = (batch.weight * 40).round().long()
    rows = torch.stack([batch.x.repeat_interleave(each, dim=0) for each in counts])
    weighted = gradients(small.ensemble(name), batch.x, batch.weight)
    plain = gradients(small.ensemble(name), rows)
    torch.testing.assert_close(weighted[0], plain[0], rtol=1e-9, atol=1e-12)
    for parameter, gradient in plain[1].items():
        torch.testing.assert_close(weighted[1][parameter], gradient, rtol=1e-8, atol=1e-11)


def test_population_gradient_is_the_mean_of_sampled_gradients():
    recipe = relu_l1(d_in=small.D_IN, width=4, l1=0.03, dtype=torch.float64)
    batch = next(population(WORLD, dtype=torch.float64))
    _, exact = gradients(recipe, batch.x, batch.weight)
    # exactly: the gradients of single patterns, weighted by their probabilities
    singles = [gradients(recipe, x[None])[1] for x in batch.x]
    for name, gradient in exact.items():
        mean = sum(p * each[name] for p, each in zip(batch.weight, singles, strict=True))
        torch.testing.assert_close(gradient, mean, rtol=1e-10, atol=1e-13)
    # and in the mean over sampled batches, within five standard errors
    draws = 400
    found = torch.stack(
        [
            gradients(recipe, *next(minibatches(WORLD, 32, seeds=s, dtype=torch.float64))[:2])[1][
                "W_dec"
            ]
            for s in range(draws)
        ]
    )
    error = found.std(0) / draws**0.5
    assert bool(((found.mean(0) - exact["W_dec"]).abs() <= 5 * error + 1e-12).all())


def test_batchtopk_fires_a_pattern_in_all_its_samples_or_in_none():
    recipe = small.ensemble("batchtopk", k=(0.2, 0.3))
    batch = next(population(WORLD, dtype=torch.float64))
    sae = recipe.sae.train()
    z = sae.sparsifier(sae.pre_activations(batch.x), batch.weight)
    l0 = ((z > 0).sum(-1) * batch.weight).sum(-1)
    assert bool((l0 >= sae.sparsifier.k - 1e-9).all())
    # without the weakest entry that fires there would be too few
    weakest = torch.where(z > 0, z, torch.inf).amin((1, 2), keepdim=True)
    fewer = ((z > weakest).sum(-1) * batch.weight).sum(-1)
    assert bool((fewer < sae.sparsifier.k).all())


@pytest.mark.parametrize("read", [0, 1, 63, 64, 65, 130])
@pytest.mark.parametrize("seeds", [3, (3, 4)])
def test_resumes_where_it_was(seeds, read):
    """Counts are drawn for many batches at once; a state may lie anywhere within."""
    whole = minibatches(WORLD, 100, seeds=seeds)
    first = minibatches(WORLD, 100, seeds=seeds)
    for _ in range(read):
        next(whole)
        next(first)
    again = minibatches(WORLD, 100, seeds=seeds)
    again.load_state_dict(first.state_dict())
    for _ in range(70):
        assert torch.equal(next(again).weight, next(whole).weight)
    with pytest.raises(ConfigError, match="seeds"):
        minibatches(WORLD, 100, seeds=(1, 2, 3)).load_state_dict(first.state_dict())


@pytest.mark.parametrize("draw", [counts_in_turn, counts_of_draws])
@pytest.mark.parametrize(
    "probability", [[0.5, 0.3, 0.2], [0.0, 0.7, 0.0, 0.3], [1.0], [0.97, 0.01, 0.02, 0.0]]
)
def test_counts_have_the_multinomial_law(draw, probability):
    p = torch.tensor(probability, dtype=torch.float64)
    n, times = 20, 4000
    counts = draw(p, n, times, torch.Generator().manual_seed(0))
    assert counts.shape == (times, len(p))
    assert bool((counts.sum(1) == n).all())
    assert bool((counts >= 0).all())
    assert bool((counts[:, p == 0] == 0).all())
    torch.testing.assert_close(counts.mean(0), n * p, rtol=0, atol=5 * (n / 4 / times) ** 0.5)
    expected = n * (torch.diag(p) - torch.outer(p, p))
    centred = counts - n * p
    found = centred.T @ centred / times
    torch.testing.assert_close(found, expected, rtol=0.12, atol=0.06)


def test_training_reaches_a_stationary_point():
    recipe = relu_l1(d_in=small.D_IN, width=4, l1=0.01, lr=1e-2, dtype=torch.float64)
    config = TrainingConfig(steps=3000, lr=1e-2, lr_decay_steps=2000)
    before = gradients(recipe, *next(population(WORLD, dtype=torch.float64))[:2])[1]
    fit(
        recipe.sae, recipe.objective, population(WORLD, dtype=torch.float64), config, progress=False
    )
    after = gradients(recipe, *next(population(WORLD, dtype=torch.float64))[:2])[1]
    assert float(after["W_dec"].norm()) < 1e-3 * float(before["W_dec"].norm())


def test_samples_are_counted_as_samples():
    recipe = topk(d_in=small.D_IN, width=4, k=1, lr=1e-3)
    config = dataclasses.replace(recipe.config, steps=10, log_every=10)
    history = fit(recipe.sae, recipe.objective, minibatches(WORLD, 100), config, progress=False)
    assert history.samples.tolist() == [1000]


@pytest.mark.parametrize(
    ("world", "reason"),
    [
        (presets.absorption(parent_sd=0.1), "normal"),
        (presets.hedging_copula(), "copula|normal"),
    ],
)
def test_infinite_worlds_say_what_makes_them_so(world, reason):
    with pytest.raises(WorldError, match=reason):
        population(world)
    with pytest.raises(WorldError, match=reason):
        minibatches(world, 10)


def test_an_empty_batch_is_refused():
    with pytest.raises(ConfigError, match="at least one sample"):
        minibatches(WORLD, 0)
