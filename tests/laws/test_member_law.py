"""A member trained in company equals the same member trained alone."""

import dataclasses
import math

import pytest
import torch

from latent_assay.kernels import force_path
from latent_assay.recipes import Recipe, relu_l1, topk
from latent_assay.training import TrainingConfig, fit

from . import recipes

STEPS = 200


def trained(recipe: Recipe, **changes: object) -> Recipe:
    settings = {"steps": STEPS, "log_every": STEPS, "lr_warm_up_steps": 10, "lr_decay_steps": 20}
    config = dataclasses.replace(recipe.config, **(settings | changes))
    fit(recipe.sae, recipe.objective, recipes.batches(), config, progress=False)
    return recipe


def largest_difference(company: Recipe, member: int, by_itself: Recipe) -> float:
    mine, own = company.sae.take(member).state_dict(), by_itself.sae.state_dict()
    assert set(mine) == set(own)
    return max(float((mine[name] - own[name]).nan_to_num(0.0).abs().max()) for name in own)


@pytest.mark.parametrize("path", ["dense", "sparse", "gram"])
@pytest.mark.parametrize("name", recipes.NAMES)
def test_company_changes_nothing(name, path):
    with force_path(path):
        company = trained(recipes.ensemble(name))
        for member in (0, 1):
            by_itself = trained(recipes.alone(name, member))
            assert largest_difference(company, member, by_itself) < 1e-9
    # the two members did learn different things, so that the comparison says something
    first, second = company.sae.take(0), company.sae.take(1)
    assert float((first.W_dec - second.W_dec).detach().abs().max()) > 1e-3


def test_width_may_differ_by_member():
    common = {"d_in": recipes.D_IN, "k": 2, "dead_after": 200, "lr": 1e-2, "dtype": torch.float64}
    company = trained(topk(width=(5, 8), seeds=(0, 1), **common))
    for member, width in ((0, 5), (1, 8)):
        by_itself = trained(topk(width=width, seeds=member, **common))
        assert largest_difference(company, member, by_itself) < 1e-9


def test_padded_thresholds_and_weak_firing_stay_apart():
    for name, extra in (("jumprelu", {}), ("tied_orthogonal", {})):
        company = trained(recipes.ensemble(name, width=(5, 8), **extra))
        by_itself = trained(recipes.alone(name, 0, width=5, **extra))
        assert largest_difference(company, 0, by_itself) < 1e-9


def test_clipping_is_per_member():
    """With one norm over all members the quiet member would be slowed by the loud one."""
    common = {"d_in": recipes.D_IN, "width": recipes.WIDTH, "lr": 1e-2, "dtype": torch.float64}
    company = trained(relu_l1(l1=(1e-3, 50.0), seeds=(0, 0), **common), clip=(0.01, math.inf))
    by_itself = trained(relu_l1(l1=1e-3, seeds=0, **common), clip=0.01)
    assert largest_difference(company, 0, by_itself) < 1e-9


@pytest.mark.parametrize("rates", [[1e-2] * 5, [1e-2, 2e-2, 3e-2, 4e-2, 5e-2]])
def test_fused_and_plain_adam_agree(rates):
    """Five different rates take the plain formula; torch's Adam is the reference for both."""
    x = [next(recipes.batches(seed=seed)) for seed in range(STEPS)]
    recipe = relu_l1(
        d_in=recipes.D_IN, width=recipes.WIDTH, seeds=range(5), lr=rates, dtype=torch.float64
    )
    reference = recipe.sae.take(3)
    config = TrainingConfig(steps=STEPS, lr=rates, clip=math.inf)
    fit(recipe.sae, recipe.objective, x, config, progress=False)
    optimizer = torch.optim.Adam(reference.parameters(), lr=rates[3])
    for batch in x:
        z = reference.encode(batch)
        penalty = (z * reference.W_dec.norm(dim=-1).unsqueeze(1)).sum(-1).mean()
        loss = (reference.decode(z) - batch).square().sum(-1).mean() + 1e-3 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((recipe.sae.W_dec[3] - reference.W_dec[0]).detach().abs().max()) < 1e-9
