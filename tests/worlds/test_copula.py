import math

import pytest
import torch
from scipy.stats import multivariate_normal

from latent_assay.errors import ConfigError, ShapeError, WorldError
from latent_assay.worlds import (
    ChildSwitchesParent,
    Correlation,
    GaussianCopula,
    Hierarchy,
    correlated,
    correlated_pair,
    nearest_correlation,
    random_correlation,
    rates,
)
from latent_assay.worlds.firing.normal import both_exceed, correlation_for
from latent_assay.worlds.statistics import firing_statistics

from .sampling import assert_law_holds, assert_probabilities, seeded

ALTERNATING = torch.tensor([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]])


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- the bivariate normal ---------------------------------------------------------------------


@pytest.mark.parametrize("h", [-2.0, 0.0, 0.7])
@pytest.mark.parametrize("k", [-1.0, 0.7, 2.5])
@pytest.mark.parametrize("r", [-0.95, -0.3, 0.0, 0.5, 0.99])
def test_both_exceed_agrees_with_scipy(h, k, r):
    expected = multivariate_normal([0, 0], [[1, r], [r, 1]]).cdf([-h, -k])
    assert both_exceed(doubles(h), doubles(k), doubles(r)).item() == pytest.approx(
        expected, abs=1e-7
    )


def test_both_exceed_in_closed_form():
    r = torch.linspace(-1, 1, 41, dtype=torch.float64)
    zero = torch.zeros_like(r)
    expected = 0.25 + r.asin() / (2 * math.pi)
    torch.testing.assert_close(both_exceed(zero, zero, r), expected, atol=1e-13, rtol=0)


def test_both_exceed_at_the_ends():
    """Equal variables exceed both when the higher threshold is; opposite ones when they can."""
    h, k = doubles(0.3, 1.0, -1.0), doubles(1.2, 1.0, 0.5)
    p, q = torch.special.ndtr(-h), torch.special.ndtr(-k)
    together = both_exceed(h, k, torch.ones(3).double())
    torch.testing.assert_close(together, torch.minimum(p, q), atol=1e-6, rtol=0)
    apart = both_exceed(h, k, -torch.ones(3).double())
    torch.testing.assert_close(apart, (p + q - 1).clamp(min=0), atol=1e-6, rtol=0)


def test_correlation_for_inverts_both_exceed(monkeypatch):
    monkeypatch.setattr("latent_assay.worlds.firing.normal.CHUNK", 7)
    h = 2 * torch.randn(50, generator=seeded(0), dtype=torch.float64)
    k = torch.randn(50, generator=seeded(1), dtype=torch.float64)
    r = 1.9 * torch.rand(50, generator=seeded(2), dtype=torch.float64) - 0.95
    joint = both_exceed(h, k, r)
    found = correlation_for(h, k, joint)
    torch.testing.assert_close(both_exceed(h, k, found), joint, atol=1e-12, rtol=0)
    # where the chance hardly depends on r, r is not determined to many digits
    assert ((found - r).abs() < 1e-6).double().mean() > 0.8


# --- the copula -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "low rank"])
def test_copula_has_its_rates_and_binary_correlations(kind):
    n = 400_000
    if kind == "full":
        correlation = Correlation.full(ALTERNATING)
    else:
        correlation = Correlation.low_rank(torch.tensor([[0.8], [0.5], [-0.6]]))
    law = GaussianCopula(rates=(0.3, 0.1, 0.5), correlation=correlation)
    measured = firing_statistics(law, n, seeded(0))
    assert_probabilities(measured.rates, law.marginals, n)
    difference = (measured.correlation - law.binary_correlation()).fill_diagonal_(0).abs()
    assert (difference <= 5 * measured.correlation_error).all()
    assert law.binary_correlation()[0, 1] > 0.1  # the test would see a copula that does nothing


def test_uncorrelated_copula_is_independent():
    law = GaussianCopula(rates=(0.3, 0.2), correlation=Correlation.full(torch.eye(2)))
    assert law.binary_correlation()[0, 1].abs() < 1e-12


def test_copula_with_constant_features():
    law = GaussianCopula(
        rates=(0.0, 0.5, 1.0),
        correlation=Correlation.full(torch.full((3, 3), 0.5) + torch.eye(3) / 2),
    )
    fires = law.sample(1000, seeded(0))
    assert not fires[:, 0].any()
    assert fires[:, 2].all()
    assert law.binary_correlation()[0].isnan().all()


def test_copula_is_factorised_once(monkeypatch):
    law = GaussianCopula(rates=(0.3, 0.1, 0.5), correlation=Correlation.full(ALTERNATING))
    law.sample(2, seeded(0))

    def refuse(*_, **__):
        raise AssertionError("factorised again while drawing")

    for name in ("cholesky", "eigh", "svd", "qr"):
        monkeypatch.setattr(torch.linalg, name, refuse)
    monkeypatch.setattr(torch.special, "ndtri", refuse)
    assert law.sample(5, seeded(0)).shape == (5, 3)


def test_singular_correlations_are_allowed():
    """Two features that are one."""
    law = GaussianCopula(rates=(0.3, 0.3), correlation=Correlation.full(torch.ones(2, 2)))
    assert law.correlation.factor.shape == (2, 1)
    fires = law.sample(2000, seeded(0))
    assert torch.equal(fires[:, 0], fires[:, 1])


def test_correlation_is_what_was_given():
    torch.testing.assert_close(
        Correlation.full(ALTERNATING).matrix, ALTERNATING.double(), atol=1e-12, rtol=0
    )
    factor = 0.3 * torch.randn(5, 2, generator=seeded(0), dtype=torch.float64)
    expected = (factor @ factor.T).fill_diagonal_(1.0)
    torch.testing.assert_close(Correlation.low_rank(factor).matrix, expected)


def test_hierarchy_over_a_copula():
    """The gates hold whatever couples the decisions."""
    n = 100_000
    strong = Correlation.low_rank(torch.tensor([[0.9], [0.9], [0.0]]))
    law = Hierarchy(parents=(None, 0, 0), rates=(0.3, 0.3, 0.3), correlation=strong)
    fires = law.sample(n, seeded(0))
    assert not (fires[:, 1:] & ~fires[:, :1]).any()
    assert law.marginals is None
    given_parent = fires[fires[:, 0]].double().mean(dim=0)
    assert given_parent[1] > 0.5  # coupled to the parent's decision
    assert abs(given_parent[2] - 0.3) < 0.02  # not coupled
    switched = ChildSwitchesParent(parents=(None, 0, 0), rates=(0.3, 0.3, 0.3), correlation=strong)
    fires = switched.sample(n, seeded(0))
    assert not (fires[:, 1:] & ~fires[:, :1]).any()
    assert_probabilities(fires[:, 1:].double().mean(dim=0), doubles(0.3, 0.3), n)
    for each in (law, switched):
        with pytest.raises(WorldError, match="decisions are coupled by a Gaussian copula"):
            each.patterns()


# --- wanted binary correlations ---------------------------------------------------------------


@pytest.mark.parametrize("rho", [-0.522, -0.3, 0.0, 0.4, 0.638])
def test_correlated_pair_is_exact(rho):
    law = correlated_pair((0.45, 0.25), rho)
    assert_law_holds(law)
    exact = firing_statistics(law)
    assert exact.rates.tolist() == pytest.approx([0.45, 0.25], abs=1e-12)
    assert exact.correlation[0, 1].item() == pytest.approx(rho, abs=1e-12)


def test_correlated_pair_says_what_is_possible():
    with pytest.raises(
        WorldError, match=r"features 0 and 1, .* rates 0.45 and 0.25, .*between -0.522 and 0.638"
    ):
        correlated_pair((0.45, 0.25), 0.7)
    with pytest.raises(WorldError, match="one of them never varies"):
        correlated_pair((0.0, 0.25), 0.1)
    with pytest.raises(WorldError, match="a pair has two features, but 3 rates"):
        correlated_pair((0.1, 0.2, 0.3), 0.1)


def test_correlated_has_the_wanted_correlations():
    wanted = torch.tensor(
        [[1.0, 0.3, -0.1, 0.0], [0.3, 1.0, 0.2, 0.0], [-0.1, 0.2, 1.0, 0.1], [0.0, 0.0, 0.1, 1.0]]
    ).double()
    law = correlated((0.3, 0.2, 0.4, 0.1), wanted)
    torch.testing.assert_close(law.binary_correlation(), wanted, atol=1e-6, rtol=0)
    measured = firing_statistics(law, 200_000, seeded(0))
    difference = (measured.correlation - wanted).fill_diagonal_(0).abs()
    assert (difference <= 5 * measured.correlation_error).all()


def test_correlated_agrees_with_the_pair():
    wanted = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    law = correlated((0.45, 0.25), wanted)
    joint = both_exceed(
        -torch.special.ndtri(doubles(0.45)),
        -torch.special.ndtri(doubles(0.25)),
        law.correlation.matrix[:1, 1],
    )
    pair = correlated_pair((0.45, 0.25), 0.5).patterns()
    assert joint.item() == pytest.approx(pair.probability[-1].item(), abs=1e-12)


def test_correlated_leaves_constant_features_alone():
    law = correlated((0.3, 0.0, 0.4), torch.tensor([[1.0, 0, 0.2], [0, 1, 0], [0.2, 0, 1]]))
    assert not law.sample(100, seeded(0))[:, 1].any()
    assert law.binary_correlation()[0, 2].item() == pytest.approx(0.2, abs=1e-6)


# three features cannot all oppose each other this much
OPPOSED = torch.full((3, 3), -0.6).fill_diagonal_(1.0)


def test_correlated_reports_what_cannot_be_had_together():
    with pytest.raises(WorldError, match=r"no Gaussian copula has them all.*nearest=True.*up to 0"):
        correlated((0.5, 0.5, 0.5), OPPOSED)
    law = correlated((0.5, 0.5, 0.5), OPPOSED, nearest=True)
    # by symmetry the nearest has the Gaussian correlation -1/2, of which the firing keeps -1/3
    off = law.binary_correlation()[0, 1:]
    torch.testing.assert_close(off, torch.full((2,), -1 / 3).double(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: correlated((0.1, 0.4), torch.tensor([[1.0, 0.9], [0.9, 1.0]])),
            WorldError,
            "features 0 and 1.*cannot have correlation 0.9: it can only lie between -0.272 and 0",
        ),
        (lambda: correlated((0.1,), torch.eye(2)), ShapeError, r"\(2, 2\), but 1 features"),
        (
            lambda: correlated((0.1, 0.4), torch.tensor([[1.0, 0.1], [0.2, 1.0]])),
            WorldError,
            "not symmetric",
        ),
        (lambda: Correlation.full(OPPOSED), WorldError, "negative eigenvalue -0.2"),
        (lambda: Correlation.full(2 * torch.eye(2)), WorldError, "ones on its diagonal"),
        (lambda: Correlation.full(torch.ones(2, 3)), ShapeError, r"\(2, 3\)"),
        (
            lambda: Correlation.low_rank(torch.tensor([[0.5], [1.2]])),
            WorldError,
            "row 1 of the factor has squared length 1.44",
        ),
        (
            lambda: Correlation(factor=torch.ones(2, 1).double(), diagonal=torch.ones(2).double()),
            WorldError,
            "feature 0 has variance 2",
        ),
        (
            lambda: GaussianCopula(rates=(0.5,), correlation=Correlation.full(torch.eye(2))),
            WorldError,
            "correlation is one of 2 features, but there are rates for 1",
        ),
        (
            lambda: Hierarchy(
                parents=(None,), rates=(0.5,), correlation=Correlation.full(torch.eye(2))
            ),
            WorldError,
            "rates for 1",
        ),
        (
            lambda: random_correlation(3, seeded(0), weakest=0.9, strongest=0.1),
            ConfigError,
            "0 <= weakest <= strongest <= 1",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- correlation matrices ---------------------------------------------------------------------


def test_nearest_correlation_is_nearest():
    """Higham's example, and no worse than clipping or shrinking for a random one."""
    example = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    found = nearest_correlation(example)
    expected = torch.tensor(
        [[1.0, 0.7607, 0.1573], [0.7607, 1.0, 0.7607], [0.1573, 0.7607, 1.0]]
    ).double()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    noise = torch.randn(8, 8, generator=seeded(0), dtype=torch.float64)
    target = (0.9 * torch.tanh(noise + noise.T)).fill_diagonal_(1.0)
    values, vectors = torch.linalg.eigh(target)
    assert values[0] < -0.1
    clipped = (vectors * values.clamp(min=0)) @ vectors.T
    scale = clipped.diagonal().rsqrt()
    clipped = clipped * scale[:, None] * scale
    nearest = nearest_correlation(target)
    assert torch.linalg.eigvalsh(nearest)[0] > 0
    assert (nearest.diagonal() - 1).abs().max() < 1e-12
    assert (nearest - target).norm() < (clipped - target).norm()


def test_nearest_correlation_keeps_what_is_one():
    torch.testing.assert_close(nearest_correlation(ALTERNATING), ALTERNATING.double())


def test_random_correlation_is_as_described():
    matrix = random_correlation(50, seeded(42)).matrix
    off = matrix[~torch.eye(50, dtype=torch.bool)].abs()
    assert 0.11 < off.mean() < 0.15
    assert 0.3 < off.max() < 0.6
    assert torch.linalg.eigvalsh(matrix)[0] > 0
    assert torch.equal(matrix, random_correlation(50, seeded(42)).matrix)


def test_large_low_rank_copula_is_cheap_to_build():
    law = GaussianCopula(
        rates=rates.constant(20_000, 0.01),
        correlation=Correlation.low_rank(0.05 * torch.randn(20_000, 25, generator=seeded(0))),
    )
    assert_probabilities(law.sample(400, seeded(0)).double().mean().reshape(1), doubles(0.01), 400)
