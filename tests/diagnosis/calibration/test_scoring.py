"""Precision, recall and calibration error on cases that can be counted by hand."""

import numpy as np
import pytest

from latent_assay.diagnosis.calibration.fitting import Use, model
from latent_assay.diagnosis.calibration.scoring import reliability, score
from latent_assay.diagnosis.evidence import Evidence, Relatives, Tier


def test_grey_latents_count_neither_for_nor_against():
    p = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.6])
    clear = np.array([True, False, False, True, False, False])
    grey = np.array([False, False, True, False, False, True])
    found = score(p, clear, grey)
    assert (found.support, found.found, found.grey, found.latents) == (2, 2, 2, 4)
    assert found.precision == 0.5
    assert found.recall == 0.5


def test_nothing_to_divide_by_is_none():
    none = np.zeros(3, dtype=bool)
    found = score(np.array([0.1, 0.2, 0.3]), none, none)
    assert found.precision is None
    assert found.recall is None


def test_calibration_error():
    p = np.array([0.25, 0.25, 0.25, 0.25, 0.85, 0.85])
    clear = np.array([True, False, False, False, True, True])
    found = score(p, clear, np.zeros(6, dtype=bool))
    # the first four are as often right as they say, the last two .15 more often
    assert found.calibration_error == pytest.approx(2 / 6 * 0.15)
    assert [each["latents"] for each in reliability(p, clear, np.zeros(6, dtype=bool))] == [4, 2]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_model_learns_which_evidence_speaks_for_it(rng):
    n = 3_000
    helpful, noise = rng.normal(size=n), rng.normal(size=n)
    chance = 1 / (1 + np.exp(-(4 * helpful - 2)))
    truth = rng.random(n) < chance
    world = np.where(np.arange(n) < n // 2, "a", "b").astype(object)
    fitted = model(
        {"helpful": helpful, "noise": noise}, truth, world, (Use("helpful", 1), Use("noise"))
    )
    nothing = np.zeros(0, dtype=np.int64)
    evidence = Evidence(
        tier=Tier.ACTIVATIONS, width=n, n_samples=0,
        columns={"helpful": helpful, "noise": noise},
        relatives=Relatives(latent=nothing, other=nothing, role=nothing, share=np.zeros(0)),
    )  # fmt: skip
    p = fitted.probability(fitted.score(evidence))
    assert np.abs(p - chance).mean() < 0.05


def test_a_sign_is_kept_whatever_the_data_say(rng):
    n = 1_000
    column = rng.normal(size=n)
    truth = rng.random(n) < 1 / (1 + np.exp(3 * column))
    fitted = model({"x": column}, truth, np.full(n, "a", dtype=object), (Use("x", 1),))
    assert all(term.weight >= 0 for term in fitted.terms)


def test_evidence_that_is_not_there_says_nothing(rng):
    truth = rng.random(200) < 0.3
    fitted = model({}, truth, np.full(200, "a", dtype=object), (Use("missing", 1),))
    assert fitted.terms == ()
    assert 1 / (1 + np.exp(-fitted.bias)) == pytest.approx(truth.mean())
