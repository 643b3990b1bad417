"""Drawing only what fires: the same law as drawing everything."""

import math

import pytest
import torch
from scipy.stats import chi2

from latent_assay.errors import ConfigError
from latent_assay.worlds import (
    ChildSwitchesParent,
    Conditional,
    Constant,
    Correlation,
    Exponential,
    Firing,
    FoldedNormal,
    GaussianCopula,
    Hierarchy,
    Independent,
    Linear,
    Link,
    Normal,
    SideBySide,
    SparseFiring,
    Table,
    Uniform,
    World,
    directions,
    rates,
)
from latent_assay.worlds.benchmark import synth_bench_firing
from latent_assay.worlds.firing import coupled
from latent_assay.worlds.firing.deciding import Points, alias_table

from .sampling import (
    assert_drawn_from,
    assert_mean,
    assert_probabilities,
    assert_same_law,
    assert_sd,
    seeded,
)

N = 40_000

FINITE = {
    "independent": Independent(rates=(0.2, 0.05, 0.7, 0.0, 1.0, 0.01)),
    "one feature": Independent(rates=(0.3,)),
    "silent": Independent(rates=(0.0, 0.0)),
    "hierarchy": Hierarchy(
        parents=(None, 0, 0, 1, None, 3, 4, 4), rates=(0.6, 0.5, 0.3, 0.8, 0.1, 1.0, 0.0, 0.4)
    ),
    "exclusive": Hierarchy(
        parents=(1, None, 1, 1, 2, 2, None, 6, 6),
        rates=(0.2, 0.7, 0.5, 0.3, 0.6, 0.4, 0.5, 0.5, 0.2),
        exclusive=True,
    ),
    "some exclusive": Hierarchy(
        parents=(None, 0, 0, None, 3, 3, 3),
        rates=(0.5, 0.5, 0.5, 0.4, 0.3, 0.3, 0.3),
        exclusive=(3,),
    ),
    "switches": ChildSwitchesParent(
        parents=(None, 0, 1, None, 3, 2), rates=(0.1, 0.2, 0.05, 0.0, 0.3, 0.2)
    ),
    "conditional": Conditional(
        rates=(0.3, None, 0.1), links=[Link(feature=1, on=0, fires=0.5, silent=0.1)]
    ),
    "table": Table.of({(): 0.5, (0, 1): 0.2, (2,): 0.3}, n_features=3),
    "side by side": SideBySide(
        parts=(
            Independent(rates=(0.2, 0.4)),
            Table.of({(): 0.7, (0, 1): 0.3}, n_features=2),
            Hierarchy(parents=(1, None), rates=(0.5, 0.3)),
        )
    ),
}
# own parts of .2 to 1 of the variance, in both directions
FACTOR = torch.tensor(
    [[0.6, 0.0], [0.0, -0.8], [0.5, 0.5], [-0.7, 0.3], [0.0, 0.0], [0.8, 0.3], [0.3, 0.3]],
    dtype=torch.float64,
)
LOW_RANK = Correlation.low_rank(FACTOR)
FULL = Correlation.full(LOW_RANK.matrix)
RATES = (0.02, 0.1, 0.3, 0.45, 0.2, 0.6, 0.9)
PARENTS = (None, None, 0, 1, 2, 3, 3)
COUPLED = {
    "low rank": GaussianCopula(rates=RATES, correlation=LOW_RANK),
    "full rank": GaussianCopula(rates=RATES, correlation=FULL),
    "rare and constant": GaussianCopula(
        rates=(0.0, 1.0, 0.005, 0.01, 0.03, 0.0, 0.02), correlation=LOW_RANK
    ),
    "constant and of full rank": GaussianCopula(
        rates=(0.0, 1.0, 0.05, 0.5, 0.3, 0.0, 0.2), correlation=FULL
    ),
    "hierarchy": Hierarchy(
        parents=PARENTS, rates=(0.4, 0.3, 0.5, 0.45, 0.7, 0.3, 0.6), correlation=LOW_RANK
    ),
    "exclusive": Hierarchy(
        parents=PARENTS,
        rates=(0.4, 0.3, 0.5, 0.45, 0.7, 0.5, 0.5),
        correlation=LOW_RANK,
        exclusive=True,
    ),
    "switches": ChildSwitchesParent(parents=PARENTS, rates=RATES, correlation=LOW_RANK),
}
MAGNITUDES = {
    "constant": Constant(value=(1.0, 2.0, -3.0)),
    "linear": Linear(first=3.0, last=1.0),
    "normal": Normal(mean=(1.0, 2.0, -3.0), sd=(0.1, 0.0, 1.0)),
    "folded": FoldedNormal(mean=0.5, sd=1.0),
    "uniform": Uniform(low=(0.1, 0.2, 0.3), high=2.0),
    "exponential": Exponential(mean=(1.0, 2.0, 3.0)),
}


def large(firing: Firing | None = None, **changes: object) -> World:
    n = 1100
    parts = {
        "directions": torch.randn(n, 6, generator=seeded(0)),
        "firing": firing or Independent(rates=rates.zipfian(n, highest=0.5, lowest=1e-3)),
        "magnitudes": FoldedNormal(mean=1.0, sd=0.3),
        "bias": torch.arange(6.0),
    }
    return World(**{**parts, **changes})


LARGE = {
    "independent": large(),
    "hierarchy": large(synth_bench_firing(1100)),
    "copula": large(
        GaussianCopula(
            rates=rates.zipfian(1100, highest=0.5, lowest=1e-3),
            correlation=Correlation.low_rank(
                0.3 * torch.randn(1100, 3, generator=seeded(9)).tanh()
            ),
        )
    ),
    "coupled hierarchy": large(
        synth_bench_firing(
            1100,
            correlation=Correlation.low_rank(
                0.3 * torch.randn(1100, 3, generator=seeded(9)).tanh()
            ),
        )
    ),
}


# --- the list ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (0, 4), (3, 1), (64, 70)])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_list_and_its_matrix_say_the_same(shape, rate):
    matrix = torch.rand(shape, generator=seeded(0)) < rate
    firing = SparseFiring.of(matrix)
    assert torch.equal(firing.dense(), matrix)
    rows, features = matrix.nonzero(as_tuple=True)
    assert torch.equal(firing.rows, rows)
    assert torch.equal(firing.features, features)
    assert torch.equal(firing.starts.diff(), matrix.sum(dim=1))
    assert firing.starts.shape == (shape[0] + 1,)
    shuffled = firing.cells.repeat(3)[torch.randperm(3 * firing.cells.numel(), generator=seeded(1))]
    again = SparseFiring.gathered(shuffled, n=shape[0], n_features=shape[1])
    assert torch.equal(again.cells, firing.cells)
    assert again.cells.dtype == torch.int64


@pytest.mark.parametrize("shape", [(5, 8), (3, 7), (1, 1), (0, 9), (2, 4), (9, 129)])
def test_nonzero_places_are_found_eight_at_a_time(shape):
    for rate in (0.0, 0.05, 0.5, 1.0):
        flags = torch.rand(shape, generator=seeded(1)) < rate
        assert torch.equal(coupled.flat_nonzero(flags), flags.flatten().nonzero()[:, 0])


# --- points -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [[1.0], [0.0, 2.0], [3.0, 0.0, 1.0, 1e-9], [0.0, 0.0], list(range(50)), [0.1] * 7, [1e-300, 1]],
)
def test_the_alias_table_gives_every_place_its_share(weights):
    weights = torch.tensor(weights, dtype=torch.float64)
    keep, other = alias_table(weights)
    share = keep.clone().index_add_(0, other, 1 - keep) / len(keep)
    expected = weights / weights.sum() if weights.sum() > 0 else torch.full_like(share, 1 / 2)
    torch.testing.assert_close(share, expected, atol=1e-14, rtol=0)
    assert (keep >= 0).all()
    assert (keep <= 1).all()


def test_points_are_independent_poisson_numbers():
    chances = torch.tensor([0.5, 0.01, 0.9], dtype=torch.float64)
    points = Points(chances, torch.device("cpu"))
    cells = points.throw(N, seeded(0))
    counts = torch.bincount(cells, minlength=3 * N).view(N, 3).double()
    for feature, rate in enumerate((-torch.log1p(-chances)).tolist()):
        assert_mean(counts[:, feature], rate)
        assert_sd(counts[:, feature], math.sqrt(rate))
    off = torch.corrcoef(counts.T)[[0, 0, 1], [1, 2, 2]]
    assert (off.abs() <= 5 / math.sqrt(N)).all()
    # every sample is as good as another
    halves = cells.lt(3 * N // 2).double()
    assert abs(halves.mean().item() - 0.5) <= 2.5 / math.sqrt(cells.numel())


# --- laws -------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", FINITE.values(), ids=FINITE)
def test_finite_laws_are_drawn_as_enumerated(law):
    firing = law.sample_sparse(N, seeded(1))
    assert (firing.n, firing.n_features) == (N, law.n_features)
    dense, patterns = firing.dense(), law.patterns()
    exact = patterns.probability @ patterns.firing.double()
    assert_probabilities(dense.double().mean(dim=0), exact, N)
    assert_drawn_from(dense, patterns)


@pytest.mark.parametrize("law", COUPLED.values(), ids=COUPLED)
@pytest.mark.parametrize("entries", [2**20, 30])
def test_coupled_laws_are_drawn_as_densely(law, entries, monkeypatch):
    """In one block, or in many with a ragged end."""
    monkeypatch.setitem(coupled.ENTRIES, "cpu", entries)
    n = N if entries > 30 else 2_001
    sparse = law.sample_sparse(n, seeded(1)).dense()
    assert_same_law(sparse, law.sample(N, seeded(2)))
    if law.marginals is not None:
        assert_probabilities(sparse.double().mean(dim=0), law.marginals, n)
    for parent, child in law.forest.links:
        assert not (sparse[:, child] & ~sparse[:, parent]).any()


def test_pairs_of_a_copula_fire_together_as_often_as_they_should():
    law = COUPLED["low rank"]
    fires = law.sample_sparse(4 * N, seeded(3)).dense().double()
    p = law.marginals
    sd = (p * (1 - p)).sqrt()
    joint = law.binary_correlation() * torch.outer(sd, sd) + torch.outer(p, p)
    i, j = torch.triu_indices(7, 7, offset=1)
    assert_probabilities((fires.T @ fires / (4 * N))[i, j], joint[i, j], 4 * N)


def test_the_limit_of_the_shared_part_is_met():
    """Wherever points are thrown, they are thrown at least as often as features fire."""
    thresholds = torch.tensor([-1.0, 0.0, 0.5, 1.5, 3.0, 2.0, torch.inf, -torch.inf]).double()
    spread = torch.tensor([0.5, 0.5, 0.5, 0.9, 0.866, 0.0, 0.5, 0.5]).double()
    limit, proposed = coupled.bounds(thresholds, spread, (1 - spread**2).sqrt())
    fires = torch.special.ndtr((limit - thresholds) / spread)
    usual = proposed > 0
    assert usual.tolist() == [False, False, True, True, True, False, False, False]
    torch.testing.assert_close(fires[usual], proposed[usual])
    assert limit[~usual].tolist() == [-torch.inf, -torch.inf, 2.0, torch.inf, -torch.inf]


@pytest.mark.parametrize("law", [*FINITE.values(), *COUPLED.values()])
def test_edges(law):
    empty = law.sample_sparse(0, seeded(0))
    assert empty.cells.numel() == 0
    assert empty.dense().shape == (0, law.n_features)
    assert law.sample_sparse(1, seeded(0)).dense().shape == (1, law.n_features)
    first, again = (law.sample_sparse(100, seeded(5)).cells for _ in range(2))
    assert torch.equal(first, again)
    assert (first.diff() > 0).all()


def test_work_follows_what_fires():
    """Six billion cells, of which forty thousand are looked at."""
    n, features = 20_000, 300_000
    law = Independent(rates=(2 / features,) * features)
    firing = law.sample_sparse(n, seeded(0))
    assert abs(firing.cells.numel() - 2 * n) <= 5 * math.sqrt(2 * n)
    halves = [
        (each < half).double()
        for each, half in ((firing.rows, n // 2), (firing.features, features // 2))
    ]
    for half in halves:
        assert abs(half.mean().item() - 0.5) <= 2.5 / math.sqrt(half.numel())
    assert law.sparse_cost == pytest.approx(2, rel=1e-4)


def test_cost_is_what_is_looked_at():
    assert FINITE["table"].sparse_cost == 3
    assert Independent(rates=(0.1, 0.2)).sparse_cost == pytest.approx(-math.log(0.9 * 0.8))
    hierarchy = Hierarchy(parents=(None, 0, 0, 1), rates=(0.1, 0.5, 0.5, 0.2))
    assert hierarchy.sparse_cost == pytest.approx(-math.log(0.9) + 0.2 + 0.05)
    switches = ChildSwitchesParent(parents=(None, 0), rates=(0.1, 0.2))
    assert switches.sparse_cost == pytest.approx(-math.log(0.9 * 0.8) + 0.2)
    beside = SideBySide(parts=(hierarchy, FINITE["table"]))
    assert beside.sparse_cost == hierarchy.sparse_cost + 3
    for law in COUPLED.values():
        if law.marginals is not None:
            assert law.sparse_cost >= law.marginals.sum().item()
    # an own part of all variance: nothing is shared, so a few points are thrown
    apart = GaussianCopula(rates=(0.01, 0.0), correlation=Correlation.low_rank(torch.zeros(2, 1)))
    assert apart.sparse_cost == pytest.approx(0.02)


# --- magnitudes -------------------------------------------------------------------------------


@pytest.mark.parametrize("law", MAGNITUDES.values(), ids=MAGNITUDES)
def test_magnitudes_of_firings_have_the_law_of_the_matrix(law):
    features = torch.arange(3).repeat(N)
    drawn = law.sample_sparse(features, 3, seeded(0)).view(N, 3)
    dense = law.sample(torch.ones(N, 3, dtype=torch.bool), seeded(1))
    for feature in range(3):
        mine, theirs = drawn[:, feature].sort().values, dense[:, feature].sort().values
        if torch.equal(theirs, theirs[:1].expand(N)):
            assert torch.equal(mine, theirs)
            continue
        # Kolmogorov and Smirnov's test; one in 10^6 fails by luck
        places = torch.searchsorted(theirs, mine, right=True)
        gap = (places - torch.arange(1, N + 1)).abs().max().item() / N
        assert gap <= math.sqrt(-math.log(1e-6 / 2) / N)
    off = torch.corrcoef(drawn.T)[[0, 0, 1], [1, 2, 2]].nan_to_num(0.0)
    assert (off.abs() <= 5 / math.sqrt(N)).all()


@pytest.mark.parametrize("law", MAGNITUDES.values(), ids=MAGNITUDES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_magnitudes_come_in_the_dtype(law, dtype):
    drawn = law.sample_sparse(torch.tensor([2, 0]), 3, seeded(0), dtype)
    assert drawn.dtype == dtype
    assert law.sample_sparse(torch.tensor([], dtype=torch.int64), 3, seeded(0), dtype).shape == (0,)


# --- worlds -----------------------------------------------------------------------------------


def test_only_large_and_silent_worlds_are_sparse():
    quiet = rates.constant(1024, 0.1)
    assert Independent(rates=quiet).sparse
    assert not Independent(rates=quiet[1:]).sparse
    assert not Independent(rates=rates.constant(1024, 0.2)).sparse
    links = [Link(feature=1, on=0, fires=0.1, silent=0.0)]
    assert not Conditional(rates=(0.1, None, *quiet), links=links).sparse
    assert all(world.sparse for world in LARGE.values())
    bench = Correlation.low_rank(
        0.1 * torch.randn(16_384, 25, generator=seeded(0)).clamp(-1.9, 1.9)
    )
    assert synth_bench_firing(16_384, correlation=bench).sparse


def test_small_worlds_draw_a_number_for_every_feature():
    """As they always did: what was measured on them can be measured again."""
    world = World(
        directions=directions.orthonormal(3, 5, seeded(0)),
        firing=Independent(rates=(0.2, 0.3, 0.4)),
        magnitudes=Normal(mean=1.0, sd=0.5),
    )
    assert not world.sparse
    generator = seeded(4)
    firing = torch.rand(50, 3, generator=generator) < torch.tensor([0.2, 0.3, 0.4])
    magnitudes = firing * torch.randn(50, 3, generator=generator).mul_(0.5).add_(1.0)
    sample = world.sample(50, seeded(4))
    assert torch.equal(sample.firing, firing)
    assert torch.equal(sample.magnitudes, magnitudes)
    assert torch.equal(sample.x, magnitudes @ world.directions)
    assert torch.equal(next(world.stream(50, seeds=4)), sample.x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [None, torch.arange(6.0)])
def test_an_activation_is_the_sum_of_what_fires(dtype, bias):
    world = large(bias=bias).to(dtype=dtype)
    sparse = world.sample_sparse(100, seeded(2))
    sample = sparse.dense()
    assert sample.x.dtype == sample.magnitudes.dtype == dtype
    assert torch.equal(sample.magnitudes != 0, sample.firing)
    assert torch.equal(sample.magnitudes[sample.firing], sparse.magnitudes)
    expected = sample.magnitudes.double() @ world.directions.double()
    if bias is not None:
        expected += bias
    exact = 0.1 if dtype == torch.bfloat16 else 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(sample.x.double(), expected, atol=exact, rtol=exact / 10)


@pytest.mark.parametrize("world", LARGE.values(), ids=LARGE)
def test_large_worlds_are_drawn_as_densely(world):
    """Marginals, spread of L0, magnitudes, and mean and covariance of activations."""
    n = 4_000
    sample = world.sample(n, seeded(1))
    firing = world.firing.sample(n, seeded(2))
    magnitudes = world.magnitudes.sample(firing, seeded(3))
    x = magnitudes @ world.directions + world.bias
    if world.firing.marginals is not None:
        assert_probabilities(sample.firing.double().mean(dim=0), world.firing.marginals, n)
    for mine, theirs in (
        (sample.firing.double(), firing.double()),
        (sample.firing.sum(dim=1, keepdim=True).double(), firing.sum(dim=1, keepdim=True).double()),
        (sample.firing.sum(dim=1, keepdim=True).double() ** 2, firing.sum(1, True).double() ** 2),
        (sample.magnitudes.double() ** 2, magnitudes.double() ** 2),
        (sample.x.double(), x.double()),
        (outer(sample.x), outer(x)),
        (outer(sample.firing[:, :20]), outer(firing[:, :20])),
    ):
        difference = mine.mean(dim=0) - theirs.mean(dim=0)
        variance = (mine.var(dim=0) + theirs.var(dim=0)) / n
        z = difference.square() / variance.clamp(min=1e-300)
        z = z[variance > 30 / n**2]  # with fewer firings the means are not nearly normal
        assert z.numel() > 0
        assert z.max().item() <= chi2.isf(1e-7 / z.numel(), 1)


def outer(rows: torch.Tensor) -> torch.Tensor:
    rows = rows.double()
    return (rows[:, :, None] * rows[:, None, :]).flatten(1)


@pytest.mark.parametrize("world", LARGE.values(), ids=LARGE)
def test_streams_of_large_worlds(world):
    alone = world.stream(9, seeds=5)
    expected = [next(alone) for _ in range(4)]
    generator = seeded(5)
    for batch in expected:
        assert torch.equal(world.sample(9, generator).x, batch)
    together = world.stream(9, seeds=(3, 5))
    first = [next(together) for _ in range(2)]
    assert all(torch.equal(a[1], b) for a, b in zip(first, expected, strict=False))
    assert not torch.equal(first[0][0], first[0][1])
    state = together.state_dict()
    resumed = world.stream(9, seeds=(3, 5))
    resumed.load_state_dict(state)
    assert torch.equal(next(resumed)[1], expected[2])
    assert torch.equal(next(resumed), (next(together), next(together))[1])


def test_streams_in_other_precision_and_on_a_device():
    batch = next(LARGE["independent"].stream(7, device="cpu", dtype=torch.float64))
    assert batch.dtype == torch.float64
    assert batch.shape == (7, 6)


def test_saved_large_worlds_draw_the_same(tmp_path):
    world = LARGE["coupled hierarchy"]
    world.save(tmp_path / "world")
    again = World.load(tmp_path / "world").sample(20, seeded(1))
    sample = world.sample(20, seeded(1))
    assert torch.equal(again.x, sample.x)
    assert torch.equal(again.firing, sample.firing)


def test_sparse_samples_of_small_worlds():
    world = World(
        directions=torch.eye(3), firing=FINITE["table"], magnitudes=Linear(first=3.0, last=1.0)
    )
    sample = world.sample_sparse(N, seeded(0))
    assert_drawn_from(sample.firing.dense(), world.firing.patterns())
    assert torch.equal(sample.dense().magnitudes, sample.x)
    assert world.sample_sparse(0, seeded(0)).x.shape == (0, 3)


def test_refuses():
    world = LARGE["independent"]
    with pytest.raises(ConfigError, match="`n` is -1"):
        world.sample(-1, seeded(0))
    with pytest.raises(ConfigError, match="`n` is -1"):
        world.sample_sparse(-1, seeded(0))


# --- statistics -------------------------------------------------------------------------------


@pytest.mark.parametrize("world", LARGE.values(), ids=LARGE)
def test_statistics_are_those_of_the_listed_firing(world):
    n = 300
    found = world.statistics(n, seeded(1), pairwise=False)
    fires = world.firing.sample_sparse(n, seeded(1)).dense().double()
    torch.testing.assert_close(found.rates, fires.mean(dim=0))
    assert found.l0 == pytest.approx(fires.sum(dim=1).mean().item())
    assert found.l0_error == pytest.approx(fires.sum(dim=1).std(correction=0).item() / math.sqrt(n))
    parent, child = found.parents.parent, found.parents.child
    both = (fires[:, parent] * fires[:, child]).mean(dim=0)
    torch.testing.assert_close(
        found.parents.child_given_parent, both / fires.mean(dim=0)[parent], equal_nan=True
    )
    assert (found.parents.parent_given_child.nan_to_num(1.0) == 1).all()
    if world.firing.marginals is None:
        assert world.true_l0(n, seeded(1)) == found.l0


def test_statistics_without_any_firing():
    silent = Independent(rates=rates.constant(1024, 0.0))
    world = large(silent, directions=torch.eye(1024, 6), bias=None)
    assert world.statistics(10, seeded(0), pairwise=False).l0 == 0
    assert not world.sample(4, seeded(0)).x.any()
