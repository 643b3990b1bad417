"""From a diagnosis to its page: the text behind it, what is named, what is counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from latent_assay.activations import ActivationStore
from latent_assay.diagnosis import COLUMNS, VERDICTS, Diagnosis, Verdict, diagnose
from latent_assay.diagnosis.pages import (
    DiagnosedSAE,
    ExcerptConfig,
    diagnosis_report,
    excerpts,
    overview,
    write_page,
)
from latent_assay.diagnosis.pages.arrays import columns_of, latents_of
from latent_assay.diagnosis.verdict import meaning
from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.report.contexts import FULL, LEFT_OUT, OUTSIDE
from latent_assay.report.diagnosis import DiagnosedLatents
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU
from latent_assay.worlds import Hierarchy, Normal, World, directions

D_IN, CONTEXT, N = 24, 50, 6_000
PARENT, CHILD = 0, 1


class Told(ActivationStore):
    """Samples of a world as a text: every token says which features fire; a special token, which
    has no activation, begins each context."""

    def __init__(self, x, firing):
        store = ActivationStore.from_tensor(x)
        super().__init__(store._rows, hook_point="given", manifest={"told": True})
        self.names = [
            " " + "+".join(f"f{i}" for i in row.nonzero()[:, 0].tolist()) for row in firing
        ]

    def in_order(self, batch_size):
        for start in range(0, self.n_rows, batch_size):
            row = torch.arange(start, min(start + batch_size, self.n_rows))
            yield self.rows(start, int(row[-1]) + 1), row // CONTEXT, 1 + row % CONTEXT

    def context(self, index):
        first = index * CONTEXT
        return torch.tensor([-1, *range(first, min(first + CONTEXT, self.n_rows))])

    def tokens_text(self, token_ids):
        return ["[CLS]" if t < 0 else self.names[t] for t in map(int, token_ids)]


@pytest.fixture(scope="module")
def world():
    return World(
        directions=directions.orthonormal(8, D_IN, torch.Generator().manual_seed(0)),
        firing=Hierarchy(parents=(None, 0, *[None] * 6), rates=(0.3, 0.4, *[0.15] * 6)),
        magnitudes=Normal(mean=1.0, sd=0.1),
    )


@pytest.fixture(scope="module")
def sae(world):
    """The parent's latent is silent wherever the child fires, whose latent carries it."""
    encoder, decoder = world.features.clone(), world.features.clone()
    encoder[PARENT] -= world.features[CHILD]
    decoder[CHILD] += world.features[PARENT]
    threshold = JumpReLU(torch.full((1, len(encoder)), 0.3))
    return SAE(encoder[None], decoder[None], sparsifier=threshold).eval()


@pytest.fixture(scope="module")
def sample(world):
    return world.sample(N, torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def store(sample):
    return Told(sample.x, sample.firing)


@pytest.fixture(scope="module")
def found(sae, sample):
    return diagnose(sae, list(sample.x.split(1_000)), provenance={"sae": "planted"})


@pytest.fixture(scope="module")
def text(found, sae, store):
    return excerpts(found, sae, store)


def test_holes_are_where_the_child_fires_and_its_parent_does_not(found, sae, sample, text):
    assert found.found("absorbed")[PARENT]
    assert found.found("absorbing")[CHILD]
    (at,) = np.flatnonzero((text.hole_parent == PARENT) & (text.hole_child == CHILD))
    token = text.corpus.pieces[text.corpus.ids[text.hole_position[at]]]
    assert "f0+f1" in token
    middle = text.config.before
    assert text.hole_level[at, 0, middle] == 0
    assert text.hole_level[at, 1, middle] > 0
    # what was there along the parent, by its definition
    row = text.hole_position[at] - 1 - text.hole_position[at] // (CONTEXT + 1)
    x = sample.x[row : row + 1]
    with torch.no_grad():
        z, lengths = sae.encode(x)[0], sae.W_dec[0].norm(dim=1)
        unit = sae.W_dec[0] / lengths[:, None]
        left = x[0] - sae(x)[0, 0] + z[0, CHILD] * lengths[CHILD] * unit[CHILD]
        fired = sae.encode(sample.x)[0, :, PARENT]
    median = float(fired[fired > 0].median())
    assert text.hole_asked[at] == pytest.approx(float(left @ unit[PARENT]) / median, rel=0.05)


def test_levels_are_the_activations_around_a_token(found, sae, sample, store, text):
    window, before = text.config.window, text.config.before
    with torch.no_grad():
        z = sae.encode(sample.x)[0] * sae.W_dec[0].norm(dim=1)
    for k in range(0, len(text.example_latent), 7):
        latent, place = int(text.example_latent[k]), int(text.example_position[k])
        context = place // (CONTEXT + 1)
        for offset in range(window):
            at = place - before + offset
            level = int(text.example_level[k, offset])
            if at < 0 or at >= len(text.corpus.ids) or at // (CONTEXT + 1) != context:
                assert level == OUTSIDE
            elif at % (CONTEXT + 1) == 0:
                assert level == LEFT_OUT
            else:
                row = context * CONTEXT + at % (CONTEXT + 1) - 1
                value = float(z[row, latent] / text.scale[latent])
                assert level / FULL == pytest.approx(value, abs=0.01)
    assert (text.example_level[:, before] > 0).all()


def test_examples_of_a_latent_are_strong_and_apart(text, store):
    for latent in range(8):
        mine = text.example_latent == latent
        assert 1 <= mine.sum() <= text.config.examples
        places = np.sort(text.example_position[mine])
        assert (np.diff(places) >= text.config.window // 2).all()
        middle = text.example_level[mine, text.config.before]
        assert (np.diff(middle.astype(int)) <= 0).all()
        names = [text.corpus.pieces[text.corpus.ids[p]] for p in places]
        assert all(f"f{latent}" in name for name in names)


def test_hedges_are_shown_with_and_without_what_they_carry(world):
    """A latent of feature 2 that carries .3 of feature 3, which has no latent."""
    kept = [0, 1, 2, 4, 5, 6, 7]
    encoder, decoder = world.features[kept].clone(), world.features[kept].clone()
    decoder[2] += 0.3 * world.features[3]
    hedging = SAE(
        encoder[None], decoder[None], sparsifier=JumpReLU(torch.full((1, len(kept)), 0.3))
    ).eval()
    sample = world.sample(N, torch.Generator().manual_seed(2))
    found = diagnose(hedging, list(sample.x.split(1_000)))
    drawings = found.evidence.drawings
    present, absent = drawings["hedge.present_row"][2], drawings["hedge.absent_row"][2]
    assert sample.firing[present, 2].all()
    assert sample.firing[absent, 2].all()
    assert sample.firing[present, 3].all()
    assert not sample.firing[absent, 3].any()
    # whatever the calibration thinks of it
    probabilities = found.probabilities.copy()
    probabilities[2, VERDICTS.index(Verdict.HEDGED)] = 1
    sure = replace(found, probabilities=probabilities)
    text = excerpts(sure, hedging, Told(sample.x, sample.firing))
    mine = text.hedge_latent == 2
    names = [text.corpus.pieces[text.corpus.ids[p]] for p in text.hedge_position[mine]]
    assert ["f3" in name for name in names] == text.hedge_present[mine].tolist()
    assert text.hedge_present[mine].tolist() == [True, True, False, False]
    (one,) = overview([DiagnosedSAE(name="hedging", diagnosis=sure, excerpts=text)]).saes
    named = next(each for each in one.named if each.latent == 2)
    (peak,) = [piece for piece in named.context if piece.peak]
    assert "f3" in peak.text


def test_the_overview_names_the_absorbed_latent_with_a_place_to_check(found, text):
    (one,) = overview([DiagnosedSAE(name="planted", diagnosis=found, excerpts=text)]).saes
    named = next(each for each in one.named if each.verdict == "absorbed")
    assert named.latent == PARENT
    assert "#1 “" in named.sentence
    (peak,) = [piece for piece in named.context if piece.peak]
    assert "f0+f1" in peak.text
    assert peak.level == 0 < peak.other
    assert named.about.startswith("Here #1")


def test_lines_add_up_and_expect_the_errors_that_probabilities_say(found):
    (one,) = overview([DiagnosedSAE(name="planted", diagnosis=found)]).saes
    assert sum(line.count for line in one.lines) == found.width
    assert sum(line.share for line in one.lines) == pytest.approx(1)
    for line in one.lines:
        at = found.chosen == VERDICTS.index(Verdict(line.verdict))
        if line.verdict != "undecided" and at.any():
            expected = 1 - found.probability(line.verdict)[at].mean()
            assert line.wrong == pytest.approx(expected)
        else:
            assert line.wrong is None
    assert [line.verdict for line in one.lines][0::10] == ["clean", "undecided"]


def test_probabilities_of_the_page_stay_on_their_side_of_one_half(found):
    arrays = latents_of(DiagnosedSAE(name="planted", diagnosis=found)).arrays
    for column, verdict in enumerate(VERDICTS):
        above = arrays["probability"][:, column] >= 125
        assert (above == (found.probabilities[:, column] >= 0.5)).all(), verdict


def test_columns_stand_in_the_order_of_their_definitions(found):
    columns = columns_of(found)
    for row, name in zip(columns, COLUMNS, strict=True):
        measured = found.evidence.columns.get(name, np.full(found.width, np.nan))
        np.testing.assert_allclose(row, measured, rtol=1e-3, atol=1e-3, err_msg=name)


def test_a_page_is_the_same_twice_and_after_reading_the_diagnosis_again(found, text, tmp_path):
    found.write(tmp_path / "kept")
    again = Diagnosis.read(tmp_path / "kept")
    pages = [
        write_page(
            diagnosis_report([DiagnosedSAE(name="planted", diagnosis=each, excerpts=text)]),
            tmp_path / str(i),
        ).read_text(encoding="utf-8")
        for i, each in enumerate((found, again))
    ]
    assert pages[0] == pages[1]


def test_nothing_kept_is_allowed(found, sae, store):
    none = excerpts(found, sae, store, config=ExcerptConfig(examples=0, children=0))
    assert len(none.example_latent) == len(none.hole_parent) == 0
    diagnosis_report([DiagnosedSAE(name="planted", diagnosis=found, excerpts=none)]).to_html()


def test_every_verdict_has_a_meaning():
    assert len({meaning(verdict) for verdict in VERDICTS}) == len(VERDICTS)


def test_what_does_not_fit_is_told(found, sae, store):
    with pytest.raises(DataError, match="6000 activations, but the store has 100"):
        excerpts(found, sae, store.part(0, 100))
    with pytest.raises(ConfigError, match="name each, received none"):
        diagnosis_report([])
    one = DiagnosedSAE(name="a", diagnosis=found)
    with pytest.raises(ConfigError, match="name each, received a, a"):
        diagnosis_report([one, one])
    with pytest.raises(ConfigError, match="`examples` must be at least 0, received -1"):
        ExcerptConfig(examples=-1)
    with pytest.raises(ShapeError, match="has 3 latents"):
        DiagnosedLatents(name="x", width=3, samples=0, arrays={"chosen": np.zeros(2)})
    with pytest.raises(ConfigError, match="received odd"):
        DiagnosedLatents(name="x", width=3, samples=0, arrays={"odd": np.zeros(3)})
