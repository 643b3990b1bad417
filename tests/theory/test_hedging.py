import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from latent_assay.errors import ConfigError, WorldError
from latent_assay.theory import PairStates, hedging
from latent_assay.worlds import Enumeration, presets

from .strategies import independent, pair_states, worlds

rates = st.floats(0.05, 0.95)
sizes = st.floats(0.2, 5.0)


def scaled(states, first, second):
    """The pair's world with magnitudes other than 1."""
    world = states.enumeration()
    values = world.magnitudes * torch.tensor([first, second], dtype=torch.float64)
    return Enumeration(
        firing=world.firing, magnitudes=values, x=values, probability=world.probability
    )


@given(pair_states(), sizes, sizes)
@settings(deadline=None)
def test_regression_equals_the_two_feature_form(states, tracked, orphan):
    decoder = hedging.oracle_decoder(scaled(states, tracked, orphan), [0])
    pair = hedging.pair_weights(
        given=states.given,
        otherwise=states.otherwise,
        tracked_magnitude=tracked,
        orphan_magnitude=orphan,
    )
    assert decoder.weights[0].tolist() == pytest.approx([1.0, pair.latent], abs=1e-10)
    assert decoder.bias.tolist() == pytest.approx([0.0, pair.bias], abs=1e-10)


@given(pair_states())
@settings(deadline=None)
def test_sign_of_hedging_follows_the_correlation(states):
    assume(abs(states.correlation) > 1e-6)
    weight = hedging.oracle_decoder(states.enumeration(), [0]).weights[0, 1].item()
    assert math.copysign(1, weight) == math.copysign(1, states.correlation)


@given(worlds(), st.data())
@settings(max_examples=50, deadline=None)
def test_no_other_decoder_has_less_error(world, data):
    n = world.magnitudes.shape[1]
    tracked = data.draw(st.permutations(range(n)))[: data.draw(st.integers(0, n))]
    decoder = hedging.oracle_decoder(world, tracked)
    z = world.magnitudes[:, tracked]
    ones = torch.cat([torch.ones(len(z), 1, dtype=torch.float64), z], dim=1)
    root = world.probability.sqrt().unsqueeze(-1)
    expected = torch.linalg.lstsq(root * ones, root * world.x).solution
    assert torch.allclose(decoder.b_dec, expected[0], atol=1e-9)
    assert torch.allclose(decoder.W_dec, expected[1:], atol=1e-9)
    error = world.probability @ (ones @ expected - world.x).square().sum(-1)
    assert decoder.error == pytest.approx(error.item(), abs=1e-10)


@given(worlds())
@settings(max_examples=30, deadline=None)
def test_nothing_is_hedged_at_full_width(world):
    """Case D."""
    n = world.magnitudes.shape[1]
    decoder = hedging.oracle_decoder(world, range(n))
    assert torch.allclose(decoder.weights, torch.eye(n, dtype=torch.float64), atol=1e-9)
    assert float(decoder.bias.abs().max()) < 1e-9
    assert decoder.error < 1e-18


@given(st.lists(rates, min_size=2, max_size=4), st.data())
@settings(deadline=None)
def test_nothing_is_hedged_if_features_are_independent(chances, data):
    magnitudes = data.draw(st.lists(sizes, min_size=len(chances), max_size=len(chances)))
    world = independent(chances, magnitudes)
    tracked = list(range(data.draw(st.integers(1, len(chances) - 1))))
    decoder = hedging.oracle_decoder(world, tracked)
    orphans = decoder.weights[:, len(tracked) :]
    assert float(orphans.abs().max()) < 1e-10
    expected = [p * m for p, m in zip(chances, magnitudes, strict=True)][len(tracked) :]
    assert decoder.bias[len(tracked) :].tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("tracked_magnitude", [1.0, 2.0])
@pytest.mark.parametrize("orphan_magnitude", [1.0, 3.0])
def test_cases_of_the_paper(tracked_magnitude, orphan_magnitude):
    ratio = orphan_magnitude / tracked_magnitude
    sizes = {"tracked_magnitude": tracked_magnitude, "orphan_magnitude": orphan_magnitude}
    cases = {
        "A": (hedging.independent_orphan(0.2, **sizes), (0.0, 0.2 * orphan_magnitude)),
        "B": (hedging.child_orphan(0.25, 0.05, **sizes), (ratio * 0.2, 0.0)),
        "C": (
            hedging.exclusive_orphan(0.25, 0.15, **sizes),
            (-ratio * 0.2, 0.2 * orphan_magnitude),
        ),
    }
    states = {
        "A": PairStates.from_conditionals(0.25, 0.2, 0.2),
        "B": PairStates.from_conditionals(0.25, 0.2, 0.0),
        "C": PairStates.from_conditionals(0.25, 0.0, 0.2),
    }
    for case, (found, expected) in cases.items():
        assert (found.latent, found.bias) == pytest.approx(expected, abs=1e-12), case
        world = scaled(states[case], tracked_magnitude, orphan_magnitude)
        decoder = hedging.oracle_decoder(world, [0])
        assert decoder.weights[0, 1].item() == pytest.approx(found.latent, abs=1e-12), case
        assert decoder.bias[1].item() == pytest.approx(found.bias, abs=1e-12), case


def test_a_parent_without_a_latent_is_hedged_by_its_child():
    """The general form covers what the four cases leave out."""
    states = PairStates.from_conditionals(0.2, given=1.0, otherwise=0.25)  # 1 child, 2 parent
    decoder = hedging.oracle_decoder(states.enumeration(), [0])
    assert decoder.weights[0, 1].item() == pytest.approx(0.75)
    assert decoder.bias[1].item() == pytest.approx(0.25)


@given(st.floats(0.1, 0.9), st.floats(0.1, 0.9), st.tuples(rates, rates, rates, rates))
@settings(deadline=None)
def test_uncorrelated_tracked_latents_decouple(p, q, chances):
    """Then the pair form holds latent by latent, and the bias takes what is left."""
    firing = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    third = torch.tensor(chances, dtype=torch.float64)[(2 * firing[:, 0] + firing[:, 1]).long()]
    chance = torch.stack([torch.full_like(third, p), torch.full_like(third, q), third], dim=1)
    probability = torch.where(firing > 0, chance, 1 - chance).prod(-1)
    world = Enumeration(firing=firing > 0, magnitudes=firing, x=firing, probability=probability)
    decoder = hedging.oracle_decoder(world, [0, 1])
    orphan = float(world.probability @ firing[:, 2])
    left = orphan
    for latent, rate in enumerate((p, q)):
        on = firing[:, latent] > 0
        given = float(world.probability[on] @ firing[on, 2]) / rate
        otherwise = float(world.probability[~on] @ firing[~on, 2]) / (1 - rate)
        weight = hedging.pair_weights(given=given, otherwise=otherwise).latent
        assert decoder.weights[latent, 2].item() == pytest.approx(weight, abs=1e-9)
        left -= weight * rate
    assert decoder.bias[2].item() == pytest.approx(left, abs=1e-9)


@pytest.mark.parametrize(
    ("preset", "weight", "bias"),
    [
        (presets.hedging_independent, 0.0, 0.2),
        (presets.hedging_hierarchical, 0.2, 0.0),
        (presets.hedging_positive, 0.1, 0.1),
        (presets.hedging_anticorrelated, -0.1, 0.2),
    ],
)
def test_worlds_of_the_paper(preset, weight, bias):
    world = preset(torch.Generator().manual_seed(0))
    decoder = hedging.oracle_decoder(world.enumerate(dtype=torch.float64), [0, 1, 2])
    assert decoder.weights[:, 3].tolist() == pytest.approx([0, 0, weight], abs=1e-10)
    assert decoder.bias[3].item() == pytest.approx(bias, abs=1e-10)
    rows = decoder.weights @ world.directions.double()
    assert torch.allclose(decoder.W_dec, rows, atol=1e-6)


@pytest.mark.parametrize(
    ("correlation", "cosine"), [(0.1, 0.087), (0.2, 0.17), (0.3, 0.25), (0.4, 0.33), (0.5, 0.40)]
)
def test_cosine_with_the_orphan_as_a_function_of_correlation(correlation, cosine):
    for sign in (1, -1):
        states = PairStates.from_correlation(0.45, 0.25, sign * correlation)
        pair = hedging.pair_weights(given=states.given, otherwise=states.otherwise)
        assert pair.cosine == pytest.approx(sign * cosine, abs=5e-3)


@given(worlds(features=(2,)), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_matched_filter_is_the_best_encoder(world, seed):
    """Corollary A.4.7: any change of the encoder on the span of the data raises the error."""
    generator = torch.Generator().manual_seed(seed)
    d = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    fires = world.firing[:, 0]
    x, p = world.x[fires], world.probability[fires]

    def error(w):
        return float(p @ (x - (x @ w.mT) @ d).square().sum(-1))

    w = hedging.matched_filter(d)
    least = error(w)
    assert least == pytest.approx(float(p @ (x - (x @ d.mT) @ d / (d @ d.mT)).square().sum(-1)))
    inside = x[:1] / x[0].norm()
    assert error(w + 0.1 * inside) > least
    q, _ = torch.linalg.qr(x.mT, mode="complete")
    outside = q[:, len(x) :].mT[:1]
    assert error(w + outside) == pytest.approx(least, abs=1e-10)


def test_matched_filter_of_a_zero_row_is_zero():
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert hedging.matched_filter(rows)[0].tolist() == [0.0, 0.0]


def test_dependent_latents_have_no_unique_decoder():
    both = PairStates(p11=0.3, p10=0.0).enumeration()
    with pytest.raises(WorldError, match="linearly dependent"):
        hedging.oracle_decoder(both, [0, 1])
    always = PairStates(p11=0.3, p10=0.7).enumeration()
    with pytest.raises(WorldError, match="one never changes"):
        hedging.oracle_decoder(always, [0])


def test_small_magnitudes_are_not_taken_for_constants():
    world = scaled(PairStates(p11=0.1, p10=0.2, p01=0.1), 1e-6, 1e6)
    assert hedging.oracle_decoder(world, [0, 1]).weights.diagonal().tolist() == pytest.approx(
        [1, 1]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hedging.pair_weights(given=1.2, otherwise=0.0), "`given` must be a probability"),
        (
            lambda: hedging.pair_weights(given=0.2, otherwise=0.1, tracked_magnitude=0.0),
            "tracked magnitude must be positive",
        ),
        (lambda: hedging.child_orphan(0.2, 0.3), "at most as often as its parent"),
        (lambda: hedging.exclusive_orphan(0.6, 0.5), "rates that sum to at most 1"),
    ],
)
def test_impossible_pairs_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize("tracked", [[2], [-1], [0, 0]])
def test_unknown_features_are_refused(tracked):
    with pytest.raises(WorldError, match="different numbers from 0 to 1"):
        hedging.oracle_decoder(PairStates(p11=0.1, p10=0.1).enumeration(), tracked)
