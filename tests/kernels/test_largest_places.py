"""The k largest of wide rows, found by groups, are those that `torch.topk` finds."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.kernels import largest_places
from latent_assay.kernels.selection import _WIDE


def check(pre: torch.Tensor, k: int) -> None:
    index = largest_places(pre, k)
    assert index.shape == (*pre.shape[:-1], k)
    assert all(len(set(row)) == k for row in index.reshape(-1, k).tolist())
    found = pre.gather(-1, index).sort(-1, descending=True).values
    assert torch.equal(found, pre.topk(k, dim=-1).values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("width", [_WIDE - 1, _WIDE, _WIDE + 5, 3001])
@pytest.mark.parametrize("k", [1, 7, 16, 300])
def test_random_rows(width, k, dtype):
    generator = torch.Generator().manual_seed(width + k)
    check(torch.randn(2, 5, width, generator=generator).to(dtype), k)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**20), levels=st.integers(1, 4), k=st.integers(1, 16),
    batch=st.integers(0, 4),
)  # fmt: skip
def test_many_equal_entries(seed, levels, k, batch):
    generator = torch.Generator().manual_seed(seed)
    check(torch.randint(0, levels, (1, batch, _WIDE + 3), generator=generator).float(), k)


def test_rows_that_are_not_finite():
    pre = torch.randn(1, 4, _WIDE, generator=torch.Generator().manual_seed(0))
    pre[0, 0] = -torch.inf
    pre[0, 1, 1:] = -torch.inf
    pre[0, 2, 5] = torch.inf
    check(pre, 3)
    pre[0, 3, 7] = torch.nan
    index = largest_places(pre, 3)
    expected = pre.topk(3, dim=-1, sorted=False).indices
    assert torch.equal(index[0, 3].sort().values, expected[0, 3].sort().values)


def test_rows_that_are_not_contiguous():
    generator = torch.Generator().manual_seed(0)
    check(torch.randn(1, _WIDE, 6, generator=generator).mT, 5)
    check(torch.randn(3, 2, 2 * _WIDE, generator=generator)[..., ::2], 5)
