import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import DataError, ShapeError
from latent_assay.metrics import (
    assign,
    cosine_map,
    encoder_cosine_map,
    encoder_decoder_cosine,
    match,
    mcc,
    mmcs,
    nearest_feature,
    project_on_span,
    recovery,
    uniqueness,
)
from latent_assay.metrics import directions as directions_module

SCORES = {
    "recovery": recovery,
    "mmcs": mmcs,
    "mcc": mcc,
    "uniqueness": uniqueness,
    "match": lambda *args, **kwargs: match(*args, **kwargs).similarity,
    "nearest": lambda *args, **kwargs: nearest_feature(*args, **kwargs).feature,
}


def random(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def features(generator):
    return random(generator, 5, 8)


def test_cosine_map_is_the_plain_formula(generator, features):
    decoder = random(generator, 2, 7, 8)
    cosines = cosine_map(decoder, features)
    for m, j, i in itertools.product(range(2), range(7), range(5)):
        d, f = decoder[m, j], features[i]
        expected = (d @ f / d.norm() / f.norm()).item()
        assert cosines[m, j, i].item() == pytest.approx(expected, abs=1e-14)
    assert recovery(decoder, features).equal(cosines.amax(-2))
    assert recovery(decoder, features, signed=False).equal(cosines.abs().amax(-2))
    torch.testing.assert_close(mmcs(decoder, features), cosines.amax(-2).mean(-1))


def test_lengths_do_not_matter_even_extreme_ones(generator, features):
    decoder = random(generator, 1, 5, 8)
    scale = torch.tensor([1e-200, 1e-30, 1.0, 1e30, 1e200], dtype=torch.float64).unsqueeze(-1)
    torch.testing.assert_close(
        cosine_map(decoder * scale, features * scale), cosine_map(decoder, features)
    )


def test_zero_rows_have_cosine_zero_and_no_feature(features):
    decoder = torch.stack([features[0], torch.zeros(8).double()])[None]
    assert cosine_map(decoder, features)[0, 1].tolist() == [0.0] * 5
    nearest = nearest_feature(decoder, features)
    assert nearest.feature.tolist() == [[0, -1]]
    assert nearest.cosine[0, 1].item() == 0
    assert uniqueness(decoder, features).item() == 0.5  # it counts in the width
    assert encoder_decoder_cosine(decoder, decoder).tolist() == [[pytest.approx(1.0), 0.0]]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 1, 4, 0, 2]])
def test_the_oracle_scores_one(features, order):
    decoder = 3 * features[order][None]
    assert recovery(decoder, features).tolist() == [pytest.approx([1.0] * 5)]
    for score in (mmcs, mcc, uniqueness):
        assert score(decoder, features).item() == pytest.approx(1)
    pairs = match(decoder, features)
    assert pairs.feature.tolist() == [order]
    assert [order[j] for j in pairs.latent[0]] == list(range(5))


def test_oracle_beats_noisy_beats_random(generator):
    features = random(generator, 20, 50)
    noisy = features + 0.7 * random(generator, 20, 50)
    decoders = torch.stack([features, noisy, random(generator, 20, 50)])
    for score in (mmcs, mcc, lambda d, f: mcc(d, f, signed=True), uniqueness):
        oracle, trained, chance = score(decoders, features).tolist()
        assert oracle == pytest.approx(1)
        assert oracle >= trained > chance


@pytest.mark.parametrize(("latents", "n_features"), [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("signed", [False, True])
def test_matching_is_the_best_of_all_permutations(generator, latents, n_features, signed):
    decoder, features = random(generator, 2, latents, 6), random(generator, n_features, 6)
    cosines = cosine_map(decoder, features)
    pairs = match(decoder, features, signed=signed)
    for member in range(2):
        table = cosines[member] if signed else cosines[member].abs()
        if latents <= n_features:
            best = max(
                sum(table[j, i].item() for j, i in enumerate(chosen))
                for chosen in itertools.permutations(range(n_features), latents)
            )
        else:
            best = max(
                sum(table[j, i].item() for i, j in enumerate(chosen))
                for chosen in itertools.permutations(range(latents), n_features)
            )
        found = pairs.similarity[member]
        assert (found if signed else found.abs()).sum().item() == pytest.approx(best)
        score = mcc(decoder, features, signed=signed)[member].item()
        assert score == pytest.approx(best / min(latents, n_features))
        # Both directions of the matching agree, and nothing is used twice.
        used = 0
        for i, j in enumerate(pairs.latent[member].tolist()):
            if j < 0:
                assert found[i].item() == 0
            else:
                assert pairs.feature[member, j].item() == i
                assert found[i].item() == pytest.approx(cosines[member, j, i].item())
                used += 1
        assert used == min(latents, n_features) == (pairs.feature[member] >= 0).sum().item()


def test_a_latent_along_minus_the_feature(features):
    decoder = -features[None]
    assert mcc(decoder, features).item() == pytest.approx(1)
    assert mcc(decoder, features, signed=True).item() < 0.6
    assert recovery(decoder, features, signed=False).tolist() == [pytest.approx([1.0] * 5)]
    assert match(decoder, features, signed=False).feature.tolist() == [[0, 1, 2, 3, 4]]
    assert nearest_feature(decoder, features, signed=False).cosine.max().item() < -0.99


def test_duplicates_cost_uniqueness_but_not_mmcs(features):
    decoder = torch.cat([features, features[:1], features[:1]])[None]
    assert mmcs(decoder, features).item() == pytest.approx(1)
    assert mcc(decoder, features).item() == pytest.approx(1)
    assert uniqueness(decoder, features).item() == pytest.approx(5 / 7)
    assert (match(decoder, features).feature[0] < 0).sum().item() == 2


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_padded_members_score_as_they_do_alone(score, seed):
    g = torch.Generator().manual_seed(seed)
    features = random(g, 4, 6)
    widths = [2, 5, 3]
    # Padding with noise and with zeros: neither may be seen.
    decoder = random(g, 3, 5, 6)
    decoder[2, 3:] = 0
    mask = torch.arange(5) < torch.tensor(widths).unsqueeze(-1)
    together = score(decoder, features, mask)
    for member, width in enumerate(widths):
        alone = score(decoder[member : member + 1, :width], features)[0]
        joint = together[member] if alone.dim() == 0 else together[member][: len(alone)]
        torch.testing.assert_close(joint, alone)
    assert (match(decoder, features, mask).feature[~mask] == -1).all()


def test_each_member_may_have_its_own_features(generator):
    decoder, features = random(generator, 2, 3, 4), random(generator, 2, 5, 4)
    for score in SCORES.values():
        together = score(decoder, features)
        for member in range(2):
            torch.testing.assert_close(together[member], score(decoder[member], features[member]))


def test_large_maps_are_cut_into_chunks(generator, features, monkeypatch):
    decoder = random(generator, 2, 23, 8)
    whole = {name: score(decoder, features) for name, score in SCORES.items()}
    monkeypatch.setattr(directions_module, "_ENTRIES", 40)  # four latents at a time
    for name, score in SCORES.items():
        torch.testing.assert_close(score(decoder, features), whole[name])


def test_encoder_noise_outside_the_data_is_projected_away(generator):
    """Noise orthogonal to every feature gets no gradient, stays, and must not count."""
    features = torch.linalg.qr(random(generator, 50, 4)).Q.T
    noise = random(generator, 1, 4, 50)
    noise = noise - (noise @ features.T) @ features
    encoder = features + noise
    plain = cosine_map(encoder, features).diagonal(dim1=1, dim2=2)
    inside = encoder_cosine_map(encoder, features)
    assert plain.max().item() < 0.3
    torch.testing.assert_close(inside[0], torch.eye(4).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(project_on_span(encoder, features)[0], features)


def test_projection(generator):
    features = random(generator, 3, 6)
    encoder = random(generator, 2, 4, 6)
    inside = project_on_span(encoder, features)
    # Idempotent, orthogonal to what is left, and blind to repeated and dependent features.
    torch.testing.assert_close(project_on_span(inside, features), inside)
    left = (encoder - inside) @ features.T
    torch.testing.assert_close(left, torch.zeros_like(left), atol=1e-12, rtol=0)
    dependent = torch.cat([features, features[:1], features[1:2] + features[2:3], 0 * features])
    torch.testing.assert_close(project_on_span(encoder, dependent), inside)
    # Over a whole space there is nothing to remove.
    everything = random(generator, 9, 6)
    torch.testing.assert_close(project_on_span(encoder, everything), encoder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_not_taken_for_a_direction(generator, dtype):
    features = torch.linalg.qr(random(generator, 30, 3)).Q.T
    outside = random(generator, 1, 2, 30)
    outside = outside - (outside @ features.T) @ features
    rounded = outside.to(dtype)
    assert encoder_cosine_map(rounded, features.to(dtype)).tolist() == [[[0.0] * 3] * 2]


def test_encoder_decoder_cosine(generator):
    encoder, decoder = random(generator, 2, 3, 4), random(generator, 2, 3, 4)
    expected = torch.nn.functional.cosine_similarity(encoder, decoder, dim=-1)
    torch.testing.assert_close(encoder_decoder_cosine(encoder, decoder), expected)


def test_weights_that_need_a_gradient_are_only_read(generator):
    decoder = torch.nn.Parameter(torch.randn(1, 3, 4, generator=generator))
    features = torch.randn(3, 4, generator=generator)
    for score in SCORES.values():
        assert not score(decoder, features).requires_grad
    assert mcc(decoder, features).dtype == torch.float64


def test_assign_takes_any_similarity_and_refuses_nan():
    table = torch.tensor([[[5.0, 4.0], [4.0, 0.0]]])
    assert assign(table).latent.tolist() == [[1, 0]]
    table[0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="Use 0 where one is undefined"):
        assign(table)


def test_directions_that_are_not_finite_are_explained(features):
    decoder = features.repeat(2, 1, 1)
    decoder[1, 3, 0] = torch.inf
    with pytest.raises(DataError, match=r"`decoder` is not finite at index \[1, 3\]"):
        recovery(decoder, features)
    with pytest.raises(DataError, match="diverge"):
        project_on_span(decoder, features)


@pytest.mark.usefixtures("as_a_user")
def test_wrong_shapes_are_explained(features):
    for score in SCORES.values():
        with pytest.raises(ShapeError, match=r"Were both read at the same hook point\?"):
            score(torch.ones(1, 3, 7), features)
    with pytest.raises(ShapeError, match=r"expected \[\*member, latent, d_in\] beside"):
        cosine_map(torch.ones(2, 3, 8), torch.ones(3, 5, 8))
    with pytest.raises(ShapeError, match="at least one direction"):
        recovery(torch.ones(1, 0, 8), features)
    with pytest.raises(ShapeError, match="rows being latents in both"):
        encoder_decoder_cosine(torch.ones(1, 8, 3), torch.ones(1, 3, 8))
    with pytest.raises(ShapeError, match=r"expected \[\*member, latent, feature\]"):
        assign(torch.ones(3))
    with pytest.raises(ShapeError, match=r"torch.bool of shape \[1, 5\]"):
        recovery(features[None], features, torch.ones(1, 4, dtype=torch.bool))
