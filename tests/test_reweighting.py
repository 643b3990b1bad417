import math

import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.recipes import reweighting, wsae


def test_weights_are_powers_with_mean_square_one():
    scores = torch.tensor([0.5, 2.0, 8.0], dtype=torch.float64)
    rows = reweighting(scores, [0, 0.5, 1])
    torch.testing.assert_close(rows.square().mean(-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(rows[0], torch.ones(3, dtype=torch.float64))
    assert float(rows[1, 2] / rows[1, 0]) == pytest.approx(4)
    assert float(rows[2, 2] / rows[2, 0]) == pytest.approx(16)


def test_the_unit_of_the_scores_cancels_even_where_powers_would_overflow():
    scores = torch.tensor([1.0, 3.0])
    torch.testing.assert_close(reweighting(scores, 2), reweighting(1e30 * scores, 2))


def test_a_dead_dimension_weighs_nothing_but_at_alpha_zero():
    assert reweighting(torch.tensor([0.0, 1.0]), 1).tolist() == [0.0, pytest.approx(math.sqrt(2))]
    assert reweighting(torch.tensor([0.0, 1.0]), 0).tolist() == [1.0, 1.0]


def test_members_of_a_wsae_differ_in_it():
    scores = torch.rand(8, generator=torch.Generator().manual_seed(0))
    gamma = reweighting(scores, (0, 0.5, 1))
    recipe = wsae(d_in=8, width=16, k=2, scores=scores, alpha=(0, 0.5, 1))
    assert recipe.sae.members == 3
    torch.testing.assert_close(next(iter(recipe.objective.every_term())).gamma, gamma)


@pytest.mark.parametrize("given", [{}, {"gamma": torch.ones(4), "scores": torch.ones(4)}])
def test_weights_or_scores_but_not_both(given):
    with pytest.raises(ConfigError, match=r"either `gamma`.*or `scores`"):
        wsae(d_in=4, width=8, k=2, **given)


@pytest.mark.parametrize("scores", [[-1.0, 1.0], [0.0, 0.0], [math.nan, 1.0]])
def test_scores_that_cannot_be_are_refused(scores):
    with pytest.raises(ConfigError, match="must be finite, none negative and not all zero"):
        reweighting(torch.tensor(scores), 1)


@pytest.mark.parametrize("alpha", [-1, [], [0, math.inf]])
def test_alpha_that_cannot_be_is_refused(alpha):
    with pytest.raises(ConfigError, match="`alpha` must be 0 or more"):
        reweighting(torch.ones(2), alpha)
