"""The penalties of source 001, on one state that can be worked out by hand."""

import pytest
import torch

from latent_assay.reproductions.absorption import lp
from latent_assay.theory import PairStates

HALF = torch.tensor([0.5], dtype=torch.float64)
"""Both fire: z = (½, 1)."""


def test_entries_are_of_source_001_with_distinct_ids():
    ids = [entry.id for entry in lp.ENTRIES]
    assert len(set(ids)) == len(ids)
    assert all(entry.source == "001" for entry in lp.ENTRIES)
    assert all(entry.id.startswith("001-") for entry in lp.ENTRIES)


@pytest.mark.parametrize(("p", "norm", "powers"), [(1.0, 1.5, 1.5), (2.0, 1.25**0.5, 1.25)])
def test_penalties_when_both_always_fire(p, norm, powers):
    states = PairStates(p11=1.0, p10=0.0)
    assert float(lp.enumerated_norm(HALF, states, p)) == pytest.approx(norm)
    assert float(lp.enumerated_power_sum(HALF, states, p)) == pytest.approx(powers)


def test_penalties_are_expectations():
    """The parent alone adds its probability, silence nothing."""
    states = PairStates(p11=0.1, p10=0.3)
    assert float(lp.enumerated_norm(HALF, states, 1.0)) == pytest.approx(0.45)
    assert float(lp.enumerated_power_sum(HALF, states, 2.0)) == pytest.approx(0.425)


def test_difference_is_a_derivative():
    def cube(delta, states, p):
        return delta**3

    slope = lp._difference(cube, HALF, 1.0)
    torch.testing.assert_close(slope, torch.tensor([0.75], dtype=torch.float64))


@pytest.mark.parametrize("entry", lp.ENTRIES, ids=lambda entry: entry.id)
def test_closed_forms_hold_and_are_the_same_however_long_one_may_take(entry):
    quick, full = entry.run(True), entry.run(False)
    assert quick.passed
    assert [check.measured for check in quick.checks] == [check.measured for check in full.checks]


def test_printed_norm_would_not_pass_as_the_corrected_one(monkeypatch):
    """The entry tells the two formulas apart."""
    printed = lp.absorption.lp_norm_as_printed
    monkeypatch.setattr(lp.absorption, "lp_norm", printed)
    assert not lp.lp_norm(True).passed
