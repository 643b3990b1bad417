import itertools
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.losses import Forward, Progress, SquaredError
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU, TopK
from latent_assay.theory import identifiability
from latent_assay.theory.top_k import top_k, top_k_as_printed
from latent_assay.worlds.directions import learned

from .strategies import independent, matrices

SPARSITIES = (0.9, 0.99, 0.999)


@given(matrices())
@settings(max_examples=50, deadline=None)
def test_loss_is_that_of_a_tied_sae(drawn):
    W, directions, magnitudes, probability, gamma = drawn
    sae = SAE(W[None], sparsifier=ReLU())
    x = magnitudes @ directions
    z = identifiability.latent_activations(W, directions, magnitudes)
    assert torch.allclose(z, sae.encode(x)[0], atol=1e-12)
    forward = Forward(sae, x, probability)
    progress = Progress(step=0, samples=0, since_fired=torch.zeros(1, len(W), dtype=torch.int64))
    for weights in (None, gamma):
        expected = SquaredError(gamma=weights).value(forward, progress)
        found = identifiability.sae_loss(W, directions, magnitudes, probability, gamma=weights)
        assert found.item() == pytest.approx(expected.item(), rel=1e-10)


def test_mean_over_samples_is_the_default():
    values = torch.tensor([1.0, 2.0, 6.0])
    assert identifiability.expectation(values).item() == 3.0
    assert identifiability.expectation(values, torch.tensor([0.5, 0.5, 0.0])).item() == 1.5


def test_features_that_are_recovered_have_no_feature_loss():
    eye = torch.eye(3)
    magnitudes = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    assert identifiability.feature_loss(eye, eye, magnitudes).item() == 0.0
    assert identifiability.superposition_loss(eye, magnitudes).item() < 1e-12
    swapped = eye[[1, 0, 2]]
    assert identifiability.sae_loss(swapped, eye, magnitudes).item() < 1e-12
    assert identifiability.feature_loss(swapped, eye, magnitudes).item() > 0.1


def test_superposition_loss_is_what_the_toy_world_minimises():
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        s = torch.rand(20000, 5, generator=generator)
        return s * (torch.rand(20000, 5, generator=generator) > 0.9)

    generator = torch.Generator().manual_seed(0)
    trained = learned(5, 2, generator, sparsity=0.9, steps=150, batch_size=256)
    random = torch.randn(5, 2, generator=generator)
    losses = [
        identifiability.superposition_loss(rows, drawn(1)).item() for rows in (trained, random)
    ]
    assert losses[0] < 0.7 * losses[1]


@given(st.integers(1, 6), st.floats(0, 0.999))
@settings(deadline=None)
def test_probability_of_one_firing_feature(n, sparsity):
    world = independent([1 - sparsity] * n, [1.0] * n)
    count = world.firing.sum(-1)
    one = float(world.probability[count == 1].sum())
    some = float(world.probability[count > 0].sum())
    found = identifiability.one_sparse_probability(n, sparsity)
    assert found == pytest.approx(one / some, abs=1e-10)


@pytest.mark.parametrize(("sparsity", "expected"), [(0.99, 0.31), (0.999, 0.90), (0.9999, 0.99)])
def test_the_limit_of_extreme_sparsity_is_slow(sparsity, expected):
    found = identifiability.one_sparse_probability(200, sparsity)
    assert found == pytest.approx(expected, abs=5e-3)
    assert identifiability.one_sparse_probability(200, 1 - 1e-12) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("sparsifier", [torch.relu, partial(top_k, k=1)])
def test_sparse_limit_is_first_order(sparsifier):
    """What is left falls with the square of 1 - S; the printed form is n times too large."""
    generator = torch.Generator().manual_seed(0)
    W, directions = torch.randn(2, 4, 2, generator=generator, dtype=torch.float64)
    rest = []
    for sparsity in SPARSITIES:
        world = independent([1 - sparsity] * 4, [1.0] * 4)
        exact = identifiability.sae_loss(
            W, directions, world.magnitudes, world.probability, sparsifier=sparsifier
        )
        limit = identifiability.sparse_limit(
            W, directions, sparsity, second_moment=1, sparsifier=sparsifier
        )
        printed = identifiability.sparse_limit_as_printed(
            W, directions, sparsity, sparsifier=sparsifier
        )
        assert printed.item() == pytest.approx(4 * limit.item())
        rest.append(abs(exact.item() - limit.item()))
    assert rest[1] / rest[0] == pytest.approx(0.01, abs=0.005)
    assert rest[2] / rest[1] == pytest.approx(0.01, abs=0.001)


def test_sparse_limit_of_uniform_magnitudes_has_the_factor_a_third():
    generator = torch.Generator().manual_seed(0)
    W, directions = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    m = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    alone = torch.cat([m.unsqueeze(-1) * row for row in torch.eye(3, dtype=torch.float64)])
    exact = identifiability.sae_loss(W, directions, alone) * 3  # a third of the samples each
    sparsity = 0.999
    limit = identifiability.sparse_limit(W, directions, sparsity)
    assert limit.item() == pytest.approx(sparsity**2 * 0.001 * exact.item(), rel=1e-4)


entries = st.lists(st.integers(-20, 20), min_size=3, max_size=8, unique=True)


@given(entries, st.data())
@settings(deadline=None)
def test_top_k_keeps_the_k_largest(values, data):
    pre = torch.tensor([values], dtype=torch.float64)
    k = data.draw(st.integers(1, len(values) - 1))
    kept = sorted(values, reverse=True)[:k]
    expected = [value if value in kept else 0.0 for value in values]
    assert top_k(pre, k)[0].tolist() == expected
    following = sorted(values, reverse=True)[k]
    printed = [value if value in (*kept, following) else 0.0 for value in values]
    assert top_k_as_printed(pre, k)[0].tolist() == printed


@given(entries, st.data())
@settings(deadline=None)
def test_top_k_is_the_sparsifier_for_positive_entries(values, data):
    pre = torch.tensor([values], dtype=torch.float64).abs() + torch.arange(len(values)) / 100
    k = data.draw(st.integers(1, len(values) - 1))
    assert torch.allclose(top_k(pre, k), TopK(k)(pre[None])[0])


def test_ties_with_the_next_entry_are_dropped():
    assert top_k(torch.tensor([5.0, 3.0, 3.0, 2.0]), 2).tolist() == [5.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("k", [0, 3])
def test_k_must_leave_an_entry_out(k):
    for function in (top_k, top_k_as_printed):
        with pytest.raises(ConfigError, match=f"below the number of latents 3, got {k}"):
            function(torch.ones(3), k)


@pytest.mark.parametrize(("n", "sparsity"), [(0, 0.5), (3, 1.0), (3, -0.1)])
def test_impossible_sparsity_is_refused(n, sparsity):
    with pytest.raises(ConfigError, match="up to but not including 1"):
        identifiability.one_sparse_probability(n, sparsity)


@pytest.mark.usefixtures("as_a_user")
def test_shapes_that_do_not_fit_are_refused():
    eye, s = torch.eye(3), torch.ones(2, 3)
    with pytest.raises(ShapeError, match="directions have d_in 3"):
        identifiability.sae_loss(torch.eye(2), eye, s)
    with pytest.raises(ShapeError, match=r"expected \[feature, d_in\] and \[sample, feature\]"):
        identifiability.sae_loss(eye, eye, torch.ones(2, 4))
    with pytest.raises(ShapeError, match="there are 2 latents and 3 features"):
        identifiability.feature_loss(eye[:2], eye, s)
    with pytest.raises(ShapeError, match="one weight for each of its dimensions"):
        identifiability.sae_loss(eye, eye, s, gamma=torch.ones(2))


def test_every_pattern_is_covered_by_independent():
    """The reference that the tests above rely on."""
    world = independent([0.1, 0.2, 0.3], [1.0, 1.0, 1.0])
    assert len(world.probability) == len(list(itertools.product([0, 1], repeat=3)))
    assert (world.probability @ world.magnitudes).tolist() == pytest.approx([0.1, 0.2, 0.3])
