"""Each claim by brute force: what the source says, and what is so."""

import math

import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.theory import counterexamples
from latent_assay.theory.identifiability import latent_activations, one_sparse_losses, sae_loss

IDENTITY = torch.nn.Identity()


def encoded(example, sparsifier=torch.relu):
    return latent_activations(
        example.W, example.directions, example.magnitudes, sparsifier=sparsifier
    )


def square(side, points):
    """All points of a grid over a square around zero."""
    axis = torch.linspace(-side, side, points, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis)


def test_1_dense_features_cancel():
    example = counterexamples.dense_features()
    assert torch.equal(encoded(example), example.z)
    assert not torch.equal(example.z, example.magnitudes)
    # no function of the activation could tell the two apart
    assert torch.equal(example.magnitudes @ example.directions, example.z @ example.directions)


def test_1_as_printed_recovers_the_truth():
    example = counterexamples.dense_features_as_printed()
    assert not torch.equal(encoded(example), example.z)
    assert torch.equal(encoded(example), example.magnitudes)


def test_2_without_a_sparsifier():
    example = counterexamples.no_sparsifier()
    assert torch.equal(encoded(example, IDENTITY), example.z)
    assert not torch.equal(example.z, example.magnitudes)
    anything = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    losses = [
        sae_loss(W, example.directions, anything, sparsifier=IDENTITY).item()
        for W in (example.W, torch.linalg.qr(torch.rand(4, 2).double())[0])
    ]
    assert max(losses) < 1e-12


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("coefficient", [0.2, 0.5, 0.9, 1.05, 1.5])
def test_3_minimisers_against_a_grid(coefficient, squared):
    grid = square(1.2, 481)
    found = counterexamples.l1_minimisers(coefficient, squared=squared)
    losses = counterexamples.l1_loss(found, coefficient, squared=squared)
    on_grid = counterexamples.l1_loss(grid, coefficient, squared=squared)
    assert float(losses.max() - losses.min()) < 1e-12
    assert losses[0].item() <= float(on_grid.min()) + 1e-12
    assert losses[0].item() == pytest.approx(float(on_grid.min()), abs=1e-4)
    # nothing far from them is as good
    far = torch.cdist(grid, found).amin(-1) > 0.1
    assert float(on_grid[far].min()) > losses[0].item() + 1e-3


def test_3_values():
    half = counterexamples.l1_minimisers(0.5)
    assert counterexamples.l1_loss(half, 0.5).tolist() == [0.5] * 4
    assert counterexamples.l1_minimisers(1).shape == (5, 2)
    assert counterexamples.l1_minimisers(2).tolist() == [[0.0, 0.0]]
    squared = counterexamples.l1_minimisers(0.5, squared=True)
    assert squared.abs().max().item() == pytest.approx(0.9304, abs=1e-4)
    limit = 4 / 3 * math.sqrt(2 / 3)
    both = counterexamples.l1_minimisers(limit, squared=True)
    assert counterexamples.l1_loss(both, limit, squared=True).tolist() == pytest.approx([1.0] * 5)


def test_3_loss_is_that_of_the_linear_sae_for_either_feature():
    directions = counterexamples.l1_directions()
    W = torch.tensor([[0.7], [-0.4]], dtype=torch.float64)
    for magnitudes in torch.eye(2, dtype=torch.float64):
        error = sae_loss(W, directions, magnitudes[None], sparsifier=IDENTITY)
        z = latent_activations(W, directions, magnitudes[None], sparsifier=IDENTITY)
        found = counterexamples.l1_loss(W[:, 0], 0.3)
        assert found.item() == pytest.approx(error.sqrt().item() + 0.3 * z.abs().sum().item())


def test_3_no_minimiser_recovers_both_features_though_some_recover_one():
    directions, eye = counterexamples.l1_directions(), torch.eye(2, dtype=torch.float64)
    recovered = []
    for w in counterexamples.l1_minimisers(0.5):
        z = latent_activations(w[:, None], directions, eye, sparsifier=IDENTITY)
        recovered.append((z == eye).all(-1).tolist())
    assert [True, True] not in recovered
    assert sorted(recovered) == [[False, False], [False, False], [False, True], [True, False]]


@pytest.mark.parametrize("coefficient", [0.2, 0.5, 1.0, 1.4])
def test_3_as_printed_is_the_worst_point_of_its_diagonal(coefficient):
    claimed = counterexamples.l1_minimiser_as_printed(coefficient)
    loss = counterexamples.l1_loss(claimed, coefficient).item()
    assert loss == pytest.approx(1 + coefficient**2 / 2)
    t = torch.linspace(0, math.sqrt(0.5), 1001, dtype=torch.float64)
    diagonal = counterexamples.l1_loss(torch.stack([t, t], dim=1), coefficient)
    assert loss >= float(diagonal.max()) - 1e-12
    best = counterexamples.l1_minimisers(coefficient)
    assert counterexamples.l1_loss(best, coefficient)[0].item() <= min(coefficient, 1.0)
    if coefficient == 0.5:
        assert loss == pytest.approx(1.125)


def test_3_needs_a_penalty():
    with pytest.raises(ConfigError, match="must be positive, got 0"):
        counterexamples.l1_minimisers(0)


def test_4_two_latents_have_an_error_of_five_sevenths_at_least():
    example = counterexamples.too_few_latents()
    assert torch.allclose(encoded(example), example.z)
    least = one_sparse_losses(example.W, example.directions).sum().item()
    assert least == pytest.approx(5 / 7, abs=1e-12)
    rows = square(1.25, 26)  # every pair of rows on a grid
    pre = (rows @ example.directions.mT).relu()
    x_hat = pre.unsqueeze(-1) * rows.unsqueeze(1)  # [row, feature, d_in]
    target = example.directions
    for chunk in x_hat.split(50):
        losses = (chunk.unsqueeze(1) + x_hat - target).square().sum((-1, -2))
        assert float(losses.min()) >= least - 1e-12


def test_4_no_two_features_are_recovered_with_perfect_reconstruction():
    example = counterexamples.too_few_latents()
    for recovered in ([0, 1], [0, 2], [1, 2]):
        z = example.magnitudes[:, recovered]
        (left_out,) = {0, 1, 2} - set(recovered)
        assert not bool(z[left_out].any())  # so its reconstruction is zero
        assert bool(example.directions[left_out].any())


def test_4_as_printed_leaves_a_way_out():
    example = counterexamples.too_few_latents_as_printed()
    assert torch.equal(encoded(example), example.z)
    assert torch.equal(example.z, example.magnitudes[:, [0, 2]])
    assert sae_loss(example.W, example.directions, example.magnitudes).item() == 0.0
