import math

import pytest
import torch

from latent_assay.errors import WorldError
from latent_assay.worlds import Constant, Exponential, FoldedNormal, Linear, Normal, Uniform

from .sampling import assert_mean, assert_sd, seeded

N = 50_000
EVERYTHING = torch.ones(N, 3, dtype=torch.bool)


def phi(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def cdf(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


def folded(mean: float, sd: float) -> tuple[float, float]:
    """Mean and standard deviation of |N(mean, sd²)|."""
    ratio = mean / sd
    centre = 2 * sd * phi(ratio) + mean * (2 * cdf(ratio) - 1)
    return centre, math.sqrt(mean**2 + sd**2 - centre**2)


@pytest.mark.parametrize(
    ("law", "moments"),
    [
        (Normal(mean=1.0, sd=0.15), [(1.0, 0.15)] * 3),
        (
            Normal(mean=(1.0, -2.0, 0.0), sd=(0.1, 0.5, 2.0)),
            [(1.0, 0.1), (-2.0, 0.5), (0.0, 2.0)],
        ),
        (FoldedNormal(mean=0.0, sd=2.0), [(2 * math.sqrt(2 / math.pi), folded(0, 2)[1])] * 3),
        (
            FoldedNormal(mean=(1.0, 0.5, -3.0), sd=(1.0, 0.5, 0.1)),
            [folded(1, 1), folded(0.5, 0.5), (3.0, 0.1)],
        ),
        (Uniform(low=0.0, high=1.0), [(0.5, math.sqrt(1 / 12))] * 3),
        (
            Uniform(low=(0.0, 1.0, -2.0), high=2.0),
            [(1.0, 2 / math.sqrt(12)), (1.5, 1 / math.sqrt(12)), (0.0, 4 / math.sqrt(12))],
        ),
        (Exponential(mean=1.0), [(1.0, 1.0)] * 3),
        (Exponential(mean=(0.1, 1.0, 5.0)), [(0.1, 0.1), (1.0, 1.0), (5.0, 5.0)]),
    ],
    ids=lambda each: type(each).__name__ if hasattr(each, "summary") else "",
)
def test_moments(law, moments):
    drawn = law.sample(EVERYTHING, seeded(0))
    assert drawn.shape == EVERYTHING.shape
    for feature, (mean, sd) in enumerate(moments):
        assert_mean(drawn[:, feature], mean)
        assert_sd(drawn[:, feature], sd)
    assert not law.finite


@pytest.mark.parametrize(
    ("law", "lowest", "highest"),
    [
        (FoldedNormal(mean=0.0, sd=1.0), 0.0, math.inf),
        (Uniform(low=0.25, high=0.5), 0.25, 0.5),
        (Exponential(), 0.0, math.inf),
    ],
)
def test_support(law, lowest, highest):
    drawn = law.sample(EVERYTHING, seeded(0))
    assert lowest <= drawn.min()
    assert drawn.max() <= highest


def test_normal_magnitudes_are_signed():
    assert (Normal(mean=0.0, sd=1.0).sample(EVERYTHING, seeded(0)) < 0).any()


def test_exponential_has_no_memory():
    drawn = Exponential(mean=2.0).sample(EVERYTHING, seeded(0))
    longer = drawn[drawn > 1.0]
    share = (longer > 3.0).double().mean().item()
    assert abs(share - math.exp(-1)) <= 5 * math.sqrt(math.exp(-1) / longer.numel())


@pytest.mark.parametrize(
    "law",
    [
        Constant(value=2.0),
        Linear(first=2.0, last=1.0),
        Normal(mean=1.0, sd=0.1),
        FoldedNormal(sd=0.1),
        Uniform(low=1.0, high=2.0),
        Exponential(),
    ],
    ids=lambda law: type(law).__name__,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_only_what_fires_has_a_magnitude(law, dtype):
    firing = torch.rand(500, 4, generator=seeded(1)) < 0.5
    drawn = law.sample(firing, seeded(0), dtype)
    assert drawn.dtype == dtype
    assert torch.equal(drawn != 0, firing)


def test_features_are_drawn_independently():
    drawn = Normal(mean=0.0, sd=1.0).sample(EVERYTHING, seeded(0)).double()
    off = torch.corrcoef(drawn.T)[0, 1:]
    assert (off.abs() <= 5 / math.sqrt(N)).all()


@pytest.mark.parametrize(
    ("law", "values"),
    [
        (Constant(), [1.0, 1.0, 1.0]),
        (Constant(value=(1.0, 2.0, -3.0)), [1.0, 2.0, -3.0]),
        (Linear(first=3.0, last=1.0), [3.0, 2.0, 1.0]),
        (Normal(mean=(1.0, 2.0, 3.0), sd=0.0), [1.0, 2.0, 3.0]),
        (FoldedNormal(mean=-2.0, sd=(0.0, 0.0, 0.0)), [2.0, 2.0, 2.0]),
    ],
)
def test_laws_that_do_not_vary_are_finite(law, values):
    assert law.finite
    assert law.why_not_finite is None
    assert law.constants(3).tolist() == values
    generator = seeded(0)
    before = generator.get_state()
    assert law.sample(EVERYTHING[:2], generator).tolist() == [values, values]
    assert torch.equal(generator.get_state(), before)  # nothing was drawn


def test_linear_has_the_published_form():
    law = Linear(first=20.0, last=1.0)
    assert law.constants(20).tolist() == pytest.approx([20 - i for i in range(20)])
    assert law.constants(1).tolist() == [20.0]


def test_only_one_feature_varies():
    drawn = Normal(mean=1.0, sd=(0.1, 0.0, 0.0)).sample(EVERYTHING, seeded(0))
    assert drawn[:, 0].std() > 0.09
    assert (drawn[:, 1:] == 1).all()


def test_laws_that_vary_have_no_constants():
    for law in (Normal(sd=0.15), FoldedNormal(sd=0.1), Uniform(), Exponential()):
        with pytest.raises(WorldError, match=f"no one magnitude.*{law.summary.split()[0]}"):
            law.constants(2)


def test_number_of_features():
    assert Normal(mean=1.0, sd=(0.1, 0.2)).n_features == 2
    assert Normal(mean=1.0, sd=0.1).n_features is None
    assert Linear(first=1.0, last=2.0).n_features is None


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(value=0.0), "`value` is 0, so the feature would never fire.*rate 0"),
        (lambda: Constant(value=(1.0, 0.0)), r"`value\[1\]` is 0"),
        (lambda: Constant(value=math.inf), "`value` is inf"),
        (lambda: Constant(value=()), "`value` is empty"),
        (lambda: Linear(first=1.0, last=-1.0), "pass through 0"),
        (lambda: Linear(first=0.0, last=1.0), "`first` is 0"),
        (lambda: Normal(mean=1.0, sd=-0.1), "`sd` is -0.1.*standard deviation is not negative"),
        (lambda: Normal(mean=0.0, sd=0.0), "`mean` and `sd` are both 0"),
        (lambda: Normal(mean=(1.0, 2.0), sd=(1.0, 2.0, 3.0)), "`mean` has 2 numbers and `sd` 3"),
        (lambda: FoldedNormal(mean=(1.0, 0.0), sd=0.0), "are both 0"),
        (lambda: Uniform(low=1.0, high=1.0), "`low` is 1 and `high` is 1.*Constant"),
        (lambda: Uniform(low=(0.0, 3.0), high=2.0), "`low` is 3 and `high` is 2"),
        (lambda: Exponential(mean=0.0), "`mean` is 0.*positive mean"),
        (lambda: Exponential(mean=math.nan), "`mean` is nan"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(WorldError, match=message):
        make()


@pytest.mark.usefixtures("unchecked")
def test_parameters_from_a_tensor():
    assert Constant(value=torch.tensor([1.0, 2.0])).value == (1.0, 2.0)
