import math

import pytest
import torch

from latent_assay.errors import ConfigError, WorldError
from latent_assay.worlds import (
    ChildSwitchesParent,
    Conditional,
    Correlation,
    GaussianCopula,
    Hierarchy,
    Independent,
    Link,
    World,
    correlated_pair,
)
from latent_assay.worlds.statistics import firing_statistics

from .sampling import seeded

FAMILY = Hierarchy(parents=(None, 0, 0, None), rates=(0.5, 0.4, 0.2, 0.3))


def test_exact_statistics_of_a_hierarchy():
    found = firing_statistics(FAMILY)
    assert found.n is None
    assert found.l0 == pytest.approx(0.5 + 0.2 + 0.1 + 0.3)
    assert found.l0_error == 0
    assert found.rates.tolist() == pytest.approx([0.5, 0.2, 0.1, 0.3])
    assert found.parents.parent.tolist() == [0, 0]
    assert found.parents.child.tolist() == [1, 2]
    assert found.parents.parent_given_child.tolist() == pytest.approx([1, 1])
    assert found.parents.child_given_parent.tolist() == pytest.approx([0.4, 0.2])
    assert found.parents.child_given_no_parent.tolist() == pytest.approx([0, 0])
    assert found.parents.child_given_parent_error.tolist() == [0, 0]
    assert found.given_firing[0, 1].item() == pytest.approx(0.4)
    assert found.given_firing[1, 0].item() == pytest.approx(1.0)
    assert found.given_silent[0, 1].item() == pytest.approx(0.0, abs=1e-12)
    assert found.given_silent[3, 0].item() == pytest.approx(0.5)
    assert (found.correlation_error == 0).all()


def test_exact_correlations():
    law = Conditional(rates=(0.25, None), links=[Link(feature=1, on=0, fires=0.2, silent=0.1)])
    found = firing_statistics(law)
    p, q, both = 0.25, 0.125, 0.05
    expected = (both - p * q) / math.sqrt(p * (1 - p) * q * (1 - q))
    assert found.correlation[0, 1].item() == pytest.approx(expected)
    assert found.correlation.diagonal().tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    "law",
    [
        FAMILY,
        ChildSwitchesParent(parents=(None, 0, 0, None), rates=(0.3, 0.2, 0.1, 0.2)),
        correlated_pair((0.45, 0.25), -0.3),
    ],
    ids=lambda law: type(law).__name__,
)
def test_measured_statistics_agree_with_exact_ones(law):
    exact, found = firing_statistics(law), firing_statistics(law, 100_000, seeded(0))
    assert found.n == 100_000
    assert abs(found.l0 - exact.l0) <= 5 * found.l0_error
    for name in ("rates", "correlation"):
        difference = (getattr(found, name) - getattr(exact, name)).abs()
        assert (difference <= 5 * getattr(found, f"{name}_error") + 1e-12).all(), name
    for name in ("parent_given_child", "child_given_parent", "child_given_no_parent"):
        difference = (getattr(found.parents, name) - getattr(exact.parents, name)).abs()
        assert (difference <= 5 * getattr(found.parents, f"{name}_error") + 1e-12).all(), name


def test_errors_are_the_spread_over_repetitions():
    """Each standard error, against the standard deviation of 200 measurements."""
    law, n = ChildSwitchesParent(parents=(None, 0), rates=(0.3, 0.2)), 500
    repeated = [firing_statistics(law, n, seeded(seed)) for seed in range(200)]
    for value, error in (
        (lambda s: s.l0, lambda s: s.l0_error),
        (lambda s: s.rates[0].item(), lambda s: s.rates_error[0].item()),
        (lambda s: s.correlation[0, 1].item(), lambda s: s.correlation_error[0, 1].item()),
        (
            lambda s: s.parents.child_given_parent[0].item(),
            lambda s: s.parents.child_given_parent_error[0].item(),
        ),
    ):
        spread = torch.tensor([value(each) for each in repeated]).std().item()
        stated = sum(error(each) for each in repeated) / len(repeated)
        # the sd of 200 values is known to 1 / sqrt(2 * 199), about 5%
        assert abs(spread / stated - 1) < 0.25


def test_chunks_add_up(monkeypatch):
    monkeypatch.setattr("latent_assay.worlds.statistics.ENTRIES", 40)
    found = firing_statistics(FAMILY, 1003, seeded(0))
    fires = torch.cat([FAMILY.sample(n, g) for g in [seeded(0)] for n in [10] * 100 + [3]]).double()
    torch.testing.assert_close(found.rates, fires.mean(dim=0))
    torch.testing.assert_close(found.joint, fires.T @ fires / 1003)
    assert found.l0 == pytest.approx(fires.sum(dim=1).mean().item())
    expected = fires.sum(dim=1).std(correction=0).item() / math.sqrt(1003)
    assert found.l0_error == pytest.approx(expected)


def test_pairs_can_be_left_out():
    found = firing_statistics(FAMILY, 1000, seeded(0), pairwise=False)
    assert found.parents.parent_given_child.tolist() == [1, 1]
    for name in ("correlation", "correlation_error", "given_firing", "given_silent"):
        with pytest.raises(WorldError, match="pairwise=True"):
            getattr(found, name)


def test_what_never_happens_is_nan():
    found = firing_statistics(Hierarchy(parents=(None, 0), rates=(0.5, 0.0)))
    assert found.parents.parent_given_child.isnan().all()
    assert found.correlation[0, 1].isnan()


COPULA = GaussianCopula(rates=(0.3, 0.2), correlation=Correlation.full(torch.eye(2)))


def test_refuses():
    with pytest.raises(WorldError, match="cannot be enumerated: firing is a Gaussian copula"):
        firing_statistics(COPULA)
    with pytest.raises(ConfigError, match="n = 10 and no generator"):
        firing_statistics(COPULA, 10)
    with pytest.raises(ConfigError, match="n = 0 and a generator"):
        firing_statistics(COPULA, 0, seeded(0))


def test_world_has_statistics_and_they_print():
    world = World(directions=torch.eye(4), firing=FAMILY)
    text = str(world.statistics())
    assert "4 features, exact: L0 1.1" in text
    assert "feature 1: rate 0.2\n" in text
    assert "P(1 | 0) 0.4, P(1 | not 0) 0, P(0 | 1) 1" in text
    measured = str(world.statistics(1000, seeded(0)))
    assert "measured on 1,000 samples" in measured
    assert "±" in measured


def test_long_statistics_are_cut():
    crowd = Hierarchy(parents=(None, *[0] * 29), rates=[0.1] * 30)
    text = str(firing_statistics(crowd, 100, seeded(0)))
    assert "and 10 more\n" in text
    assert text.endswith("and 9 more links")
    assert len(str(firing_statistics(Independent(rates=(0.1,)), 10, seeded(0))).splitlines()) == 2
