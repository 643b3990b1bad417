import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.theory import PairStates, hedging_theorem
from latent_assay.theory.hedging import oracle_decoder

from .strategies import pair_states, worlds


def covariance(world, i, k):
    m, p = world.magnitudes, world.probability
    return float(p @ (m[:, i] * m[:, k]) - (p @ m[:, i]) * (p @ m[:, k]))


def test_hedging_without_correlation():
    """Counterexample (i): claim 2 fails."""
    world = hedging_theorem.suppressed_independence()
    decoder = oracle_decoder(world, [0, 1])
    assert covariance(world, 1, 2) == pytest.approx(0, abs=1e-12)
    assert decoder.weights[:, 2].tolist() == pytest.approx([10 / 21, -4 / 21], abs=1e-12)
    assert decoder.bias[2].item() == pytest.approx(5 / 14, abs=1e-12)
    assert not hedging_theorem.hedges_as_printed(world, 1, 2)
    assert world.probability.sum().item() == pytest.approx(1)


def test_correlation_without_hedging():
    """Counterexample (ii): claim 1 fails."""
    world = hedging_theorem.screened_correlation()
    decoder = oracle_decoder(world, [0, 1])
    assert covariance(world, 1, 2) == pytest.approx(0.09, abs=1e-12)
    assert decoder.weights[:, 2].tolist() == pytest.approx([0.6, 0.0], abs=1e-12)
    assert hedging_theorem.hedges_as_printed(world, 1, 2)
    assert world.probability.sum().item() == pytest.approx(1)


def test_printed_size_of_the_weight_is_wrong():
    world = PairStates.from_conditionals(0.25, given=0.2).enumeration()
    assert oracle_decoder(world, [0]).weights[0, 1].item() == pytest.approx(0.2)
    assert hedging_theorem.weight_as_printed(world, [0], 0, 1) == pytest.approx(0.3974, abs=1e-4)


@given(worlds())
@settings(max_examples=40, deadline=None)
def test_printed_weight_has_the_right_sign(world):
    n = world.magnitudes.shape[1]
    tracked = list(range(n - 1))
    decoder = oracle_decoder(world, tracked)
    for latent in tracked:
        right = decoder.weights[latent, n - 1].item()
        printed = hedging_theorem.weight_as_printed(world, tracked, latent, n - 1)
        if abs(right) > 1e-9:
            assert math.copysign(1, printed) == math.copysign(1, right)
        else:
            assert abs(printed) < 1e-6


@given(pair_states(), st.floats(0.2, 5.0), st.floats(0.2, 5.0))
@settings(deadline=None)
def test_with_one_latent_the_claims_hold_but_for_the_size(states, tracked, orphan):
    world = states.enumeration()
    world = replace(world, magnitudes=world.magnitudes * torch.tensor([tracked, orphan]).double())
    weight = oracle_decoder(world, [0]).weights[0, 1].item()
    assert hedging_theorem.hedges_as_printed(world, 0, 1) == (abs(states.correlation) > 1e-10)
    printed = hedging_theorem.weight_as_printed(world, [0], 0, 1)
    assert printed == pytest.approx(orphan / tracked * states.correlation, rel=1e-6, abs=1e-9)
    spread = states.second * (1 - states.second) / (states.first * (1 - states.first))
    assert weight == pytest.approx(printed * math.sqrt(spread), rel=1e-9, abs=1e-9)


def test_partial_correlation_of_what_is_fully_explained_is_zero():
    world = PairStates(p11=0.3, p10=0.0).enumeration()
    three = torch.cat([world.magnitudes, world.magnitudes[:, :1]], dim=1)
    world = replace(world, magnitudes=three, firing=three > 0)
    assert hedging_theorem.partial_correlation(world, 1, 2, [0]) == 0.0
