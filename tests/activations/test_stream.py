import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.activations import ActivationStore, ActivationStream
from latent_assay.errors import ConfigError


def numbered(n_rows, d_in=3):
    """Row i is filled with i."""
    return ActivationStore.from_tensor(torch.arange(n_rows).float()[:, None].repeat(1, d_in))


def ids(batches):
    return torch.cat(list(batches))[:, 0].int().tolist()


sizes = {
    "n_rows": st.integers(1, 1500),
    "batch_size": st.integers(1, 400),
    "shuffle_rows": st.integers(1, 2000),
    "seed": st.integers(0, 2**40),
}


@given(**sizes, epochs=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_every_epoch_is_a_permutation_of_all_rows(n_rows, batch_size, shuffle_rows, seed, epochs):
    store = numbered(n_rows)
    batches = list(store.stream(batch_size, seed, shuffle_rows=shuffle_rows, epochs=epochs))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    rows = ids(batches)
    assert len(rows) == epochs * n_rows
    for epoch in range(epochs):
        assert sorted(rows[epoch * n_rows : (epoch + 1) * n_rows]) == list(range(n_rows))


@given(**sizes, taken=st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_resumed_stream_goes_on_bit_for_bit(n_rows, batch_size, shuffle_rows, seed, taken):
    store = numbered(n_rows)
    one = store.stream(batch_size, seed, shuffle_rows=shuffle_rows)
    for _ in range(taken):
        next(one)
    state = json.loads(json.dumps(one.state_dict()))
    other = store.stream(batch_size, seed, shuffle_rows=shuffle_rows)
    other.load_state_dict(state)
    for _ in range(3):
        assert torch.equal(next(one), next(other))
    assert one.state_dict() == other.state_dict()


def test_a_stream_can_go_back():
    stream = numbered(1000).stream(64, 0, shuffle_rows=300)
    state = stream.state_dict()
    first = [next(stream) for _ in range(20)]
    stream.load_state_dict(state)
    assert all(torch.equal(next(stream), batch) for batch in first)


def test_seed_law():
    store = numbered(3000)
    for shuffle_rows in (None, 1000):
        a, b, c = (
            ids(store.stream(100, seed, shuffle_rows=shuffle_rows, epochs=1)) for seed in (1, 1, 2)
        )
        assert a == b != c
    two = ids(store.stream(3000, 1, epochs=2))
    assert two[:3000] != two[3000:]


def test_rows_are_mixed_across_the_whole_store():
    """With a quarter of the rows in memory, a batch must still come from everywhere."""
    n = 40_000
    for shuffle_rows in (n // 4, n):
        batch = torch.tensor(ids([next(numbered(n).stream(2048, 0, shuffle_rows=shuffle_rows))]))
        assert abs(batch.float().mean() - n / 2) < n / 10
        assert len(set((batch * 10 // n).tolist())) >= 8  # tenths of the store that are seen
        neighbours = (batch[1:] - batch[:-1]).abs() == 1
        assert neighbours.sum() < 10


def test_memory_is_bounded():
    """No more rows are read at once than the buffer holds."""
    store = numbered(10_000)
    largest = 0

    class Watched:
        n_rows, d_in, dtype = 10_000, 3, torch.float32

        def read(self, start, stop):
            nonlocal largest
            largest = max(largest, stop - start)
            return store.rows(start, stop)

        def where(self, start, stop):
            return store._rows.where(start, stop)

    stream = ActivationStream(
        Watched(), 512, 0,
        shuffle_rows=1024, epochs=1, scale=1.0, dtype=torch.float32, device="cpu",
    )  # fmt: skip
    held = []
    for _ in stream:
        held.append(len(stream._buffer))
    assert largest == 256
    assert max(held) == 1024


def test_scale_and_type():
    store = ActivationStore.from_tensor(torch.full((4, 2), 3.0, dtype=torch.float16))
    batch = next(store.stream(2, 0, scale=0.5))
    assert batch.dtype == torch.float32
    assert torch.equal(batch, torch.full((2, 2), 1.5))
    assert next(store.stream(2, 0, dtype=torch.float16)).dtype == torch.float16


def test_a_part_streams_only_its_rows():
    part = numbered(100).part(20, 50)
    assert sorted(ids(part.stream(7, 0, epochs=1))) == list(range(20, 50))


def test_batches_do_not_share_memory_with_the_store():
    x = torch.zeros(10, 2)
    next(ActivationStore.from_tensor(x).stream(4, 0)).add_(1.0)
    assert x.sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"shuffle_rows": 0}, "shuffle_rows is 0"),
    ],
)
def test_impossible_settings(change, message):
    settings = {"batch_size": 2, "seed": 0} | change
    with pytest.raises(ConfigError, match=message):
        numbered(10).stream(**settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "has seed 1 but the saved state has 0"),
        ({"batch_size": 3}, "has batch_size 3"),
        ({"shuffle_rows": 5}, "has shuffle_rows 5"),
    ],
)
def test_state_of_another_stream_is_refused(change, message):
    state = numbered(10).stream(2, 0).state_dict()
    stream = numbered(10).stream(**({"batch_size": 2, "seed": 0} | change))
    with pytest.raises(ConfigError, match=message):
        stream.load_state_dict(state)
    with pytest.raises(ConfigError, match=r"has n_rows 11"):
        numbered(11).stream(2, 0, shuffle_rows=10).load_state_dict(state | {"shuffle_rows": 10})
