"""Decoding and its gradients, each against the dense formula in float64."""

import itertools

import pytest
import torch

from latent_assay.kernels.triton import (
    InvertedIndex,
    decode,
    suffix_sums,
    value_gradient,
    weight_gradient,
)
from tests.kernels.triton.compare import close, draw, entries, of_mask

# batch, width, d_in: below, at and beside the sizes of blocks (8 entries; 256 of d_in)
SIZES = [(1, 1, 1), (3, 5, 7), (8, 16, 8), (9, 11, 40), (4, 6, 300), (2, 3, 256)]
TYPES = [torch.float32, torch.bfloat16]
CASES = [
    (*size, dtype, share)
    for size, dtype, share in itertools.product(SIZES, TYPES, [0.3, 1.0])
    if share == 0.3 or size[2] < 40
]


def edges(selection, bounds):
    """Where groups begin in each row, entry by entry."""
    rows = selection.row_start.tolist()
    latent = selection.latent.tolist()
    return torch.tensor(
        [
            [a, *(a + sum(latent[e] < bound for e in range(a, b)) for bound in bounds)]
            for a, b in itertools.pairwise(rows)
        ],
        device=selection.column.device,
    )


@pytest.mark.parametrize(("batch", "width", "d_in", "dtype", "share"), CASES)
def test_decode(device, batch, width, d_in, dtype, share):
    s = entries(2, batch, width, share=share, seed=1, device=device)
    value = draw(s.column.numel(), seed=2, dtype=dtype, device=device)
    W_dec = draw(2 * width, d_in, seed=3, dtype=dtype, device=device)
    z = torch.zeros(2 * batch, 2 * width, dtype=torch.float64, device=device)
    z[s.row, s.column] = value.double()
    for bounds in {(width,), tuple(sorted({1, (width + 1) // 2, width}))}:
        edge = edges(s, bounds)
        for prefix in (False, True):
            out = decode(value, s.column, edge, W_dec, prefix=prefix)
            assert out.dtype == dtype
            for group, end in enumerate(bounds):
                start = 0 if prefix or group == 0 else bounds[group - 1]
                latent = torch.arange(2 * width, device=device) % width
                inside = (latent >= start) & (latent < end)
                exact = (z * inside) @ W_dec.double()
                close(out[group], exact, (z * inside).abs() @ W_dec.double().abs(), dtype)


@pytest.mark.parametrize("types", list(itertools.permutations(TYPES)))
def test_the_more_precise_type_wins(device, types):
    s = entries(1, 3, 5, share=0.5, seed=1, device=device)
    value = draw(s.column.numel(), seed=2, dtype=types[0], device=device)
    W_dec = draw(5, 7, seed=3, dtype=types[1], device=device)
    assert decode(value, s.column, edges(s, (5,)), W_dec).dtype == torch.float32
    grad = draw(3, 7, seed=4, dtype=types[0], device=device)
    assert value_gradient(grad, W_dec, s.row, s.column).dtype == torch.float32


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_suffix_sums(device, groups, dtype):
    grad = draw(groups, 3, 401, seed=1, dtype=dtype, device=device)
    found = suffix_sums(grad)
    assert found.dtype == dtype
    for group in range(groups):
        rest = grad[group:].double()
        close(found[group], rest.sum(0), rest.abs().sum(0), dtype)


@pytest.mark.parametrize(("batch", "width", "d_in", "dtype", "share"), CASES)
def test_value_gradient(device, batch, width, d_in, dtype, share):
    s = entries(2, batch, width, share=share, seed=1, device=device)
    grad = draw(2 * batch, d_in, seed=2, dtype=dtype, device=device)
    W_dec = draw(2 * width, d_in, seed=3, dtype=dtype, device=device)
    found = value_gradient(grad, W_dec, s.row, s.column)
    assert found.dtype == dtype
    terms = grad.double()[s.row] * W_dec.double()[s.column]
    close(found, terms.sum(1), terms.abs().sum(1), dtype)


@pytest.mark.parametrize(("batch", "width", "d_in", "dtype", "share"), CASES)
@pytest.mark.parametrize("longest", [2, 256])
def test_weight_gradient(device, batch, width, d_in, dtype, share, longest):
    s = entries(2, batch, width, share=share, seed=1, device=device)
    c = draw(s.column.numel(), seed=2, dtype=dtype, device=device)
    source = draw(2 * batch, d_in, seed=3, dtype=dtype, device=device)
    index = InvertedIndex.of(s.column, 2 * width, longest=longest)
    weight, bias = weight_gradient(index, c, source, s.row)
    assert weight.dtype == bias.dtype == torch.float32
    place = torch.zeros(2 * width, 2 * batch, dtype=torch.float64, device=device)
    place[s.column, s.row] = c.double()
    close(weight, place @ source.double(), place.abs() @ source.double().abs(), dtype)
    close(bias, place.sum(1), place.abs().sum(1), dtype)
    rounded, _ = weight_gradient(index, c, source, s.row, dtype=torch.bfloat16)
    # the interpreter cuts digits off where a GPU rounds
    assert rounded.dtype == torch.bfloat16
    close(rounded, weight.double(), torch.zeros_like(weight), dtype)


# ---------------------------------------------------------------- segments


@pytest.mark.parametrize("batch", [255, 256, 257, 700])
def test_a_latent_that_fires_for_every_sample(device, batch):
    """Its entries are summed in chunks, and only its."""
    mask = torch.zeros(1, batch, 4, dtype=torch.bool)
    mask[0, :, 1] = True
    mask[0, ::50, 3] = True
    s = of_mask(mask, device)
    c = draw(s.column.numel(), seed=2, dtype=torch.float32, device=device)
    source = draw(batch, 5, seed=3, dtype=torch.float32, device=device)
    index = InvertedIndex.of(s.column, 4)
    weight, bias = weight_gradient(index, c, source, s.row)
    place = torch.zeros(4, batch, dtype=torch.float64, device=device)
    place[s.column, s.row] = c.double()
    close(weight, place @ source.double(), 3 * (place.abs() @ source.double().abs()), c.dtype)
    close(bias, place.sum(1), 3 * place.abs().sum(1), c.dtype)
    # latents 0 and 2 never fire
    assert not weight[[0, 2]].any()
    chunks = -(-batch // 256) if batch > 256 else 0
    assert index.chunk_start.tolist() == [0, 0, chunks, chunks, chunks]


@pytest.mark.parametrize("longest", [1, 2, 3, 7, 1000])
def test_chunks_cover_every_entry_of_long_segments_once(device, longest):
    s = entries(2, 13, 9, share=0.4, seed=5, device=device)
    index = InvertedIndex.of(s.column, 18, longest=longest)
    start, chunk_start = index.start.tolist(), index.chunk_start.tolist()
    first, last = index.chunk_first.tolist(), index.chunk_last.tolist()
    assert index.entry.sort().values.tolist() == list(range(s.column.numel()))
    for latent in range(18):
        own = index.entry[start[latent] : start[latent + 1]]
        assert (s.column[own] == latent).all()
        assert own.tolist() == sorted(own.tolist())
        chunks = range(chunk_start[latent], chunk_start[latent + 1])
        covered = [place for chunk in chunks for place in range(first[chunk], last[chunk])]
        if len(own) > longest:
            assert covered == list(range(start[latent], start[latent + 1]))
            assert all(last[chunk] - first[chunk] <= longest for chunk in chunks)
        else:
            assert covered == []
    # room that was made for chunks that do not exist
    assert first[chunk_start[-1] :] == last[chunk_start[-1] :]


# ---------------------------------------------------------------- nothing, and again


@pytest.mark.parametrize("dtype", TYPES)
def test_nothing_fires(device, dtype):
    s = of_mask(torch.zeros(2, 3, 4, dtype=torch.bool), device)
    nothing = torch.empty(0, dtype=dtype, device=device)
    W_dec = draw(8, 5, seed=3, dtype=dtype, device=device)
    source = draw(6, 5, seed=3, dtype=dtype, device=device)
    assert not decode(nothing, s.column, edges(s, (2, 4)), W_dec).any()
    assert value_gradient(source, W_dec, s.row, s.column).shape == (0,)
    weight, bias = weight_gradient(InvertedIndex.of(s.column, 8), nothing, source, s.row)
    assert weight.shape == (8, 5)
    assert not weight.any()
    assert not bias.any()


def test_strided_tensors(device):
    s = entries(1, 4, 6, share=0.5, seed=1, device=device)
    value = draw(2 * s.column.numel(), seed=2, dtype=torch.float32, device=device)
    wide = draw(7, 12, seed=3, dtype=torch.float32, device=device)
    row, column = s.row, s.column
    W_dec, grad = wide[:6, ::2], wide[:4, 1::2]
    edge, index = edges(s, (6,)), InvertedIndex.of(column, 6)

    def products(value, W_dec, grad):
        return [
            decode(value, column, edge, W_dec),
            value_gradient(grad, W_dec, row, column),
            *weight_gradient(index, value, grad, row),
        ]

    strided = (value[::2], W_dec, grad)
    plain = [each.contiguous() for each in strided]
    for one, two in zip(products(*strided), products(*plain), strict=True):
        assert torch.equal(one, two)


def test_twice_the_same(device):
    s = entries(2, 40, 6, share=0.5, seed=1, device=device)
    value = draw(s.column.numel(), seed=2, dtype=torch.float32, device=device)
    W_dec = draw(12, 33, seed=3, dtype=torch.float32, device=device)
    source = draw(80, 33, seed=4, dtype=torch.float32, device=device)

    def once():
        index = InvertedIndex.of(s.column, 12, longest=8)
        return [
            decode(value, s.column, edges(s, (2, 6)), W_dec, prefix=True),
            value_gradient(source, W_dec, s.row, s.column),
            *weight_gradient(index, value, source, s.row),
        ]

    for one, two in zip(once(), once(), strict=True):
        assert torch.equal(one, two)
