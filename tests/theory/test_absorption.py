"""Every closed form against an SAE that runs over the enumerated states."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import ConfigError, ShapeError, WorldError
from latent_assay.theory import PairStates, absorption
from latent_assay.worlds import directions

from .strategies import pair_states

DELTAS = torch.linspace(0, 1, 11, dtype=torch.float64)
deltas = st.floats(0, 1)
inner_deltas = st.floats(0.001, 0.999)
exponents = st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0])


def measured(delta, states):
    """Latent activations, decoder norms and squared errors of the SAE in each state."""
    world = states.enumeration()
    sae = absorption.absorbed_sae(delta)
    with torch.no_grad():
        z = sae.encode(world.x)[0]
        error = (sae(world.x)[0] - world.x).square().sum(-1)
        return z, sae.W_dec[0].norm(dim=-1), error, world.probability


@given(pair_states(hierarchy=True), deltas)
@settings(deadline=None)
def test_reconstruction_is_perfect_in_a_hierarchy_however_much_is_absorbed(states, delta):
    *_, error, _ = measured(delta, states)
    assert float(error.max()) < 1e-24
    assert absorption.reconstruction_error(delta, states).item() == 0.0


@given(pair_states(), deltas)
@settings(deadline=None)
def test_error_and_penalties_equal_the_enumeration(states, delta):
    z, norm, error, probability = measured(delta, states)
    expected = {
        absorption.reconstruction_error: error,
        absorption.l1: z.sum(-1),
        absorption.decoder_norm_l1: (z * norm).sum(-1),
        absorption.l0: (z > 0).double().sum(-1),
    }
    for function, values in expected.items():
        found = function(delta, states).item()
        assert found == pytest.approx(float(probability @ values), abs=1e-10), function.__name__


@given(pair_states(), deltas, exponents)
@settings(deadline=None)
def test_penalties_with_an_exponent_equal_the_enumeration(states, delta, p):
    z, _, _, probability = measured(delta, states)
    powers = (z**p).sum(-1)
    assert absorption.power_sum(delta, states, p).item() == pytest.approx(
        float(probability @ powers), abs=1e-10
    )
    assert absorption.lp_norm(delta, states, p).item() == pytest.approx(
        float(probability @ powers ** (1 / p)), abs=1e-10
    )


@given(pair_states(), inner_deltas)
@settings(deadline=None)
def test_slopes_equal_finite_differences(states, delta):
    step = 1e-6
    for value, slope in (
        (absorption.reconstruction_error, absorption.reconstruction_slope),
        (absorption.l1, absorption.l1_slope),
        (absorption.decoder_norm_l1, absorption.decoder_norm_l1_slope),
    ):
        ends = [value(delta + side * step, states).item() for side in (-1, 1)]
        expected = (ends[1] - ends[0]) / (2 * step)
        assert slope(delta, states).item() == pytest.approx(expected, abs=1e-5)


@given(pair_states(), st.floats(0.01, 0.9), exponents)
@settings(deadline=None)
def test_slopes_with_an_exponent_equal_finite_differences(states, delta, p):
    step = 1e-6
    for value, slope in (
        (absorption.lp_norm, absorption.lp_norm_slope),
        (absorption.power_sum, absorption.power_sum_slope),
        (absorption.lp_norm_as_printed, absorption.lp_norm_slope_as_printed),
    ):
        ends = [value(delta + side * step, states, p).item() for side in (-1, 1)]
        expected = (ends[1] - ends[0]) / (2 * step)
        assert slope(delta, states, p).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(pair_states(hierarchy=True), exponents)
@settings(deadline=None)
def test_loss_falls_with_absorption_under_every_penalty(states, p):
    """In a hierarchy the error is zero, so the loss is the penalty."""
    for values in (
        absorption.l1(DELTAS, states),
        absorption.decoder_norm_l1(DELTAS, states),
        absorption.lp_norm(DELTAS, states, p),
        absorption.power_sum(DELTAS, states, p),
    ):
        assert bool((values.diff() < 0).all())


def test_proposition_2_as_stated():
    states = PairStates(p11=0.05, p10=0.2)
    assert absorption.l1(0.0, states).item() == pytest.approx(2 * 0.05 + 0.2)
    assert absorption.l1(1.0, states).item() == pytest.approx(0.05 + 0.2)
    assert absorption.l1_slope(0.3, states).item() == -0.05


def test_decoder_norm_saves_less_than_plain_l1():
    states = PairStates(p11=1.0, p10=0.0)
    saved = absorption.decoder_norm_l1(0.0, states) - absorption.decoder_norm_l1(1.0, states)
    assert saved.item() == pytest.approx(2 - math.sqrt(2))
    assert absorption.decoder_norm_l1_slope(1.0, states).item() == pytest.approx(-0.293, abs=1e-3)


def test_printed_norm_is_right_only_at_the_ends_and_for_p_1():
    states = PairStates(p11=1.0, p10=0.0)
    printed, right = absorption.lp_norm_as_printed, absorption.lp_norm
    assert right(0.4, states, 2).item() == pytest.approx(1.1662, abs=5e-5)
    assert printed(0.4, states, 2).item() == pytest.approx(1.2649, abs=5e-5)
    for p in (0.25, 2.0, 3.0):
        difference = (printed(DELTAS, states, p) - right(DELTAS, states, p)).abs()
        assert float(difference[[0, -1]].max()) < 1e-12
        assert float(difference[1:-1].min()) > 1e-3
    assert torch.allclose(printed(DELTAS, states, 1), right(DELTAS, states, 1))
    grid = torch.linspace(0, 1, 10001, dtype=torch.float64)
    largest = (right(grid, states, 0.25) - printed(grid, states, 0.25)).max()
    assert largest.item() == pytest.approx(6.550, abs=5e-4)


def test_printed_slope_never_vanishes_where_the_true_one_does():
    states = PairStates(p11=0.1, p10=0.2)
    assert absorption.lp_norm_slope(1.0, states, 2).item() == 0.0
    assert absorption.power_sum_slope(1.0, states, 2).item() == 0.0
    assert absorption.lp_norm_slope_as_printed(1.0, states, 2).item() == pytest.approx(-0.05)
    literal = absorption.lp_norm_slope_as_printed_literally(0.4, states, 2)
    assert literal.item() == pytest.approx(
        4 * absorption.lp_norm_slope_as_printed(0.4, states, 2).item()
    )


def test_slopes_below_p_1_are_infinite_at_full_absorption():
    states = PairStates(p11=0.1, p10=0.2)
    assert absorption.lp_norm_slope(1.0, states, 0.5).item() == -math.inf
    assert absorption.power_sum_slope(1.0, states, 0.5).item() == -math.inf
    never = PairStates(p11=0.0, p10=0.2)
    assert absorption.lp_norm_slope(1.0, never, 0.5).item() == 0.0
    assert absorption.power_sum_slope(1.0, never, 0.5).item() == 0.0


def test_l0_is_flat_with_a_fall_at_the_end():
    states = PairStates(p11=0.1, p10=0.2)
    values = absorption.l0(DELTAS, states)
    assert values.unique().tolist() == pytest.approx([0.3, 0.4])
    assert values[-1].item() == pytest.approx(0.3)
    near = absorption.power_sum(0.5, states, 1e-9)
    assert near.item() == pytest.approx(values[5].item(), abs=1e-8)


@given(pair_states(), st.floats(0, 3))
@settings(deadline=None)
def test_optimal_delta_beats_a_grid(states, coefficient):
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
    for penalty, optimum in (
        (absorption.l1, absorption.optimal_delta),
        (absorption.decoder_norm_l1, absorption.optimal_delta_decoder_norm),
    ):

        def loss(delta, penalty=penalty):
            error = absorption.reconstruction_error(delta, states)
            return error + coefficient * penalty(delta, states)

        best = optimum(states, coefficient)
        assert loss(best).item() <= float(loss(grid).min()) + 1e-15
    assert (
        absorption.optimal_delta_decoder_norm(states, coefficient)
        <= absorption.optimal_delta(states, coefficient) + 1e-12
    )


def test_optimal_delta_is_extreme_in_a_hierarchy_and_zero_without_a_reason():
    hierarchy = PairStates(p11=0.05, p10=0.2)
    for optimum in (absorption.optimal_delta, absorption.optimal_delta_decoder_norm):
        assert optimum(hierarchy, 1e-9) == 1.0
        assert optimum(hierarchy, 0.0) == 0.0
        assert optimum(PairStates(p11=0.0, p10=0.2, p01=0.1), 1.0) == 0.0


def test_one_member_for_each_delta_in_any_directions():
    features = directions.orthonormal(2, 6, torch.Generator().manual_seed(0))
    sae = absorption.absorbed_sae(torch.tensor([0.0, 0.5, 1.0]), features)
    both = features.double().sum(0, keepdim=True)
    with torch.no_grad():
        assert torch.allclose(sae(both), both.expand(3, 1, -1), atol=1e-6)
        expected = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
        assert torch.allclose(sae.encode(both)[:, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("delta", [-0.1, 1.1, math.nan])
def test_delta_outside_the_family_is_refused(delta):
    with pytest.raises(ConfigError, match="delta must lie between 0"):
        absorption.l1(delta, PairStates(p11=0.1, p10=0.1))


def test_bad_settings_are_refused():
    states = PairStates(p11=0.1, p10=0.1)
    with pytest.raises(ConfigError, match="p must be positive, got 0"):
        absorption.power_sum(0.5, states, 0)
    with pytest.raises(ConfigError, match="not negative, got -1"):
        absorption.optimal_delta(states, -1.0)
    with pytest.raises(WorldError, match="must have length 1 and stand at right angles"):
        absorption.absorbed_sae(0.5, torch.ones(2, 3))


@pytest.mark.usefixtures("as_a_user")
def test_three_features_are_refused():
    with pytest.raises(ShapeError, match=r"two directions \[2, d_in\], got \[3, 3\]"):
        absorption.absorbed_sae(0.5, torch.eye(3))
