import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import WorldError
from latent_assay.theory import PairStates
from latent_assay.worlds import presets

from .strategies import pair_states


@given(pair_states())
@settings(deadline=None)
def test_enumeration_has_the_rates_and_the_correlation(states):
    world = states.enumeration()
    both = world.magnitudes.mT @ (world.probability.unsqueeze(-1) * world.magnitudes)
    assert both[0, 0].item() == pytest.approx(states.first, abs=1e-12)
    assert both[1, 1].item() == pytest.approx(states.second, abs=1e-12)
    covariance = both[0, 1] - both[0, 0] * both[1, 1]
    spread = (both.diagonal() * (1 - both.diagonal())).prod().sqrt()
    assert (covariance / spread).item() == pytest.approx(states.correlation, abs=1e-9)
    assert world.probability.sum().item() == pytest.approx(1.0, abs=1e-12)


@given(st.floats(0.05, 0.95), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_conditionals_come_back(first, given, otherwise):
    states = PairStates.from_conditionals(first, given, otherwise)
    assert states.first == pytest.approx(first)
    assert states.given == pytest.approx(given, abs=1e-9)
    assert states.otherwise == pytest.approx(otherwise, abs=1e-9)


@given(st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.floats(0, 1))
@settings(deadline=None)
def test_every_feasible_correlation_comes_back(first, second, share):
    spread = math.sqrt(first * (1 - first) * second * (1 - second))
    lowest = (max(0.0, first + second - 1) - first * second) / spread
    highest = (min(first, second) - first * second) / spread
    correlation = lowest + share * (highest - lowest)
    states = PairStates.from_correlation(first, second, correlation)
    assert states.first == pytest.approx(first)
    assert states.second == pytest.approx(second)
    assert states.correlation == pytest.approx(correlation, abs=1e-9)


def test_it_agrees_with_the_worlds():
    world = presets.hedging_hierarchical(torch.Generator().manual_seed(0), n_features=2)
    expected = world.enumerate(dtype=torch.float64)
    own = PairStates.from_conditionals(0.25, given=0.2).enumeration(world.directions)
    assert torch.allclose(own.probability, expected.probability)
    assert torch.equal(own.firing, expected.firing)
    assert torch.allclose(own.x, expected.x, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PairStates(p11=-0.1, p10=0.2), "p11 is -0.1"),
        (lambda: PairStates(p11=math.nan, p10=0.2), "p11 is nan"),
        (lambda: PairStates(p11=0.6, p10=0.6), "is 1.2, but at most 1 is left"),
        (lambda: PairStates.from_conditionals(0.5, given=1.5), "`given` is 1.5"),
        (lambda: PairStates.from_correlation(0.45, 0.25, 0.7), "choose one from -0.52.* to 0.638"),
        (lambda: PairStates.from_correlation(0.0, 0.25, 0.0), "`first` is 0.0"),
        (lambda: PairStates(p11=0.0, p10=0.0, p01=0.5).given, "feature 1 never fires"),
        (lambda: PairStates(p11=0.5, p10=0.5).otherwise, "feature 1 always fires"),
    ],
)
def test_impossible_states_are_refused(make, message):
    with pytest.raises(WorldError, match=message):
        make()


def test_a_feature_that_never_changes_has_no_correlation():
    assert math.isnan(PairStates(p11=0.0, p10=0.0, p01=0.5).correlation)
