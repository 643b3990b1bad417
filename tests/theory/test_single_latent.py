import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import ConfigError, WorldError
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.theory import PairStates, single_latent
from latent_assay.theory.hedging import oracle_decoder
from latent_assay.worlds import Enumeration, presets

from .strategies import independent, pair_states, worlds

GRID = torch.linspace(0, math.pi / 2, 2001, dtype=torch.float64)


def tied(direction):
    return SAE(direction.reshape(1, 1, -1).double(), sparsifier=ReLU())


@given(pair_states(), st.floats(0, math.pi / 2))
@settings(deadline=None)
def test_error_and_penalty_equal_the_enumeration(states, theta):
    world = states.enumeration()
    direction = torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)
    sae = tied(direction)
    with torch.no_grad():
        z = sae.encode(world.x)[0, :, 0]
        error = (sae(world.x)[0] - world.x).square().sum(-1)
    p = world.probability
    assert single_latent.tied_error(theta, states).item() == pytest.approx(
        float(p @ error), abs=1e-10
    )
    assert single_latent.tied_penalty(theta, states).item() == pytest.approx(
        float(p @ z), abs=1e-10
    )


@given(pair_states(), st.sampled_from([0.0, 0.01, 0.1, 1.0, 5.0]))
@settings(deadline=None)
def test_optimum_beats_a_grid(states, coefficient):
    def loss(theta):
        error = single_latent.tied_error(theta, states)
        return error + coefficient * single_latent.tied_penalty(theta, states)

    best = single_latent.optimal_angle(states, coefficient)
    assert loss(best).item() <= float(loss(GRID).min()) + 1e-14


@given(pair_states())
@settings(deadline=None)
def test_without_penalty_the_optimum_is_never_a_feature(states):
    theta = single_latent.optimal_angle(states)
    assert 0 < theta < math.pi / 2
    assert math.sin(2 * theta) * (states.p10 - states.p01) == pytest.approx(
        math.cos(2 * theta) * 2 * states.p11, abs=1e-12
    )


@pytest.mark.parametrize(
    ("alone", "together", "coefficient", "alpha"),
    [
        (0.3, 0.1, 0.0, 0.2324),
        (0.3, 0.1, 0.1, 0.2343),
        (0.1, 0.3, 0.0, 0.4586),
        (0.1, 0.3, 0.1, 0.4599),
    ],
)
def test_figure_6(alone, together, coefficient, alpha):
    states = PairStates(p11=together, p10=alone)
    theta = single_latent.optimal_angle(states, coefficient)
    assert single_latent.alpha(theta) == pytest.approx(alpha, abs=5e-5)
    assert single_latent.angle_of_alpha(single_latent.alpha(theta)) == pytest.approx(theta)
    loss = single_latent.tied_error(GRID, states)
    loss = loss + coefficient * single_latent.tied_penalty(GRID, states)
    turns = (loss.diff().sign().diff() > 0).sum()
    assert int(turns) == 1  # one local minimum


def test_figure_6_losses():
    for alone, together, least, parent in ((0.3, 0.1, 0.0697, 0.1), (0.1, 0.3, 0.0459, 0.3)):
        states = PairStates(p11=together, p10=alone)
        best = single_latent.optimal_angle(states)
        assert single_latent.tied_error(best, states).item() == pytest.approx(least, abs=5e-5)
        assert single_latent.tied_error(0.0, states).item() == pytest.approx(parent)


def test_features_that_never_meet_are_not_mixed():
    assert single_latent.optimal_angle(PairStates(p11=0, p10=0.3, p01=0.2)) == 0.0
    assert single_latent.optimal_angle(PairStates(p11=0, p10=0.2, p01=0.3)) == math.pi / 2


@given(pair_states())
@settings(deadline=None)
def test_dominant_direction_is_the_optimum_of_two_features(states):
    direction = single_latent.dominant_direction(states.enumeration())
    theta = math.atan2(direction[1], direction[0])
    assert theta == pytest.approx(single_latent.optimal_angle(states), abs=1e-7)


@given(st.lists(st.floats(0.05, 0.9), min_size=3, max_size=3), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_no_random_latent_beats_the_dominant_direction(rates, seed):
    world = independent(rates, [1.0, 1.5, 0.5])
    generator = torch.Generator().manual_seed(seed)
    others = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    others /= others.norm(dim=-1, keepdim=True)

    def error(rows):
        x_hat = (world.x @ rows.mT).relu().unsqueeze(-1) * rows
        return world.probability @ (x_hat - world.x.unsqueeze(1)).square().sum(-1)

    best = single_latent.dominant_direction(world)
    assert bool((best >= 0).all())
    assert float(error(best.unsqueeze(0))) <= float(error(others).min()) + 1e-12


def test_dominant_direction_of_a_tie_is_not_cut():
    """Two features that never meet: each mixture of them leads, but only some signs are right."""
    world = PairStates(p11=0.0, p10=0.3, p01=0.3).enumeration()
    direction = single_latent.dominant_direction(world)
    assert direction.tolist() == pytest.approx([math.sqrt(0.5)] * 2)


def test_opposite_features_have_no_closed_form():
    world = PairStates(p11=0.0, p10=0.3, p01=0.3).enumeration()
    apart = Enumeration(
        firing=world.firing,
        magnitudes=world.magnitudes,
        x=world.magnitudes @ torch.tensor([[1.0, 0.0], [-1.0, 0.2]], dtype=torch.float64),
        probability=world.probability,
    )
    with pytest.raises(WorldError, match="at no more than a right angle"):
        single_latent.dominant_direction(apart)


@given(worlds(features=(2,)), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_gated_latent_is_the_minimum(world, coefficient):
    """Against a descent on the penalised loss with the bias eliminated."""
    on = world.firing[:, 0]
    p, x = world.probability, world.x
    rate = float(p[on].sum())
    found = single_latent.gated_latent(world, 0, coefficient)

    def loss(u):
        b = p @ x - rate * u
        error = p @ (x - b - on.double().unsqueeze(-1) * u).square().sum(-1)
        return float(error + coefficient * rate * u.norm())

    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = found + 0.1 * torch.randn(4, generator=generator, dtype=torch.float64)
        assert loss(found) <= loss(other) + 1e-12
    assert loss(found) <= loss(torch.zeros(4, dtype=torch.float64)) + 1e-12


def test_no_penalty_turns_a_gated_latent():
    world = PairStates.from_conditionals(0.25, given=0.2, otherwise=0.1).enumeration()
    for coefficient in (0.0, 0.2, 1.0):
        row = single_latent.gated_latent(world, 0, coefficient)
        assert (row[1] / row.norm()).item() == pytest.approx(0.0995, abs=1e-4)
    assert single_latent.gated_latent(world, 0, 2.0).norm().item() == 0.0
    plain = single_latent.gated_latent(world, 0)
    assert torch.allclose(plain, oracle_decoder(world, [0]).W_dec[0])


def test_a_gate_must_open_and_shut():
    with pytest.raises(WorldError, match="feature 0 fires with probability 1,"):
        single_latent.gated_latent(PairStates(p11=0.3, p10=0.7).enumeration(), 0)
    with pytest.raises(WorldError, match="feature 0 fires with probability 0,"):
        single_latent.gated_latent(PairStates(p11=0.0, p10=0.0, p01=0.5).enumeration(), 0)


@given(pair_states(hierarchy=True))
@settings(deadline=None)
def test_gains_of_parent_and_child(states):
    """Equation 25 gated and as printed, against the enumeration."""
    world = states.enumeration()
    before = world.probability @ world.x.square().sum(-1)
    for feature, rate in ((0, states.first), (1, states.second)):
        f = torch.eye(2, dtype=torch.float64)[feature]
        gated = world.x - world.magnitudes[:, [feature]] * f
        gain = before - world.probability @ gated.square().sum(-1)
        assert single_latent.reconstruction_gain(rate) == pytest.approx(gain.item(), abs=1e-10)
        printed = before - world.probability @ (world.x - f).square().sum(-1)
        assert single_latent.reconstruction_gain_as_printed(rate) == pytest.approx(
            printed.item(), abs=1e-10
        )
    assert single_latent.reconstruction_gain(states.first) >= single_latent.reconstruction_gain(
        states.second
    )


def test_printed_gain_is_negative_for_rare_features():
    assert single_latent.reconstruction_gain(0.25) == 0.25
    assert single_latent.reconstruction_gain_as_printed(0.25) == -0.5


def test_the_mixture_beats_the_parent():
    states = PairStates(p11=0.1, p10=0.3)
    best = single_latent.tied_error(single_latent.optimal_angle(states), states)
    assert best.item() < single_latent.tied_error(0.0, states).item()


@given(st.lists(st.floats(0.05, 0.95), min_size=2, max_size=4))
@settings(deadline=None)
def test_loss_without_latent_equals_the_oracle(rates):
    magnitudes = [1.0 + 0.5 * i for i in range(len(rates))]
    world = independent(rates, magnitudes)
    loss = single_latent.loss_without_latent(
        torch.tensor(rates, dtype=torch.float64), torch.tensor(magnitudes)
    )
    full = oracle_decoder(world, []).error
    assert full == pytest.approx(float(loss.sum()), abs=1e-9)
    for feature in range(len(rates)):
        gain = full - oracle_decoder(world, [feature]).error
        assert gain == pytest.approx(loss[feature].item(), abs=1e-9)


def test_spread_of_magnitudes_adds_to_the_loss():
    magnitudes = torch.tensor([0.5, 1.5], dtype=torch.float64)  # equally often: mean 1, sd .5
    values = torch.cat([torch.zeros(1, dtype=torch.float64), magnitudes])
    probability = torch.tensor([0.6, 0.2, 0.2], dtype=torch.float64)
    variance = probability @ values.square() - (probability @ values) ** 2
    found = single_latent.loss_without_latent(torch.tensor([0.4]), torch.tensor([1.0]), 0.5)
    assert found.item() == pytest.approx(variance.item(), abs=1e-7)


def test_which_features_a_narrow_sae_represents():
    """Broken Latents: 20 features, rates up to .3, magnitudes down to 1, five latents."""
    i = torch.arange(20, dtype=torch.float64)
    rates, magnitudes = 0.3 * (i + 1) / 20, 20 - i
    right = single_latent.loss_without_latent(rates, magnitudes)
    printed = single_latent.loss_without_latent_as_printed(rates, magnitudes)
    for loss in (right, printed):
        assert sorted(single_latent.ranking(loss)[:5].tolist()) == [4, 5, 6, 7, 8]
    assert single_latent.ranking(printed)[0] == 6
    assert right[[5, 6]].tolist() == pytest.approx([18.43, 18.42], abs=5e-3)
    # 5 or 7 switch 12 on
    rates[12] = 1 - (1 - rates[12]) * (1 - rates[5]) * (1 - rates[7])
    assert rates[12].item() == pytest.approx(0.355, abs=5e-4)
    printed = single_latent.loss_without_latent_as_printed(rates, magnitudes)
    right = single_latent.loss_without_latent(rates, magnitudes)
    assert printed[12].item() == pytest.approx(22.7, abs=0.05)
    assert single_latent.ranking(printed)[0] == 12
    assert right[12].item() == pytest.approx(14.7, abs=0.05)
    assert 12 not in single_latent.ranking(right)[:7]


def test_three_features_of_a_single_latent_world_are_mixed_but_the_fourth_less():
    world = presets.absorption(torch.Generator().manual_seed(0)).enumerate(dtype=torch.float64)
    direction = single_latent.dominant_direction(world)
    parts = oracle_decoder(world, [0, 1, 2, 3]).W_dec @ direction
    assert parts[0] > parts[1] > parts[2] > 0


def test_bad_settings_are_refused():
    states = PairStates(p11=0.1, p10=0.1)
    with pytest.raises(ConfigError, match="theta must lie between 0"):
        single_latent.tied_error(2.0, states)
    with pytest.raises(ConfigError, match=r"not negative, got -0\.1"):
        single_latent.optimal_angle(states, -0.1)
