"""The brute force that the theory of source 002 is held against."""

import pytest
import torch

from latent_assay.reproductions import hedging_theory
from latent_assay.reproductions.hedging_theory import (
    cases,
    least_squares,
    matched_filter,
    statement,
    tied_curve,
)
from latent_assay.theory import PairStates, hedging, single_latent

CLOSED_FORMS = [entry for entry in hedging_theory.ENTRIES if entry.id != "002-fig-6"]


def test_entries_have_distinct_ids_that_begin_with_their_source():
    ids = [entry.id for entry in hedging_theory.ENTRIES]
    assert len(set(ids)) == len(ids)
    assert all(entry.id.startswith(f"{entry.source}-") for entry in hedging_theory.ENTRIES)


@pytest.mark.parametrize("entry", CLOSED_FORMS, ids=lambda entry: entry.id)
def test_closed_forms_hold(entry):
    assert entry.run(True).passed


def test_loss_curve_at_the_features():
    """At the parent the child is lost, at the child the parent; the penalty is what fires."""
    states = PairStates(p10=0.3, p11=0.1)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        tied_curve.loss_curve(states, 0.0, ends), torch.tensor([0.1, 0.4], dtype=torch.float64)
    )
    penalty = tied_curve.loss_curve(states, 1.0, ends) - tied_curve.loss_curve(states, 0.0, ends)
    torch.testing.assert_close(penalty, torch.tensor([0.4, 0.1], dtype=torch.float64))


def test_loss_curve_between_is_that_of_the_closed_form():
    states = PairStates(p10=0.2, p11=0.1)
    alpha = torch.tensor([0.3], dtype=torch.float64)
    angle = single_latent.angle_of_alpha(0.3)
    torch.testing.assert_close(
        tied_curve.loss_curve(states, 0.0, alpha)[0], single_latent.tied_error(angle, states)
    )


def test_least_squares_of_a_child():
    weights, bias = least_squares.least_squares(
        PairStates.from_conditionals(0.25, given=0.2).enumeration(), [0]
    )
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.2]], dtype=torch.float64))
    torch.testing.assert_close(bias, torch.zeros(2, dtype=torch.float64))


def test_scaled_keeps_states_and_changes_magnitudes():
    world = PairStates(p10=0.3, p11=0.1).enumeration()
    scaled = least_squares.scaled(world, (2.0, 3.0))
    assert torch.equal(scaled.firing, world.firing)
    assert torch.equal(scaled.probability, world.probability)
    assert torch.equal(scaled.magnitudes.amax(0), torch.tensor([2.0, 3.0], dtype=torch.float64))


def test_independent_worlds_are_what_they_say():
    worlds = statement._independent_worlds(4)
    for i, world in enumerate(worlds):
        assert float(world.probability.sum()) == pytest.approx(1)
        means = world.probability @ world.magnitudes
        together = world.probability @ (world.magnitudes[:, 0] * world.magnitudes[:, 1])
        assert float(together) == pytest.approx(float(means[0] * means[1]))
        covariance = statement._covariance(world)
        assert (abs(covariance) < 1e-12) == bool(i % 2)


def test_best_encoder_is_the_least_norm_solution():
    """Of what no activation shows, it holds nothing."""
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    d = torch.tensor([1.0, 1.0], dtype=torch.float64)
    best = matched_filter.best_encoder(x, d, torch.tensor([0.5, 0.5], dtype=torch.float64))
    torch.testing.assert_close(best, torch.tensor([0.5, 0.0], dtype=torch.float64))


def test_printed_weight_would_not_pass_as_the_corrected_one(monkeypatch):
    def without_silence(*, given, otherwise, tracked_magnitude=1.0, orphan_magnitude=1.0):
        ratio = orphan_magnitude / tracked_magnitude
        return hedging.PairWeights(latent=ratio * given, bias=orphan_magnitude * otherwise)

    monkeypatch.setattr(cases.hedging, "pair_weights", without_silence)
    assert not cases.theorem_cases(True).passed
