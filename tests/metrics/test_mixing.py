"""Decoder cosine and n-th projection, beside the plain formulas."""

import pytest
import torch

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics import NthDecoderProjection, decoder_pairwise_cosine
from latent_assay.metrics import directions as directions_module


def plain_cosine(rows):
    rows = rows.double() / rows.double().norm(dim=-1, keepdim=True)
    pairs = [abs(float(a @ b)) for i, a in enumerate(rows) for b in rows[i + 1 :]]
    return sum(pairs) / len(pairs)


def plain_projection(decoder, b_dec, x, n):
    rows = decoder.double() / decoder.double().norm(dim=-1, keepdim=True)
    pooled = ((x.double() - b_dec.double()) @ rows.T).flatten().sort(descending=True).values
    return float(pooled[round(n * len(x)) - 1])


def test_cosine_of_every_pair_once(generator, monkeypatch):
    decoder = torch.randn(2, 31, 7, generator=generator)
    expected = [plain_cosine(rows) for rows in decoder]
    assert decoder_pairwise_cosine(decoder).tolist() == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(directions_module, "_ENTRIES", 31 * 4)  # four rows at a time
    assert decoder_pairwise_cosine(decoder).tolist() == pytest.approx(expected, rel=1e-6)
    assert float(decoder_pairwise_cosine(decoder[0])) == pytest.approx(expected[0], rel=1e-6)


def test_only_living_latents_have_pairs(generator):
    decoder = torch.randn(1, 9, 5, generator=generator)
    mask = torch.tensor([[True] * 6 + [False] * 3])
    assert float(decoder_pairwise_cosine(decoder, mask)) == pytest.approx(
        plain_cosine(decoder[0, :6]), rel=1e-6
    )
    decoder[0, 5] = 0  # a row without direction
    assert float(decoder_pairwise_cosine(decoder, mask)) == pytest.approx(
        plain_cosine(decoder[0, :5]), rel=1e-6
    )
    one = torch.zeros(1, 9, dtype=torch.bool)
    one[0, 2] = True
    assert decoder_pairwise_cosine(decoder, one).isnan().all()


def test_a_perfect_decoder_beats_a_mixed_one_and_a_random_one(generator):
    truth = torch.eye(20)
    mixed = truth + 0.3 * truth.roll(1, 0)
    random = torch.randn(20, 20, generator=generator)
    found = [float(decoder_pairwise_cosine(each)) for each in (truth, mixed, random)]
    assert found == sorted(found)
    assert found[0] == 0


@pytest.mark.parametrize("n", [0.5, 1, 3.25, 6, 12, 13])
def test_the_nth_projection_is_that_of_the_plain_formula(n, generator):
    decoder = torch.randn(2, 13, 6, generator=generator)
    b_dec = torch.randn(2, 6, generator=generator)
    x = 3 * torch.randn(400, 6, generator=generator)
    seen = NthDecoderProjection(decoder, b_dec)
    for batch in x.split(77):
        seen.update(batch)
    found = seen.result(n)
    expected = [plain_projection(d, b, x, n) for d, b in zip(decoder, b_dec, strict=True)]
    assert found.nth_decoder_projection.tolist() == pytest.approx(expected, rel=2e-3, abs=1e-6)
    assert found.samples == 400


def test_any_split_and_merge_gives_the_same(generator):
    decoder = torch.randn(1, 10, 4, generator=generator)
    x = torch.randn(300, 4, generator=generator)
    whole, first, second = (NthDecoderProjection(decoder) for _ in range(3))
    whole.update(x)
    first.update(x[:13])
    second.update(x[13:])
    first.merge(second)
    torch.testing.assert_close(
        first.result().nth_decoder_projection,
        whole.result().nth_decoder_projection,
        rtol=1e-10,
        atol=0,
    )


def test_weights_are_repetitions_and_the_mask_leaves_latents_out(generator):
    decoder = torch.randn(1, 8, 4, generator=generator)
    x = torch.randn(50, 4, generator=generator)
    weight = torch.randint(0, 4, (50,), generator=generator)
    mask = torch.tensor([[True] * 5 + [False] * 3])
    weighted = NthDecoderProjection(decoder, mask=mask)
    weighted.update(x, weight)
    repeated = NthDecoderProjection(decoder[:, :5])
    repeated.update(x.repeat_interleave(weight, dim=0))
    assert weighted.latents == (5,)
    assert weighted.result(2).nth_decoder_projection == pytest.approx(
        float(repeated.result(2).nth_decoder_projection)
    )


def test_mistakes_are_explained(as_a_user):
    decoder = torch.eye(3)[None]
    seen = NthDecoderProjection(decoder)
    with pytest.raises(DataError, match="has seen no samples"):
        seen.result(1)
    seen.update(torch.ones(2, 3))
    with pytest.raises(ConfigError, match=r"`n` is 4; expected .* at most .* \(3\)"):
        seen.result(4)
    with pytest.raises(ShapeError, match=r"`x` has shape \[2, 4\]; expected \[batch, 3\]"):
        seen.update(torch.ones(2, 4))
    with pytest.raises(DataError, match="leave those samples out"):
        seen.update(torch.full((2, 3), torch.nan))
    with pytest.raises(ShapeError, match=r"pass `decoder\[None\]`"):
        NthDecoderProjection(torch.eye(3))
    with pytest.raises(ShapeError, match=r"`b_dec` has shape \[2, 3\]; expected \[1, 3\]"):
        NthDecoderProjection(decoder, torch.zeros(2, 3))
