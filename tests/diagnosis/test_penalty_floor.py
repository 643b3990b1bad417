"""A penalty that warms up again stays above its floor."""

import math

import pytest
import torch

from latent_assay.diagnosis import with_penalty_floor
from latent_assay.errors import ConfigError
from latent_assay.losses import (
    Forward,
    Lp,
    Matryoshka,
    Objective,
    Progress,
    Ramp,
    SquaredError,
)
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU


def strengths(objective, members=1):
    """λ_t of the penalty at some steps, found by dividing the objective by the plain penalty."""
    rows = torch.rand(members, 3, 4, generator=torch.Generator().manual_seed(0))
    sae = SAE(rows.double(), sparsifier=ReLU())
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    forward = Forward(sae, x)
    since = torch.zeros(members, 3, dtype=torch.int64)
    unit = Lp(1.0)(forward, Progress(step=0, samples=0, since_fired=since))
    found = []
    for step in (0, 25, 50, 75, 100, 200):
        progress = Progress(step=step, samples=0, since_fired=since)
        found.append((objective(forward, progress)[0] / unit).tolist())
    return [each[0] for each in found] if members == 1 else found


def test_penalty_is_the_larger_of_ramp_and_floor():
    objective = Objective([Lp(20.0, ramp=Ramp(length=100))])
    assert strengths(objective) == pytest.approx([0, 5, 10, 15, 20, 20])
    floored = with_penalty_floor(objective, 10.0)
    assert strengths(floored) == pytest.approx([10, 10, 10, 15, 20, 20])
    # the given one is left as it is
    assert strengths(objective) == pytest.approx([0, 5, 10, 15, 20, 20])


@pytest.mark.parametrize("floor", [30.0, math.inf])
def test_weak_penalties_do_not_warm_up(floor):
    objective = with_penalty_floor(Objective([Lp(20.0, ramp=Ramp(length=100))]), floor)
    assert strengths(objective) == pytest.approx([20] * 6)


def test_floor_of_nothing_changes_nothing():
    objective = with_penalty_floor(Objective([Lp(20.0, ramp=Ramp(length=100))]), 0.0)
    assert strengths(objective) == pytest.approx([0, 5, 10, 15, 20, 20])


def test_every_member_has_the_floor_of_its_own_penalty():
    objective = Objective([Lp([20.0, 5.0, 40.0], ramp=Ramp(length=100))])
    found = torch.tensor(strengths(with_penalty_floor(objective, 10.0), members=3))
    expected = [
        [10, 5, 10], [10, 5, 10], [10, 5, 20], [15, 5, 30], [20, 5, 40], [20, 5, 40]
    ]  # fmt: skip
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype))


def test_penalties_within_a_matryoshka_have_it_too():
    nested = Matryoshka([Lp(20.0, ramp=Ramp(length=100))], levels=(3,))
    found = strengths(with_penalty_floor(Objective([nested]), 10.0))
    assert found == pytest.approx([10, 10, 10, 15, 20, 20])


def test_other_terms_and_penalties_without_ramp_are_left():
    objective = Objective([SquaredError(ramp=Ramp(length=9)), Lp(1.0)])
    floored = with_penalty_floor(objective, 0.5)
    assert floored.settings() == objective.settings()


def test_negative_floor_is_refused():
    with pytest.raises(ConfigError, match="must not be negative, got -1"):
        with_penalty_floor(Objective([Lp(1.0)]), -1.0)
