import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import ConfigError, WorldError
from latent_assay.theory import counterexamples, minimisers
from latent_assay.theory.identifiability import (
    latent_activations,
    one_sparse_losses,
    sae_loss,
)
from latent_assay.theory.top_k import top_k

TOP_1 = partial(top_k, k=1)


def pentagon():
    angle = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def permuted(W, directions):
    """Whether W is a permutation of the directions."""
    same = torch.cdist(W, directions) < 1e-3
    return bool((same.sum(0) == 1).all() and (same.sum(1) == 1).all())


def searched(directions, starts, sparsifier=torch.relu, around=0.0, spread=1.0):
    """Minimisers without error that descent finds from random starts."""
    found = []
    for seed in range(starts):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(directions.shape, generator=generator, dtype=torch.float64)
        W = (around + spread * noise).requires_grad_()
        optimiser = torch.optim.LBFGS([W], max_iter=200, line_search_fn="strong_wolfe")

        def loss(W=W, optimiser=optimiser):
            optimiser.zero_grad()
            value = one_sparse_losses(W, directions, sparsifier=sparsifier).sum()
            value.backward()
            return value

        optimiser.step(loss)
        if one_sparse_losses(W.detach(), directions, sparsifier=sparsifier).sum() < 1e-9:
            found.append(W.detach())
    return found


@given(st.integers(2, 6))
@settings(deadline=None)
def test_theorem_1_for_relu(d_in):
    for directions in (minimisers.simplex(d_in), torch.cat([torch.eye(d_in), -torch.eye(d_in)])):
        directions = directions.double()
        assert minimisers.recovery_conditions(directions).with_relu
        assert float(one_sparse_losses(directions, directions).max()) < 1e-20
        # rows of zeros beyond the features change nothing
        wider = torch.cat([directions, torch.zeros(2, d_in, dtype=torch.float64)])
        assert float(one_sparse_losses(wider, directions).max()) < 1e-20


def test_theorem_1_for_top_1_needs_nothing_of_the_interference():
    directions = pentagon()
    conditions = minimisers.recovery_conditions(directions)
    assert not conditions.with_relu
    assert conditions.with_top_1
    assert float(one_sparse_losses(directions, directions, sparsifier=TOP_1).max()) < 1e-20
    assert float(one_sparse_losses(directions, directions).min()) > 0.01


@pytest.mark.parametrize("length", [0.8, 1.1])
def test_theorem_1_needs_unit_length(length):
    directions = length * minimisers.simplex(3)
    conditions = minimisers.recovery_conditions(directions)
    assert not conditions.with_relu
    assert not conditions.with_top_1
    expected = length**2 * (1 - length**2) ** 2
    for sparsifier in (torch.relu, TOP_1):
        losses = one_sparse_losses(directions, directions, sparsifier=sparsifier)
        assert losses.tolist() == pytest.approx([expected] * 4)


def test_equal_directions_are_not_distinct():
    twice = torch.eye(2)[[0, 0, 1]]
    assert not minimisers.recovery_conditions(twice).with_top_1


def test_at_most_twice_as_many_features_as_dimensions():
    """Axes in both directions attain the bound, and nothing can be added to them."""
    d_in = 4
    axes = torch.cat([torch.eye(d_in), -torch.eye(d_in)]).double()
    assert len(axes) == minimisers.most_features_for_relu(d_in)
    others = torch.randn(1000, d_in, generator=torch.Generator().manual_seed(0)).double()
    assert bool(((others @ axes.mT).amax(-1) > 0).all())


def test_largest_k_and_its_printed_form():
    rows = torch.tensor([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1], [0, 0.6, 0.8]], dtype=torch.float64)
    assert (rows @ rows.mT)[0].tolist() == pytest.approx([1, 0.6, 0, 0])
    assert minimisers.largest_k_as_printed(rows, 4) == 4
    assert minimisers.largest_k(rows, 4) == 1
    z = latent_activations(rows, rows, torch.eye(4), sparsifier=partial(top_k, k=2))
    assert z[0].tolist() == pytest.approx([1, 0.6, 0, 0])
    assert float(one_sparse_losses(rows, rows, sparsifier=TOP_1).max()) < 1e-20


@pytest.mark.parametrize("extra", [0, 2])
def test_largest_k_is_the_largest_that_works(extra):
    rows = counterexamples.example_directions()
    width = 3 + extra
    W = torch.cat([rows, torch.zeros(extra, 2, dtype=torch.float64)])
    largest = minimisers.largest_k(rows, width)
    assert largest == width - 1 == minimisers.largest_k_as_printed(rows, width)
    for k in range(1, width):
        losses = one_sparse_losses(W, rows, sparsifier=partial(top_k, k=k))
        assert float(losses.max()) < 1e-20
    # Top-k of all entries, negative ones too, is no sparsifier at all
    none = one_sparse_losses(W, rows, sparsifier=torch.nn.Identity())
    assert float(none.max()) > 0.5


@given(st.integers(1, 8))
@settings(deadline=None)
def test_simplex(d_in):
    rows = minimisers.simplex(d_in)
    expected = torch.full((d_in + 1, d_in + 1), -1 / d_in, dtype=torch.float64).fill_diagonal_(1)
    assert torch.allclose(rows @ rows.mT, expected, atol=1e-12)


@given(st.integers(1, 8))
@settings(deadline=None)
def test_theorem_2_fails_for_every_simplex(d_in):
    directions = minimisers.simplex(d_in)
    W = minimisers.reflected_minimiser(directions)
    assert float(one_sparse_losses(W, directions).max()) < 1e-20
    z = latent_activations(W, directions, torch.eye(d_in + 1))
    fires = z > 1e-9
    assert fires.sum(-1).tolist() == [d_in] * (d_in + 1)
    assert not bool(fires.diagonal().any())
    assert float((W - directions).abs().max()) > 0.5


def test_descent_finds_the_other_minimiser_of_the_mercedes_star():
    """Near the features it ends in a permutation, near their opposites in the reflected ones."""
    directions = minimisers.simplex(2)
    reflected = minimisers.reflected_minimiser(directions)
    for start, end in ((directions, directions), (-directions, reflected)):
        found = searched(directions, 5, around=start, spread=0.1)
        assert len(found) == 5
        assert all(permuted(W, end) for W in found)


def test_larger_simplexes_have_mixed_minimisers_too():
    directions = minimisers.simplex(3)
    found = searched(directions, 20)
    assert any(permuted(W, directions) for W in found)
    reflected = minimisers.reflected_minimiser(directions)
    neither = [W for W in found if not permuted(W, directions) and not permuted(W, reflected)]
    assert neither
    assert float(one_sparse_losses(neither[0], directions).max()) < 1e-9


def test_descent_finds_only_permutations_for_features_along_axes():
    directions = counterexamples.example_directions()
    found = searched(directions, 30)
    assert len(found) >= 5
    assert all(permuted(W, directions) for W in found)
    assert any(not torch.allclose(W, directions, atol=1e-2) for W in found)


def test_descent_finds_only_permutations_with_top_1():
    directions = minimisers.simplex(2)
    found = searched(directions, 12, TOP_1)
    assert found
    assert all(permuted(W, directions) for W in found)


@given(st.permutations(range(4)))
@settings(deadline=None)
def test_every_permutation_is_a_minimiser(order):
    directions = minimisers.simplex(3)
    assert float(one_sparse_losses(directions[order], directions).max()) < 1e-20


def test_a_vanishing_gradient_does_not_mean_reconstruction():
    directions = minimisers.simplex(2)
    W = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    loss = sae_loss(W, directions, torch.eye(3))
    loss.backward()
    assert W.grad is not None
    assert W.grad.abs().max().item() == 0.0
    assert loss.item() == pytest.approx(1.0)


def test_what_is_no_simplex_is_refused():
    with pytest.raises(WorldError, match="5 directions in 2 dimensions are none"):
        minimisers.reflected_minimiser(pentagon())
    with pytest.raises(ConfigError, match="at least one dimension, got d_in 0"):
        minimisers.simplex(0)
    with pytest.raises(ConfigError, match="5 features need as many latents, got a width of 4"):
        minimisers.largest_k_as_printed(pentagon(), 4)
