"""Exact expected objectives: against sampling, closed forms and finite differences."""

import pytest
import torch

from latent_assay.errors import WorldError
from latent_assay.recipes import relu_l1, tied
from latent_assay.theory import PairStates, absorption
from latent_assay.theory.prediction import expected_loss
from latent_assay.worlds import Hierarchy, World, presets

from ..laws import recipes as small


def test_against_the_closed_form_of_absorption():
    """The δ-parameterisation in the two-feature hierarchical world, all eleven δ as members."""
    world = World(
        directions=torch.eye(2, 6, dtype=torch.float64),
        firing=Hierarchy(parents=(None, 0), rates=(0.25, 0.2)),
    )
    states = PairStates.from_conditionals(0.25, 0.2)
    delta = torch.linspace(0, 1, 11, dtype=torch.float64)
    sae = absorption.absorbed_sae(delta, world.features)
    _, objective, _ = relu_l1(d_in=world.d_in, width=2, l1=0.03, seeds=[0] * 11)
    found = expected_loss(world, sae, objective)
    torch.testing.assert_close(
        found.parts["lp"] / 0.03, absorption.decoder_norm_l1(delta, states), rtol=1e-10, atol=1e-12
    )
    assert float(found.parts["squared_error"].abs().max()) < 1e-20


@pytest.mark.parametrize("name", ["relu_l1", "tied", "matryoshka"])
def test_the_gradient_is_that_of_the_total(name):
    world = presets.balance_matryoshka(d_in=small.D_IN).to(dtype=torch.float64)
    sae, objective, _ = small.ensemble(name)
    found = expected_loss(world, sae, objective)
    step = 1e-6
    for place in ((0, 1, 2), (1, 3, 0)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                sae.W_dec[place] += sign * step
            values.append(expected_loss(world, sae, objective).total[place[0]])
            with torch.no_grad():
                sae.W_dec[place] -= sign * step
        slope = float((values[0] - values[1]) / (2 * step))
        key = "W_dec" if "W_dec" in found.gradient else "W_enc"
        assert slope == pytest.approx(float(found.gradient[key][place]), abs=1e-6)


def test_truth_is_stationary_for_a_tied_sae_up_to_shrinkage():
    world = presets.absorption().to(dtype=torch.float64)
    sae, objective, _ = tied(d_in=world.d_in, width=4, l1=1e-9, dtype=torch.float64)
    with torch.no_grad():
        sae.W_enc[0] = world.features
    at_truth = expected_loss(world, sae, objective)
    with torch.no_grad():
        sae.W_enc[0, 0] += 0.1 * world.features[1]
    beside = expected_loss(world, sae, objective)
    assert float(at_truth.gradient_norm) < 1e-8
    assert float(beside.total) > float(at_truth.total)
    assert float(beside.gradient_norm) > 1e-3


def test_nothing_is_left_behind():
    world = presets.absorption()
    sae, objective, _ = relu_l1(d_in=world.d_in, width=4)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    expected_loss(world, sae, objective)
    assert all(p.grad is None for p in sae.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in sae.state_dict().items())


def test_an_infinite_world_is_refused():
    sae, objective, _ = relu_l1(d_in=50, width=4)
    with pytest.raises(WorldError, match="normal"):
        expected_loss(presets.absorption(parent_sd=0.1), sae, objective)
