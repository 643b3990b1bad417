import math

import pytest
import torch

from latent_assay.errors import ConfigError, ShapeError, WorldError
from latent_assay.worlds import (
    Constant,
    Correlation,
    Exponential,
    GaussianCopula,
    Hierarchy,
    Independent,
    Linear,
    Normal,
    Table,
    World,
    directions,
    presets,
)

from .sampling import assert_drawn_from, seeded


def small(**changes) -> World:
    parts = {
        "directions": directions.orthonormal(3, 5, seeded(0)),
        "firing": Hierarchy(parents=(None, 0, None), rates=(0.5, 0.4, 0.25)),
        "magnitudes": Linear(first=3.0, last=1.0),
        "bias": torch.arange(5.0),
    }
    return World(**{**parts, **changes})


@pytest.mark.parametrize("magnitudes", [Constant(), Linear(first=3.0, last=1.0), Exponential()])
@pytest.mark.parametrize("bias", [None, torch.arange(5.0)])
def test_an_activation_is_the_sum_of_what_fires(magnitudes, bias):
    world = small(magnitudes=magnitudes, bias=bias)
    sample = world.sample(200, seeded(1))
    assert torch.equal(sample.magnitudes != 0, sample.firing)
    expected = torch.zeros(200, 5)
    for feature in range(3):
        expected += sample.magnitudes[:, feature, None] * world.features[feature]
    if bias is not None:
        expected += bias
    torch.testing.assert_close(sample.x, expected, atol=1e-5, rtol=0)


def test_truth_can_be_read_back_from_activations():
    world = small()
    sample = world.sample(100, seeded(1))
    read = (sample.x - world.bias) @ world.features.T
    torch.testing.assert_close(read, sample.magnitudes, atol=1e-5, rtol=0)


def test_equal_generators_draw_equal_samples():
    world = small(magnitudes=Exponential())
    first, again = world.sample(50, seeded(3)), world.sample(50, seeded(3))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, world.sample(50, seeded(4)).x)


def test_generators_are_used_up():
    world, generator = small(), seeded(0)
    assert not torch.equal(world.sample(50, generator).x, world.sample(50, generator).x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype(dtype):
    world = small().to(dtype=dtype)
    sample = world.sample(10, seeded(0))
    assert world.dtype == sample.x.dtype == sample.magnitudes.dtype == world.bias.dtype == dtype
    # the firing does not depend on the precision
    assert torch.equal(sample.firing, small().sample(10, seeded(0)).firing)
    assert world.enumerate().x.dtype == dtype


def test_a_world_keeps_its_own_tensors():
    mine, bias = torch.eye(3), torch.zeros(3)
    world = small(directions=mine, bias=bias)
    mine[0, 0] = bias[0] = 9
    assert world.features[0, 0] == 1
    assert world.bias[0] == 0


# --- enumeration ------------------------------------------------------------------------------


def test_enumeration_agrees_with_samples():
    world = small()
    enumeration = world.enumerate(dtype=torch.float64)
    assert enumeration.probability.sum().item() == pytest.approx(1, abs=1e-12)
    assert_drawn_from(world.sample(40_000, seeded(0)).firing, world.firing.patterns())
    mean = enumeration.probability @ enumeration.x
    covariance = (enumeration.x.T * enumeration.probability) @ enumeration.x - torch.outer(
        mean, mean
    )
    x = world.sample(40_000, seeded(1)).x.double()
    error = covariance.diagonal().sqrt() / math.sqrt(40_000)
    assert ((x.mean(dim=0) - mean).abs() <= 5 * error).all()


def test_enumeration_is_exact():
    enumeration = small(bias=None).enumerate(dtype=torch.float64)
    by_pattern = {
        tuple(row): probability
        for row, probability in zip(
            enumeration.firing.long().tolist(), enumeration.probability.tolist(), strict=True
        )
    }
    assert by_pattern == pytest.approx(
        {
            (0, 0, 0): 0.5 * 0.75,
            (0, 0, 1): 0.5 * 0.25,
            (1, 0, 0): 0.5 * 0.6 * 0.75,
            (1, 0, 1): 0.5 * 0.6 * 0.25,
            (1, 1, 0): 0.5 * 0.4 * 0.75,
            (1, 1, 1): 0.5 * 0.4 * 0.25,
        }
    )
    assert torch.equal(enumeration.magnitudes, enumeration.firing * torch.tensor([3.0, 2, 1]))


def test_enumeration_rows_are_what_sampling_makes():
    """Every sample equals the enumerated activation of its pattern."""
    world = small()
    enumeration = world.enumerate()
    rows = {tuple(row): i for i, row in enumerate(enumeration.firing.tolist())}
    sample = world.sample(100, seeded(0))
    for x, firing in zip(sample.x, sample.firing.tolist(), strict=True):
        torch.testing.assert_close(x, enumeration.x[rows[tuple(firing)]])


def test_enumeration_moves():
    enumeration = small().enumerate()
    moved = enumeration.to(dtype=torch.float64, device="cpu")
    assert moved.x.dtype == moved.probability.dtype == moved.magnitudes.dtype == torch.float64
    assert torch.equal(moved.firing, enumeration.firing)


COPULA = GaussianCopula(rates=(0.1, 0.2, 0.3), correlation=Correlation.full(torch.eye(3)))


def test_what_cannot_be_enumerated_says_why():
    with pytest.raises(WorldError, match=r"magnitudes are normal with mean 1 and sd 0.15\. Sample"):
        small(magnitudes=Normal(mean=1.0, sd=0.15)).enumerate()
    with pytest.raises(WorldError, match="firing is a Gaussian copula"):
        small(firing=COPULA).enumerate()
    with pytest.raises(WorldError, match=r"magnitudes are exponential.*; firing is a Gaussian"):
        small(firing=COPULA, magnitudes=Exponential()).enumerate()
    with pytest.raises(WorldError, match="limit of 5"):
        small().enumerate(limit=5)


def test_finite():
    assert small().finite
    assert not small(magnitudes=Exponential()).finite
    assert small(magnitudes=Normal(mean=1.0, sd=0.0)).finite


# --- what a world says of itself --------------------------------------------------------------


def test_true_l0():
    assert small().true_l0() == pytest.approx(0.5 + 0.2 + 0.25)
    assert small(firing=COPULA).true_l0() == pytest.approx(0.6)
    coupled = Hierarchy(
        parents=(None, 0, None), rates=(0.5, 0.4, 0.25), correlation=Correlation.full(torch.eye(3))
    )
    world = small(firing=coupled)
    with pytest.raises(WorldError, match=r"not known exactly .*Pass `n` and `generator`"):
        world.true_l0()
    # uncoupled in truth, so the exact value is known to us
    assert world.true_l0(40_000, seeded(0)) == pytest.approx(0.95, abs=0.03)


def test_true_l0_of_a_law_without_marginals():
    class Anonymous(Table):
        marginals = None

    law = Anonymous(
        firing=torch.tensor([[False, False], [True, True]]),
        probability=torch.tensor([0.75, 0.25]).double(),
    )
    assert small(firing=law, directions=torch.eye(2, 5), magnitudes=Constant()).true_l0() == 0.5


def test_print_says_what_matters():
    text = str(
        small(directions=directions.given([[1, 0, 0, 0, 0], [0.6, 0.8, 0, 0, 0], [0, 0, 2, 0, 0]]))
    )
    assert "3 features in 5 dimensions (float32, cpu)" in text
    assert "lengths 1 to 2; largest interference 0.6 between features 0 and 1" in text
    assert "hierarchy of 1 child" in text
    assert "rates       0.2 to 0.5; true L0 0.95" in text
    assert "constant, 3 to 1" in text
    assert "bias        length 5.48" in text
    assert text.endswith("    0 (rate 0.5)\n    └─ 1 (rate 0.2)")
    assert "\n" not in repr(small())


def test_print_of_other_worlds():
    single = World(directions=torch.ones(1, 1), firing=Independent(rates=(0.5,)))
    assert "1 feature in 1 dimension " in str(single)
    assert "largest interference 0\n" in str(single)
    assert "not known exactly" in str(presets.synth_bench(seeded(0), n_features=32, d_in=32))
    big = World(directions=torch.ones(5000, 1), firing=Independent(rates=[0.1] * 5000))
    assert "interference not computed" in str(big)


def test_print_of_a_deep_and_a_wide_forest():
    chain = Hierarchy(parents=(None, *range(1999)), rates=[0.9] * 2000)
    lines = str(World(directions=torch.ones(2000, 1), firing=chain)).splitlines()
    assert lines[-1].strip() == "... and 1976 more"
    branches = Hierarchy(parents=(None, 0, 0, 1, 1), rates=[0.5] * 5)
    world = World(directions=torch.eye(5), firing=branches)
    tree = [line[4:].split(" (")[0] for line in str(world).splitlines()[-5:]]
    assert tree == ["0", "├─ 1", "│  ├─ 3", "│  └─ 4", "└─ 2"]


def test_parents():
    assert small().parents == (None, 0, None)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"directions": torch.eye(4)}, WorldError, "4 directions but the firing law is for 3"),
        ({"directions": torch.ones(3)}, ShapeError, r"directions have shape \(3,\)"),
        (
            {"magnitudes": Constant(value=(1.0, 2.0))},
            WorldError,
            "3 directions but magnitudes for 2",
        ),
        ({"bias": torch.ones(4)}, ShapeError, r"`bias` has shape \(4,\), .* d_in 5"),
        ({"bias": torch.full((5,), math.nan)}, WorldError, "`bias` holds NaN"),
        ({"directions": torch.full((3, 5), math.inf)}, WorldError, "directions hold NaN or inf"),
    ],
)
def test_refuses(changes, error, message):
    with pytest.raises(error, match=message):
        small(**changes)


def test_sampling_refuses():
    with pytest.raises(ConfigError, match="`n` is -1"):
        small().sample(-1, seeded(0))
    assert small().sample(0, seeded(0)).x.shape == (0, 5)


@pytest.mark.usefixtures("unchecked")
def test_a_generator_elsewhere_is_refused():
    class Elsewhere:
        device = torch.device("cuda", 1)

    with pytest.raises(ConfigError, match=r"generator lies on cuda:1 but the world on cpu\. Draw"):
        small().sample(1, Elsewhere())
