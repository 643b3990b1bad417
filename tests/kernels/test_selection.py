"""Lists of what fires, and the batch threshold against sorting."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from latent_assay.kernels import (
    Selection,
    batch_threshold,
    select_largest,
    select_topk,
    select_where,
)


def dense(selection: Selection, pre: Tensor) -> Tensor:
    """The selected entries of a tensor, zero elsewhere, entry by entry."""
    out = torch.zeros_like(pre)
    for entry in range(selection.column.numel()):
        member, latent = divmod(int(selection.column[entry]), selection.width)
        row = next(
            r
            for r in range(selection.members * selection.batch)
            if selection.row_start[r] <= entry < selection.row_start[r + 1]
        )
        assert row // selection.batch == member
        assert int(selection.row[entry]) == row
        assert int(selection.latent[entry]) == latent
        out[member, row % selection.batch, latent] = pre[member, row % selection.batch, latent]
    return out


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_topk_selects_the_largest(members, batch, k):
    pre = draw(members, batch, 5)
    selection = select_topk(pre, k)
    kept = dense(selection, pre)
    kth = pre.sort(dim=-1, descending=True).values[..., k - 1 : k]
    assert torch.equal(kept, torch.where(pre >= kth, pre, 0.0))
    assert selection.row_start.tolist() == [k * row for row in range(members * batch + 1)]
    place = kept[kept != 0].sort().values
    assert torch.equal(selection.gather(pre).sort().values, place)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_above_selects_the_mask(members, batch, share):
    pre = draw(members, batch, 5)
    mask = torch.rand(pre.shape, generator=torch.Generator().manual_seed(1)) < share
    selection = select_where(mask)
    assert torch.equal(dense(selection, pre), torch.where(mask, pre, 0.0))
    assert torch.equal(selection.gather(pre), pre[mask])


def test_a_mask_that_is_not_contiguous():
    pre = draw(3, 4, 5)
    mask = (draw(4, 3, 5) > 0).transpose(0, 1)
    assert torch.equal(dense(select_where(mask), pre), torch.where(mask, pre, 0.0))


# ---------------------------------------------------------------- batch threshold


def threshold_by_sorting(pre: Tensor, k: float) -> float:
    """The largest t at which at least k entries per sample are t or more."""
    batch = pre.shape[0]
    ranked = pre.clamp_min(0).flatten().sort(descending=True).values.tolist()
    for place, value in enumerate(ranked):
        if (place + 1) >= k * batch * (1 - 1e-9):
            return value
    return ranked[-1]


values = st.floats(-3, 3, width=32).map(lambda v: round(v, 1) + 0.0)


@given(
    arrays.arrays(np.float64, st.tuples(*[st.integers(1, 4)] * 3), elements=values),
    st.floats(0.05, 4),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
@settings(max_examples=120, deadline=None)
def test_threshold_against_sorting(array, k, dtype):
    pre = torch.from_numpy(array).to(dtype)
    k = min(k, pre.shape[-1])
    found = batch_threshold(pre, torch.full((len(pre),), k, dtype=torch.float64))
    assert found.dtype == dtype
    assert found.tolist() == [threshold_by_sorting(each, k) for each in pre]
    equal = torch.full((pre.shape[1],), 1 / pre.shape[1], dtype=torch.float64)
    weighted = batch_threshold(pre, torch.full((len(pre),), k, dtype=torch.float64), equal)
    assert weighted.tolist() == found.tolist()


def test_threshold_of_a_large_batch():
    pre = draw(2, 256, 512, dtype=torch.float32)
    k = torch.tensor([1.0, 32.3], dtype=torch.float64)
    found = batch_threshold(pre, k)
    assert found.tolist() == [
        threshold_by_sorting(p, each) for p, each in zip(pre, k.tolist(), strict=True)
    ]
    assert ((pre >= found.view(2, 1, 1)).sum((1, 2)).tolist()) == [256, math.ceil(32.3 * 256)]


def adversarial() -> dict[str, Tensor]:
    """Large batches of which a sample of every 61st value says little or what is wrong."""
    size = 2**17
    lone = torch.zeros(size)
    lone[::61] = 1.0  # all that the sample sees is large
    lone[1] = 0.5
    hidden = torch.ones(size)
    hidden[::61] = 0.0  # all that it sees is small
    return {
        "lone": lone,
        "hidden": hidden,
        "all equal": torch.ones(size),
        "all negative": -torch.ones(size),
        "rising": torch.arange(float(size)) - 1000,
        "heavy tail": draw(size, dtype=torch.float32).exp().square() - 1,
    }


@pytest.mark.parametrize("name", sorted(adversarial()))
@pytest.mark.parametrize("count", [1, 7, 2000, 2149, 2150, 16_000, 2**17])
def test_threshold_of_a_large_batch_that_misleads(name, count):
    values = adversarial()[name]
    expected = max(values.sort(descending=True).values[count - 1].item(), 0.0)
    pre = values.view(1, 128, 1024)
    found = batch_threshold(pre, torch.tensor([count / 128], dtype=torch.float64))
    assert found.item() == expected


def test_a_large_batch_with_nan_does_not_fail():
    values = draw(2**17, dtype=torch.float32)
    values[::5] = math.nan
    found = batch_threshold(values.view(1, 128, 1024), torch.tensor([1.0]))
    assert found.shape == (1,)


def test_threshold_leaves_its_input_alone():
    pre = draw(1, 8, 9)
    before = pre.clone()
    batch_threshold(pre.requires_grad_(), torch.tensor([2.0]))
    assert torch.equal(pre, before)


def test_weights_move_the_threshold():
    """Pattern 0 makes up nine tenths of the world."""
    pre = torch.tensor([[[4.0, 1.0], [3.0, 2.0]]])
    weight = torch.tensor([0.9, 0.1])

    def tau(k: float) -> float:
        return batch_threshold(pre, torch.tensor([k]), weight).item()

    assert tau(0.5) == 4.0
    assert tau(0.9) == 4.0
    assert tau(0.95) == 3.0
    assert tau(1.05) == 2.0
    assert tau(1.5) == 1.0
    assert tau(2.0) == 1.0


def test_samples_of_weight_zero_are_not_there():
    pre = torch.tensor([[[9.0, 9.0], [3.0, 2.0]]])
    found = batch_threshold(pre, torch.tensor([1.0]), torch.tensor([0.0, 1.0]))
    assert found.item() == 3.0


@pytest.mark.parametrize("count", [3, 7, 10, 49])
def test_rounded_weights_do_not_make_one_more_fire(count):
    """In float32 the sum of count times 1/count may fall short of 1."""
    pre = torch.arange(2.0 * count, 0, -1).view(1, count, 2)
    weight = torch.full((count,), 1 / count)
    found = batch_threshold(pre, torch.tensor([1.0], dtype=torch.float64), weight)
    assert found.item() == count + 1


@pytest.mark.parametrize("levels", [None, 3], ids=["distinct", "ties"])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("shape", [(5, 7), (300, 1000)], ids=["small", "large"])
def test_the_largest_of_a_batch_are_those_that_reach_its_threshold(shape, members, levels):
    generator = torch.Generator().manual_seed(len(shape) + members)
    if levels is None:
        pre = torch.randn(members, *shape, generator=generator)
    else:
        pre = torch.randint(-levels, levels, (members, *shape), generator=generator).float()
    k = torch.tensor([1.5, 0.1, 4.0][:members], dtype=torch.float64)
    threshold, selection = select_largest(pre, k)
    assert torch.equal(threshold, batch_threshold(pre, k))
    fires = (pre >= threshold.view(-1, 1, 1)) & (pre > 0)
    assert torch.equal(selection.gather(pre), pre[fires])
    plain = select_where(fires)
    for name in ("row_start", "column", "row", "latent", "place"):
        assert torch.equal(getattr(selection, name), getattr(plain, name)), name
