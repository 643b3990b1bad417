"""What is planted is there, by the definitions of truth, and the SAE works."""

import pytest
import torch

from latent_assay.diagnosis.calibration import WORLDS, Plan, planted, truth
from latent_assay.diagnosis.verdict import FAILURES, Verdict
from latent_assay.errors import ConfigError

TREES = [each for each in WORLDS if each.name != "correlated"]


def grown(named, plan, seed=0):
    world = named.world(seed)
    sample = world.sample(20_000, torch.Generator().manual_seed(seed))
    found = planted(world, sample, plan, torch.Generator().manual_seed(seed))
    return world, sample, found


@pytest.mark.parametrize("named", WORLDS, ids=lambda each: each.name)
def test_each_case_has_the_truth_it_was_planted_with(named):
    world, sample, case = grown(named, Plan(dense=1))
    found = truth(case.sae, world, sample)
    core = {Verdict.ABSORBED, Verdict.ABSORBING, Verdict.DUPLICATE, Verdict.DEAD, Verdict.DENSE}
    for latent in range(case.sae.width):
        planted_here = case.failures.get(latent, set())
        clear = {f for f, has in zip(FAILURES, found.clear[latent], strict=True) if has}
        possible = clear | {f for f, has in zip(FAILURES, found.grey[latent], strict=True) if has}
        assert planted_here & core <= clear
        assert planted_here <= possible
        # a latent that reads two features has several peaks too
        assert clear - planted_here <= {Verdict.SEVERAL_PEAKS}


def test_something_of_each_kind_is_planted():
    planned = Plan(absorbed=1, hedged=1, duplicates=1, splits=1, composed=1, dead=1, dense=1)
    _, _, case = grown(WORLDS[0], planned)
    there = set().union(*case.failures.values())
    assert there == set(FAILURES) - {Verdict.SEVERAL_PEAKS}


@pytest.mark.parametrize("named", TREES[:2], ids=lambda each: each.name)
def test_delta_and_hedge_are_as_planted(named):
    plan = Plan(absorbed=1, delta=(0.6, 0.6), hedged=1, noise=0.0)
    world, sample, case = grown(named, plan)
    found = truth(case.sae, world, sample)
    for latent, (foreign, part) in case.hedges.items():
        assert found.composition.ratios[latent, foreign] == pytest.approx(part, abs=0.05)
    assert case.absorptions
    for latent, children in case.absorptions.items():
        for child, delta in children:
            shares = [dict(h.carriers).get(child, 0.0) for h in found.holes if h.latent == latent]
            assert delta == 0.6
            assert max(shares) == pytest.approx(delta, abs=0.1)


def test_it_works_as_an_autoencoder():
    _, sample, case = grown(WORLDS[0], Plan(hedged=0))
    with torch.no_grad():
        x_hat = case.sae(sample.x)[0]
    error = (sample.x - x_hat).square().sum() / (sample.x - sample.x.mean(0)).square().sum()
    assert error < 0.05


def test_delta_is_a_share():
    with pytest.raises(ConfigError, match=r"`delta` is \(0\.9, 0\.5\), but shares lie above 0"):
        Plan(delta=(0.9, 0.5))
