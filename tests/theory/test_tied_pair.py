import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import ConfigError
from latent_assay.theory import PairStates, tied_pair

from .strategies import pair_states


@given(pair_states(), st.floats(0, math.pi / 4))
@settings(deadline=None)
def test_closed_forms_equal_the_enumeration(states, theta):
    world = states.enumeration()
    sae = tied_pair.turned_sae(theta)
    with torch.no_grad():
        z = sae.encode(world.x)[0]
        error = (sae(world.x)[0] - world.x).square().sum(-1)
    p = world.probability
    assert tied_pair.l1(theta, states).item() == pytest.approx(float(p @ z.sum(-1)), abs=1e-10)
    assert tied_pair.reconstruction_error(theta, states).item() == pytest.approx(
        float(p @ error), abs=1e-10
    )


@given(pair_states())
@settings(deadline=None)
def test_penalty_rises_to_the_barrier_and_falls_beyond(states):
    angle = tied_pair.barrier(states)
    before = tied_pair.l1(torch.linspace(0, angle, 20, dtype=torch.float64), states)
    after = tied_pair.l1(torch.linspace(angle, math.pi / 4, 20, dtype=torch.float64), states)
    assert bool((before.diff() > 0).all())
    assert bool((after.diff() < 0).all())


@given(pair_states())
@settings(deadline=None)
def test_advantage_of_truth(states):
    ends = [tied_pair.l1(theta, states).item() for theta in (0.0, math.pi / 4)]
    assert tied_pair.advantage_of_truth(states) == pytest.approx(ends[1] - ends[0], abs=1e-12)


def test_in_a_hierarchy_truth_is_cheaper_if_the_parent_fires_alone_often_enough():
    limit = math.sqrt(2) * 0.1
    assert tied_pair.advantage_of_truth(PairStates(p11=0.1, p10=limit + 1e-6)) > 0
    assert tied_pair.advantage_of_truth(PairStates(p11=0.1, p10=limit - 1e-6)) < 0


def test_absorption_toy_world():
    states = PairStates(p11=0.05, p10=0.2)
    assert tied_pair.l1(0.0, states).item() == pytest.approx(0.300)
    assert tied_pair.l1(math.pi / 4, states).item() == pytest.approx(0.354, abs=5e-4)
    assert math.degrees(tied_pair.barrier(states)) == pytest.approx(33.7, abs=0.05)


def test_other_angles_are_refused():
    with pytest.raises(ConfigError, match="theta must lie between 0"):
        tied_pair.l1(1.0, PairStates(p11=0.1, p10=0.1))
