"""Every prefix that matters is spread evenly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latent_assay.distributed import Partition
from latent_assay.errors import ConfigError


@given(
    st.integers(1, 60).flatmap(
        lambda width: st.tuples(
            st.just(width), st.integers(1, width), st.lists(st.integers(1, width), max_size=5)
        )
    )
)
def test_every_latent_once_and_every_prefix_evenly(case):
    width, number, bounds = case
    cut = Partition(width, number=number, bounds=bounds)
    rows = [cut.rows(rank) for rank in range(number)]
    assert torch.equal(torch.cat(rows).sort().values, torch.arange(width))
    for own in rows:
        assert bool((own.diff() > 0).all())
    for bound in {*bounds, width}:
        held = [cut.below(rank, bound) for rank in range(number)]
        assert sum(held) == bound
        assert max(held) - min(held) <= 1
    assert cut.widest == max(map(len, rows))


def test_more_ranks_than_latents_are_refused():
    with pytest.raises(ConfigError, match="3 latents cannot be divided over 4 ranks"):
        Partition(3, number=4)
