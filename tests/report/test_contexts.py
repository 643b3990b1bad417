"""Streaming contexts equal a plain search over all activations, however the rows are cut."""

import numpy as np
import pytest
import torch

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.report import ContextConfig, contexts, latent_contexts

LENGTH, WIDTH = 400, 6


def activations(seed: int = 0, signed: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(LENGTH, WIDTH, generator=generator)
    z = torch.where(z.abs() > 1.0, z, 0.0) if signed else torch.relu(z - 0.8)
    z[:, 2] = 0.0  # a dead latent
    z[:, 3] = 0.0
    z[17, 3] = 2.0  # fires once
    z[:, 4] = (z[:, 4] > 0).float()  # all peaks are equal
    return z


def rows_of(z: torch.Tensor, position: torch.Tensor, chunk: int):
    def rows():
        for part in torch.split(torch.arange(len(position)), chunk):
            yield z[position[part]], position[part]

    return rows


def plain_search(z, starts, config):
    """The same definition, one latent and one token at a time."""
    ends = [*starts[1:], LENGTH]
    peaks = []
    for latent in range(z.shape[1]):
        tiles = []
        for start, end in zip(starts, ends, strict=True):
            for tile in range(start, end, config.window):
                strength = np.abs(z[tile : min(tile + config.window, end), latent])
                if strength.max() > 0:
                    tiles.append((-strength.max(), tile + int(strength.argmax()), start))
        chosen = []
        for _, position, document in sorted(tiles):
            near = [d == document and abs(p - position) < config.window for p, d in chosen]
            if not any(near) and len(chosen) < config.contexts:
                chosen.append((position, document))
        peaks.append([position for position, _ in chosen])
    return peaks


@pytest.mark.parametrize("chunk", [1, 7, 64, LENGTH])
@pytest.mark.parametrize("documents", [[0], [0, 3, 50, 51, 200]])
@pytest.mark.parametrize("merge_at", [1, 50, 1 << 18])
def test_peaks_equal_a_plain_search(monkeypatch, chunk, documents, merge_at):
    monkeypatch.setattr(contexts, "MERGE_AT", merge_at)
    config = ContextConfig(contexts=4, before=5, after=3, bins=5)
    z = activations()
    found = latent_contexts(
        lambda x: x,
        rows_of(z, torch.arange(LENGTH), chunk),
        corpus_length=LENGTH,
        documents=np.array(documents),
        config=config,
    )
    expected = plain_search(z.numpy(), documents, config)
    assert [[p for p in row if p >= 0] for row in found.peaks.tolist()] == expected
    np.testing.assert_allclose(found.density, (z != 0).float().mean(0), rtol=1e-6)
    np.testing.assert_array_equal(found.maximum, z.abs().amax(0))
    assert found.rows == LENGTH
    assert found.width == WIDTH


def test_windows_hold_what_was_read_around_each_peak():
    config = ContextConfig(contexts=6, before=4, after=3)
    z = activations(signed=True)
    starts = np.array([0, 30, 33, 210])
    left_out = torch.tensor([0, 30, 33, 210, 55, 56, 300])
    keep = torch.ones(LENGTH, dtype=torch.bool)
    keep[left_out] = False
    position = torch.nonzero(keep)[:, 0]
    found = latent_contexts(
        lambda x: x,
        rows_of(z, position, 37),
        corpus_length=LENGTH,
        documents=starts,
        config=config,
    )
    maximum = z[position].abs().amax(0)
    ends = [*starts[1:], LENGTH]
    seen = 0
    for latent in range(WIDTH):
        for slot, peak in enumerate(found.peaks[latent]):
            window = found.activations[latent, slot]
            if peak < 0:
                assert (window == contexts.OUTSIDE).all()
                continue
            document = np.searchsorted(starts, peak, side="right") - 1
            for k, value in enumerate(window):
                at = peak - config.before + k
                if not starts[document] <= at < ends[document]:
                    assert value == contexts.OUTSIDE
                elif not keep[at]:
                    assert value == contexts.LEFT_OUT
                else:
                    truth = z[at, latent] / maximum[latent] * contexts.FULL
                    assert abs(value - truth) <= 1
                    assert (value != 0) == (z[at, latent] != 0)
                    seen += 1
    assert seen > 100
    assert abs(int(found.activations[0, 0, config.before])) == contexts.FULL


def test_histogram_counts_every_firing_by_strength():
    config = ContextConfig(bins=5)
    z = activations()
    found = latent_contexts(
        lambda x: x, rows_of(z, torch.arange(LENGTH), 50), corpus_length=LENGTH, config=config
    )
    np.testing.assert_array_equal(found.histogram.sum(1), (z != 0).sum(0))
    for latent in (0, 1, 5):
        values = z[:, latent][z[:, latent] > 0].numpy()
        expected, _ = np.histogram(values, 5, (0, values.max()))
        np.testing.assert_array_equal(found.histogram[latent], expected)
    assert found.histogram[2].sum() == 0


def test_sparse_and_dense_encoders_agree():
    z = activations()

    def search(encode):
        return latent_contexts(encode, rows_of(z, torch.arange(LENGTH), 64), corpus_length=LENGTH)

    def sparse(x):
        row, latent = torch.meshgrid(torch.arange(len(x)), torch.arange(WIDTH), indexing="ij")
        place = torch.stack([row.flatten(), latent.flatten()])  # explicit zeros, too
        return torch.sparse_coo_tensor(place, x.flatten(), x.shape, check_invariants=True)

    dense = search(lambda x: x)
    other = search(sparse)
    np.testing.assert_array_equal(dense.peaks, other.peaks)
    np.testing.assert_array_equal(dense.activations, other.activations)
    np.testing.assert_array_equal(dense.histogram, other.histogram)
    np.testing.assert_array_equal(dense.density, other.density)


def test_low_precision_activations_are_read():
    z = activations().to(torch.bfloat16)
    found = latent_contexts(lambda x: x, rows_of(z, torch.arange(LENGTH), 64), corpus_length=LENGTH)
    np.testing.assert_array_equal(found.maximum, z.float().amax(0))


def test_shuffled_rows_are_refused():
    with pytest.raises(DataError, match=r"must rise from row to row.*without shuffling"):
        latent_contexts(
            lambda x: x, lambda: [(torch.ones(2, 1), torch.tensor([5, 4]))], corpus_length=9
        )
    row = (torch.ones(1, 1), torch.tensor([3]))
    with pytest.raises(DataError, match="received 3 to 3 after 3"):
        latent_contexts(lambda x: x, lambda: [row, row], corpus_length=9)


def test_positions_beyond_the_corpus_are_refused():
    with pytest.raises(DataError, match="stay below 4, the length of the corpus"):
        latent_contexts(
            lambda x: x, lambda: [(torch.ones(1, 1), torch.tensor([4]))], corpus_length=4
        )


def test_an_iterator_that_cannot_start_afresh_is_refused():
    once = iter([(torch.ones(2, 1), torch.tensor([0, 1]))])
    with pytest.raises(DataError, match=r"gave 0 activations, the first 2.*new iterator"):
        latent_contexts(lambda x: x, lambda: once, corpus_length=4)


def test_nothing_to_read_is_refused():
    with pytest.raises(DataError, match="received none"):
        latent_contexts(lambda x: x, lambda: [], corpus_length=4)


def test_nan_is_refused():
    bad = torch.tensor([[1.0, torch.nan]])
    with pytest.raises(DataError, match=r"must be finite.*position 2"):
        latent_contexts(lambda x: x, lambda: [(bad, torch.tensor([2]))], corpus_length=4)


def test_encoder_of_an_ensemble_is_refused():
    with pytest.raises(ShapeError, match=r"received the shape \[3, 2, 1\]. Choose one member"):
        latent_contexts(
            lambda x: x.expand(3, 2, 1),
            lambda: [(torch.ones(2, 1), torch.tensor([0, 1]))],
            corpus_length=4,
        )


def test_positions_must_match_activations():
    with pytest.raises(ShapeError, match="2 activations and 1 positions"):
        latent_contexts(
            lambda x: x, lambda: [(torch.ones(2, 1), torch.tensor([0]))], corpus_length=4
        )


@pytest.mark.parametrize("documents", [[1], [0, 5, 5], []])
def test_documents_must_rise_from_zero(documents):
    with pytest.raises(DataError, match="rising from 0"):
        latent_contexts(
            lambda x: x,
            lambda: [],
            corpus_length=9,
            documents=np.array(documents, dtype=np.int64),
        )


def test_documents_must_lie_in_the_corpus():
    with pytest.raises(DataError, match="last document starts at 9"):
        latent_contexts(lambda x: x, lambda: [], corpus_length=9, documents=np.array([0, 9]))


def test_config_is_checked():
    with pytest.raises(ConfigError, match="`contexts` must be at least 1, received 0"):
        ContextConfig(contexts=0)
