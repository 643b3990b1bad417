"""What every streaming metric must obey, whatever it measures."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latent_assay.errors import DataError, ShapeError
from latent_assay.metrics import (
    Classification,
    Correlation,
    LatentHistogram,
    Reconstruction,
    Sparsity,
)

MEMBERS, SAMPLES, LATENTS, FEATURES, D_IN = 2, 12, 4, 3, 5


@dataclass(frozen=True)
class Case:
    new: Callable[[], object]
    shared: tuple[str, ...]
    """Data shared by members."""
    own: tuple[str, ...]
    """Data with a member axis."""
    order: tuple[str, ...]

    def arguments(self, data, pick) -> list[Tensor]:
        return [data[name][..., pick, :] for name in self.order]


def histogram(scale):
    return lambda: LatentHistogram(torch.full((MEMBERS, LATENTS), 2.0), bins=5, scale=scale)


CASES = {
    "reconstruction": Case(Reconstruction, ("x",), ("x_hat",), ("x", "x_hat")),
    "reconstruction, own x": Case(Reconstruction, (), ("x_own", "x_hat"), ("x_own", "x_hat")),
    "sparsity": Case(Sparsity, (), ("z",), ("z",)),
    "linear histogram": Case(histogram("linear"), (), ("z",), ("z",)),
    "log histogram": Case(histogram("log"), (), ("z",), ("z",)),
    "classification": Case(Classification, ("fires",), ("z",), ("z", "fires")),
    "classification, own truth": Case(Classification, (), ("z", "fires_own"), ("z", "fires_own")),
    "correlation": Case(Correlation, ("magnitudes",), ("z",), ("z", "magnitudes")),
}


def make_data(seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(SAMPLES, D_IN, generator=g) + 3
    z = torch.randn(MEMBERS, SAMPLES, LATENTS, generator=g).relu()
    z[:, :, 0] = 0
    fires = torch.rand(SAMPLES, FEATURES, generator=g) < 0.4
    return {
        "x": x,
        "x_own": x + torch.randn(MEMBERS, SAMPLES, D_IN, generator=g),
        "x_hat": x + 0.3 * torch.randn(MEMBERS, SAMPLES, D_IN, generator=g),
        "z": z,
        "fires": fires,
        "fires_own": torch.rand(MEMBERS, SAMPLES, FEATURES, generator=g) < 0.4,
        "magnitudes": fires * torch.rand(SAMPLES, FEATURES, generator=g),
    }


def measure(case, data, picks, weight=None):
    seen = case.new()
    for pick in picks:
        seen.update(*case.arguments(data, pick), None if weight is None else weight[pick])
    return seen.result()


def assert_same(first, second, *, skip=(), rtol=1e-10, atol=1e-12):
    for field in fields(first):
        if field.name in skip:
            continue
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, Tensor):
            torch.testing.assert_close(a, b, rtol=rtol, atol=atol, equal_nan=True, msg=field.name)
        elif isinstance(a, float):
            assert a == pytest.approx(b, rel=rtol), field.name
        else:
            assert a == b, field.name


ALL = [slice(None)]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@every_case
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, SAMPLES), max_size=5),
    weighted=st.booleans(),
    shuffled=st.booleans(),
)
def test_results_do_not_depend_on_batches_or_their_order(case, seed, cuts, weighted, shuffled):
    data = make_data(seed)
    g = torch.Generator().manual_seed(seed)
    weight = torch.rand(SAMPLES, generator=g) * (torch.rand(SAMPLES, generator=g) < 0.8)
    weight[0] = 1.0
    weight = weight if weighted else None
    order = torch.randperm(SAMPLES, generator=g) if shuffled else torch.arange(SAMPLES)
    edges = [0, *sorted(cuts), SAMPLES]  # equal neighbours make empty batches
    batches = [order[start:stop] for start, stop in itertools.pairwise(edges)]
    assert_same(measure(case, data, batches, weight), measure(case, data, ALL, weight))


@every_case
def test_merging_equals_seeing_everything_and_leaves_the_other_unchanged(case):
    data = make_data(1)
    first, second = case.new(), case.new()
    first.update(*case.arguments(data, slice(0, 5)))
    second.update(*case.arguments(data, slice(5, None)))
    before = second.result()
    first.merge(second)
    first.merge(case.new())  # an empty one adds nothing
    assert_same(first.result(), measure(case, data, ALL))
    assert_same(second.result(), before, rtol=0, atol=0)
    empty = case.new()
    empty.merge(second)
    empty.update(*case.arguments(data, slice(0, 5)))
    assert_same(empty.result(), measure(case, data, ALL))
    assert_same(second.result(), before, rtol=0, atol=0)


@every_case
def test_whole_weights_equal_repeated_samples(case):
    data = make_data(2)
    counts = torch.tensor([3, 0, 1, 2, 1, 1, 0, 5, 1, 1, 2, 4])
    repeated = torch.repeat_interleave(torch.arange(SAMPLES), counts)
    weighted = measure(case, data, ALL, counts)
    assert_same(weighted, measure(case, data, [repeated]), skip=("n",))
    assert weighted.n == 10
    assert weighted.weight == 21.0


@every_case
def test_only_ratios_of_weights_matter_to_means(case):
    data = make_data(3)
    weight = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(3)).double() + 0.1
    absolute = ("weight", "counts", "below", "above")
    assert_same(
        measure(case, data, ALL, weight), measure(case, data, ALL, weight / 7), skip=absolute
    )


@every_case
def test_samples_of_weight_zero_are_not_seen_whatever_they_contain(case):
    data = make_data(4)
    weight = torch.ones(SAMPLES)
    weight[3] = 0
    poisoned = {name: tensor.clone() for name, tensor in data.items()}
    for tensor in poisoned.values():
        tensor[..., 3, :] = True if tensor.dtype == torch.bool else torch.nan
    kept = [torch.tensor([i for i in range(SAMPLES) if i != 3])]
    assert_same(measure(case, poisoned, ALL, weight), measure(case, data, kept))


@every_case
def test_a_member_in_company_scores_as_it_does_alone(case):
    data = make_data(5)
    together = measure(case, data, ALL)
    for member in range(MEMBERS):
        alone_data = dict(data)
        for name in case.own:
            alone_data[name] = data[name][member : member + 1]
        seen = case.new()
        if isinstance(seen, LatentHistogram):
            seen = LatentHistogram(torch.full((1, LATENTS), 2.0), bins=5, scale=seen._scale)
        seen.update(*case.arguments(alone_data, slice(None)))
        alone = seen.result()
        for field in fields(alone):
            value = getattr(alone, field.name)
            if isinstance(value, Tensor):
                joint = getattr(together, field.name)[member : member + 1]
                torch.testing.assert_close(value, joint, rtol=1e-12, atol=0, equal_nan=True)


@every_case
def test_nothing_seen_is_an_error(case):
    name = type(case.new()).__name__
    with pytest.raises(DataError, match=f"{name} has seen no samples"):
        case.new().result()
    seen = case.new()
    data = make_data(6)
    seen.update(*case.arguments(data, slice(0, 0)))
    with pytest.raises(DataError, match="at least one sample"):
        seen.result()
    seen.update(*case.arguments(data, slice(None)), torch.zeros(SAMPLES))
    with pytest.raises(DataError, match="positive weight"):
        seen.result()


@every_case
def test_results_are_float64_without_a_gradient(case):
    data = make_data(7)
    for tensor in data.values():
        if tensor.is_floating_point():
            tensor.requires_grad_()
    result = measure(case, data, ALL)
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, Tensor):
            assert not value.requires_grad, field.name
            assert value.dtype in (torch.float64, torch.bool, torch.int64), field.name


@every_case
def test_half_precision_is_read_without_losing_more(case):
    data = make_data(8)
    half = {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in data.items()
    }
    exact = {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in half.items()
    }
    assert_same(measure(case, half, ALL), measure(case, exact, ALL))


@every_case
def test_sizes_may_not_change(case):
    data = make_data(9)
    seen = case.new()
    seen.update(*case.arguments(data, slice(None)))
    narrower = [argument[..., :-1] for argument in case.arguments(data, slice(None))]
    expected = "the bins were made for" if isinstance(seen, LatentHistogram) else "began with"
    with pytest.raises(ShapeError, match=expected):
        seen.update(*narrower)


@every_case
@pytest.mark.usefixtures("as_a_user")
def test_a_missing_member_axis_is_explained(case):
    data = make_data(10)
    arguments = case.arguments(data, slice(None))
    arguments = [
        a[0] if name in case.own else a for a, name in zip(arguments, case.order, strict=True)
    ]
    with pytest.raises(ShapeError, match=r"A single SAE is one member: pass `\w+\[None\]`"):
        case.new().update(*arguments)


@every_case
@pytest.mark.usefixtures("as_a_user")
def test_bad_weights_are_explained(case):
    arguments = case.arguments(make_data(11), slice(None))
    with pytest.raises(ShapeError, match=r"`weight` has shape \[3\]; expected one weight per samp"):
        case.new().update(*arguments, torch.ones(3))
    for bad in (-1.0, torch.nan, torch.inf):
        weight = torch.ones(SAMPLES)
        weight[2] = bad
        with pytest.raises(DataError, match="`weight` must be finite and at least 0"):
            case.new().update(*arguments, weight)


@pytest.mark.parametrize("name", ["reconstruction", "classification", "correlation"])
@pytest.mark.parametrize("wrong", ["batch", "members", "axes"])
@pytest.mark.usefixtures("as_a_user")
def test_mismatched_samples_are_explained(name, wrong):
    case = CASES[name]
    arguments = dict(zip(case.order, case.arguments(make_data(12), slice(None)), strict=True))
    (shared,) = case.shared
    arguments[shared] = {
        "batch": arguments[shared][1:],
        "members": arguments[shared].expand(3, -1, -1),
        "axes": arguments[shared][0],
    }[wrong]
    with pytest.raises(ShapeError, match="same samples in the same order"):
        case.new().update(*arguments.values())
