"""Threshold and lists, against `batch_threshold` and a mask."""

import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.kernels import batch_threshold
from latent_assay.kernels.triton import select_above, threshold
from tests.kernels.triton.compare import draw

TYPES = [torch.float32, torch.bfloat16]


def same(pre, k):
    """The threshold, which must be the plain one's to the last bit."""
    counts = torch.as_tensor(k, dtype=torch.float64).expand(len(pre)).contiguous()
    found = threshold(pre, counts.to(pre.device))
    assert found.dtype == pre.dtype
    assert found.device == pre.device
    expected = batch_threshold(pre.cpu(), counts)
    assert torch.equal(found.cpu(), expected), (found, expected)
    return found


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("k", [0.01, 0.28, 1, 1.5, 3.999, 4, 6.99, 7])
@pytest.mark.parametrize("batch", [1, 25])  # 25 * 0.28 is rounded to a little more than 7
def test_threshold(device, dtype, k, batch):
    same(draw(3, batch, 7, seed=1, dtype=dtype, device=device), k)


@pytest.mark.parametrize("dtype", TYPES)
def test_each_member_has_its_own(device, dtype):
    pre = draw(4, 9, 11, seed=1, dtype=dtype, device=device)
    pre *= torch.tensor([1.0, 1e-30, 1e30, 1e-3], device=device, dtype=dtype).view(4, 1, 1)
    found = same(pre, [0.5, 3, 1.25, 11])
    assert found[3] == 0
    for member in range(4):
        alone = same(pre[member : member + 1], [0.5, 3, 1.25, 11][member])
        assert torch.equal(alone, found[member : member + 1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("k", [0.2, 1, 2, 2.5, 3])
def test_ties(device, dtype, k):
    values = [2.0, 2, 2, 1, 1, 0.5, 0.5, 0.5, 0, 0, -0.0, -1]
    same(torch.tensor(values, dtype=dtype, device=device).view(1, 4, 3), k)
    same(torch.ones(2, 4, 3, dtype=dtype, device=device), k)


@pytest.mark.parametrize("dtype", TYPES)
def test_too_few_positive(device, dtype):
    pre = -torch.ones(2, 3, 4, dtype=dtype, device=device)
    pre[0, 0, 0] = 5.0
    assert same(pre, 1).tolist() == [0, 0]
    assert same(pre, 1 / 3).tolist() == [5, 0]
    assert same(torch.zeros_like(pre), 1).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", TYPES)
def test_extremes_of_the_type(device, dtype):
    """Neighbours that differ in the last bit, subnormal numbers, the largest one and infinity."""
    tiny = torch.finfo(dtype).tiny
    one, next_one = 1.0, 1.0 + torch.finfo(dtype).eps
    values = [torch.inf, torch.finfo(dtype).max, next_one, one, tiny, tiny / 2, 0.0, -torch.inf]
    pre = torch.tensor(values, dtype=dtype, device=device).view(1, 1, 8)
    assert [same(pre, k).item() for k in range(1, 9)] == [*pre[0, 0, :6].tolist(), 0.0, 0.0]


def test_more_values_than_one_program_reads(device):
    """Several programs for each member, the last one with part of a block."""
    for dtype in TYPES:
        pre = draw(2, 97, 131, seed=1, dtype=dtype, device=device)
        for k in (0.01, 1, 13.7, 60):
            same(pre, k)


def test_strided_and_unharmed(device):
    pre = draw(9, 3, 11, seed=1, dtype=torch.float32, device=device).transpose(0, 1)
    before = pre.clone()
    same(pre, 2)
    assert torch.equal(pre, before)


def test_nan_does_not_count(device):
    pre = torch.tensor([[[torch.nan, 3.0, 2.0, 1.0]]], device=device)
    two = torch.tensor([2.0], dtype=torch.float64, device=device)
    assert threshold(pre, two).item() == 2.0
    assert threshold(-pre, two).item() == 0.0


def test_other_types_are_refused(device):
    with pytest.raises(ConfigError, match=r"float32 and bfloat16, got torch.float64; use"):
        threshold(torch.ones(1, 2, 3, dtype=torch.float64, device=device), torch.ones(1))


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("width", [1, 7, 16, 2049])
def test_select_above(device, dtype, strict, width):
    pre = draw(3, 4, width, seed=2, dtype=dtype, device=device)
    pre[1] = -1  # rows without entries
    limit = torch.tensor([0.5, 0.0, 0.0], dtype=dtype, device=device)
    pre[0, :, 0] = limit[0]  # ties
    pre[2, 0] = 0.0
    found = select_above(pre, limit, strict=strict)
    above = pre > limit.view(3, 1, 1) if strict else pre >= limit.view(3, 1, 1)
    mask = above & (pre > 0)
    member, sample, latent = mask.nonzero(as_tuple=True)
    assert found.column.tolist() == (member * width + latent).tolist()
    assert found.row.tolist() == (member * 4 + sample).tolist()
    assert found.row_start.tolist() == [0, *mask.sum(-1).flatten().cumsum(0).tolist()]
    assert (found.members, found.batch, found.width) == (3, 4, width)


def test_threshold_and_list_agree(device):
    pre = draw(2, 30, 20, seed=3, dtype=torch.float32, device=device)
    k = torch.tensor([1.0, 2.3], dtype=torch.float64, device=device)
    found = select_above(pre, threshold(pre, k))
    assert found.row_start[[30, 60]].tolist() == [30, 30 + 69]


def test_nothing_above(device):
    pre = draw(1, 3, 4, seed=3, dtype=torch.float32, device=device)
    found = select_above(pre, torch.tensor([100.0], device=device))
    assert found.column.shape == (0,)
    assert found.row_start.tolist() == [0, 0, 0, 0]
