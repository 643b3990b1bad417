import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.theory import counterexamples
from latent_assay.theory.decomposition import (
    best_gamma,
    decomposition,
    decomposition_as_printed,
    gamma_from_variance,
    interference_gap,
    smallest_gap,
    weighted_gram,
    weighted_gram_as_printed,
)
from latent_assay.theory.identifiability import feature_loss, latent_activations, sae_loss
from latent_assay.theory.minimisers import simplex
from latent_assay.theory.top_k import top_k

from .strategies import matrices


@given(matrices(), st.booleans(), st.sampled_from(["relu", "identity", "top"]))
@settings(deadline=None)
def test_parts_sum_to_the_loss(drawn, weighted, name):
    W, directions, magnitudes, probability, gamma = drawn
    sparsifier = {"relu": torch.relu, "identity": torch.nn.Identity()}.get(name, torch.relu)
    if name == "top" and len(W) > 1:
        sparsifier = partial(top_k, k=1)
    options = {"gamma": gamma if weighted else None, "sparsifier": sparsifier}
    parts = decomposition(W, directions, magnitudes, probability, **options)
    loss = sae_loss(W, directions, magnitudes, probability, **options)
    assert parts.total.item() == pytest.approx(loss.item(), abs=1e-10, rel=1e-10)
    assert parts.features.item() == pytest.approx(
        feature_loss(W, directions, magnitudes, probability, sparsifier=sparsifier).item()
    )
    assert parts.gap.item() == pytest.approx(
        loss.item() - parts.features.item(), abs=1e-10, rel=1e-10
    )


@given(matrices())
@settings(deadline=None)
def test_each_part_is_what_its_formula_says(drawn):
    W, directions, magnitudes, probability, gamma = drawn
    parts = decomposition(W, directions, magnitudes, probability, gamma=gamma)
    square = torch.diag(gamma.square())
    expected = torch.zeros(3, dtype=torch.float64)
    for s, p in zip(magnitudes, probability, strict=True):
        z = latent_activations(W, directions, s[None])[0]
        e, difference = s - z, W - directions
        gram = directions @ square @ directions.mT - torch.eye(len(W))
        expected[0] += p * (z @ difference @ square @ difference.mT @ z)
        expected[1] += p * -2 * (z @ difference @ square @ directions.mT @ e)
        expected[2] += p * (e @ gram @ e)
    found = [parts.mismatch.item(), parts.cross.item(), parts.interference.item()]
    assert found == pytest.approx(expected.tolist(), abs=1e-10, rel=1e-10)


@given(matrices())
@settings(deadline=None)
def test_printed_sum_misses_the_loss_by_twice_the_cross_part(drawn):
    W, directions, magnitudes, probability, gamma = drawn
    right = decomposition(W, directions, magnitudes, probability, gamma=gamma)
    printed = decomposition_as_printed(W, directions, magnitudes, probability, gamma=gamma)
    loss = sae_loss(W, directions, magnitudes, probability, gamma=gamma).item()
    assert printed.total.item() - loss == pytest.approx(-2 * right.cross.item(), abs=1e-9, rel=1e-9)


def test_smallest_counterexample_to_the_printed_sign():
    one = torch.ones(1, 1)
    assert sae_loss(one / 2, one, one).item() == 9 / 16
    assert decomposition(one / 2, one, one).total.item() == pytest.approx(9 / 16)
    assert decomposition_as_printed(one / 2, one, one).total.item() == pytest.approx(1 / 16)


@given(matrices())
@settings(max_examples=30, deadline=None)
def test_at_the_truth_only_the_interference_is_left(drawn):
    _, directions, magnitudes, probability, gamma = drawn
    parts = decomposition(directions, directions, magnitudes, probability, gamma=gamma)
    assert parts.mismatch.item() == 0.0
    assert parts.cross.item() == 0.0


@given(matrices())
@settings(max_examples=30, deadline=None)
def test_weighted_gram(drawn):
    _, directions, _, _, gamma = drawn
    gram = weighted_gram(directions, gamma)
    q = gamma.square()
    expected = torch.einsum("iq,jq,q->ij", directions, directions, q)
    assert torch.allclose(gram, expected, atol=1e-12)
    assert torch.allclose(gram, gram.mT)


def test_printed_gram_is_not_symmetric():
    directions = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    printed = weighted_gram_as_printed(directions, torch.tensor([1.0, 2.0, 3.0]))
    assert printed[0, 1].item() == pytest.approx(0.6)
    assert printed[1, 0].item() == pytest.approx(2.4)


def test_example_1():
    rows = counterexamples.example_directions()
    assert interference_gap(rows) == 2.0
    gamma = best_gamma(rows)
    assert gamma.tolist() == pytest.approx([1.0, math.sqrt(0.5)])
    assert interference_gap(rows, gamma) == pytest.approx(1.0)
    grid = torch.linspace(0, 1.5, 61, dtype=torch.float64)
    least = min(
        interference_gap(rows, torch.stack([first, second])) for first in grid for second in grid
    )
    assert least == pytest.approx(1.0, abs=1e-3)


@given(matrices(), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_best_gamma_is_best(drawn, seed):
    """Optimality conditions of the non-negative least squares, and no random gamma is better."""
    _, directions, *_ = drawn
    gamma = best_gamma(directions)
    least = interference_gap(directions, gamma)
    inner = directions.mT @ directions
    slope = inner.square() @ gamma.square() - inner.diagonal()
    scale = inner.diagonal().max()
    assert float(slope.min()) > -1e-8 * scale  # raising no weight helps
    assert float((slope * gamma.square()).abs().max()) < 1e-8 * max(1.0, scale)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        other = gamma * (1 + 0.3 * torch.randn(gamma.shape, generator=generator))
        assert interference_gap(directions, other) >= least - 1e-9
    assert least >= smallest_gap(*directions.shape) - 1e-9


@given(st.integers(1, 6))
@settings(deadline=None)
def test_columns_at_right_angles_attain_the_smallest_gap(d_in):
    """A simplex is a tight frame: γ² = d / (d + 1) and the gap is 1."""
    rows = simplex(d_in)
    gamma = best_gamma(rows)
    assert gamma.square().tolist() == pytest.approx([d_in / (d_in + 1)] * d_in)
    assert interference_gap(rows, gamma) == pytest.approx(smallest_gap(d_in + 1, d_in))


def test_a_weight_that_would_be_negative_is_zero():
    """The first column lies between the other two, 30° from each, and only gets in their way."""
    half = math.radians(30)
    rows = torch.tensor([[1.0, math.cos(half), math.cos(half)], [0.0, 0.5, -0.5]])
    gamma = best_gamma(rows)
    assert gamma[0].item() == 0.0
    assert gamma[1:].square().tolist() == pytest.approx([0.8, 0.8], abs=1e-6)


def test_a_dimension_that_no_feature_uses_has_no_weight():
    assert best_gamma(torch.tensor([[1.0, 0.0]])).tolist() == [1.0, 0.0]
    assert best_gamma(torch.zeros(2, 3)).tolist() == [0.0, 0.0, 0.0]


def test_gamma_from_variance():
    variance = torch.tensor([0.5, 2.0, 8.0])
    for exponent in (0.5, 1.0):
        gamma = gamma_from_variance(variance, exponent)
        assert gamma.square().mean().item() == pytest.approx(1.0)
        assert (gamma[2] / gamma[0]).item() == pytest.approx(16**exponent)
    assert gamma_from_variance(variance, 0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("variance", [[1.0, -1.0], [1.0, math.inf], [0.0, 0.0]])
def test_impossible_variances_are_refused(variance):
    with pytest.raises(ConfigError, match="finite, not negative, and not all zero"):
        gamma_from_variance(torch.tensor(variance), 1.0)


def test_fewer_latents_than_features_have_no_decomposition():
    with pytest.raises(ShapeError, match="there are 2 latents and 3 features"):
        decomposition(torch.eye(3)[:2], torch.eye(3), torch.eye(3))
