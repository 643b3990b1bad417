"""The hedging degree: exact where a change is planted, nothing where all is chance."""

import math
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics.hedging_degree import change_in_span, hedging_degree


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def plain(control, extended, rng, baselines):
    """The published formula for one member, in numpy and without any care for size."""

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def caught(change, span):
        basis, _ = np.linalg.qr(span.T)
        return np.linalg.norm(change @ basis, axis=1)

    width = len(control)
    change = unit(extended[:width]) - unit(control)
    new = unit(extended[width:])
    a = caught(change, new)
    b = np.mean([caught(change, rng.standard_normal(new.shape)) for _ in range(baselines)], axis=0)
    return a, b, a.mean() - b.mean(), max(0.0, (a.mean() - b.mean()) / (1 - b.mean()))


def test_agrees_with_the_plain_formula():
    control, after = rows(1, 7, 30), rows(1, 10, 30, seed=1)
    found = hedging_degree(control, after, generator(), baselines=4000)
    rng = np.random.default_rng(0)
    a, b, difference, rescaled = plain(control[0].numpy(), after[0].numpy(), rng, 4000)
    np.testing.assert_allclose(found.projection_by_latent[0], a, atol=1e-12)
    np.testing.assert_allclose(found.baseline_by_latent[0], b, rtol=0.02)
    assert found.difference.item() == pytest.approx(difference, abs=0.01)
    assert found.rescaled.item() == pytest.approx(rescaled, abs=0.01)


def test_forms_are_what_they_say():
    found = hedging_degree(rows(3, 5, 12), rows(3, 7, 12, seed=1), generator())
    a, b = found.projection, found.baseline
    torch.testing.assert_close(found.difference, a - b)
    torch.testing.assert_close(found.rescaled, ((a - b) / (1 - b)).clamp_min(0))
    torch.testing.assert_close(found.difference_by_latent.mean(-1), found.difference)
    assert (found.rescaled_by_latent.mean(-1) >= found.rescaled - 0.05).all()


@pytest.mark.parametrize("n", [1, 5, 40])
def test_random_new_latents_have_no_degree(n):
    """Changes and new latents that know nothing of each other: the baseline is right."""
    control, after = rows(1, 400, 64), rows(1, 400 + n, 64, seed=1)
    found = hedging_degree(control, after, generator(), baselines=50)
    assert found.difference.item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("degrees", [10, 30, 60])
def test_a_planted_change_gives_its_exact_share(degrees):
    """Each of three latents held sin(angle) of a feature that one new latent takes over."""
    angle = math.radians(degrees)
    eye = torch.eye(50, dtype=torch.float64)
    hedged = math.cos(angle) * eye[:3] + math.sin(angle) * eye[10]
    after = torch.cat([eye[:3], eye[10:12]])
    found = hedging_degree(hedged[None], after[None], generator())
    # what is lost along the new latent is sin(angle); the turn back has a part outside the span
    assert found.projection_by_latent.flatten().tolist() == pytest.approx([math.sin(angle)] * 3)


def test_only_the_latents_that_moved_have_a_degree():
    eye = torch.eye(50, dtype=torch.float64)
    before = torch.stack([eye[0] + eye[5], eye[1], eye[2]])
    found = hedging_degree(before[None], torch.cat([eye[:3], eye[5:6]])[None], generator())
    assert found.projection_by_latent[0].tolist() == pytest.approx([math.sqrt(0.5), 0, 0])
    assert found.baseline_by_latent[0, 1:].tolist() == [0, 0]
    assert found.projection.item() == pytest.approx(math.sqrt(0.5) / 3)


def test_rotation_changes_nothing_but_the_baselines_noise():
    control, after = rows(2, 6, 20), rows(2, 9, 20, seed=1)
    turn = torch.linalg.qr(rows(20, 20, seed=2)).Q
    found = hedging_degree(control, after, generator(), baselines=2000)
    turned = hedging_degree(control @ turn, after @ turn, generator(), baselines=2000)
    torch.testing.assert_close(found.projection_by_latent, turned.projection_by_latent)
    torch.testing.assert_close(
        found.baseline_by_latent, turned.baseline_by_latent, rtol=0.05, atol=0
    )


def test_length_of_rows_does_not_matter():
    control, after = rows(1, 6, 20), rows(1, 9, 20, seed=1)
    lengths = torch.rand(9, 1, generator=generator(3), dtype=torch.float64) + 0.1
    found = hedging_degree(control, after, generator())
    scaled = hedging_degree(7 * control, lengths * after, generator())
    torch.testing.assert_close(found.difference_by_latent, scaled.difference_by_latent)


def test_padded_members_equal_the_members_alone():
    alone = [
        (rows(1, 4, 16), rows(1, 7, 16, seed=1)),
        (rows(1, 6, 16, seed=2), rows(1, 8, 16, seed=3)),
    ]
    control = torch.cat([F.pad(c, [0, 0, 0, 6 - c.shape[1]]) for c, _ in alone])
    extended = torch.cat([F.pad(e, [0, 0, 0, 8 - e.shape[1]]) for _, e in alone])
    together = hedging_degree(control, extended, generator(), widths=(4, 6), extended_widths=(7, 8))
    assert together.projection_by_latent[0].isnan().tolist() == [False] * 4 + [True] * 2
    for member, (before, after) in enumerate(alone):
        own = hedging_degree(before, after, generator())
        for form in ("projection", "baseline", "difference", "rescaled"):
            torch.testing.assert_close(getattr(together, form)[member], getattr(own, form)[0])


def test_pieces_do_not_matter(monkeypatch):
    control, after = rows(2, 50, 16), rows(2, 53, 16, seed=1)
    whole = hedging_degree(control, after, generator())
    monkeypatch.setattr("latent_assay.metrics.directions._ENTRIES", 16 * 7)
    # by its name, as the package may export a function of the same one
    module = sys.modules["latent_assay.metrics.hedging_degree"]
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 6)
    pieces = hedging_degree(control, after, generator())
    torch.testing.assert_close(whole.baseline_by_latent, pieces.baseline_by_latent)
    torch.testing.assert_close(whole.projection_by_latent, pieces.projection_by_latent)


def test_new_latents_that_span_nothing_catch_nothing():
    after = rows(1, 6, 12)
    after[:, 4:] = 0
    found = hedging_degree(rows(1, 4, 12, seed=1), after, generator())
    assert found.projection.item() == found.baseline.item() == 0


def test_the_authors_form_has_no_value_where_chance_catches_everything():
    """Every latent turned around: changes have length 2, of which chance catches more than 1."""
    before = rows(1, 5, 8)
    found = change_in_span(before, -before, rows(1, 7, 8, seed=1), generator())
    assert found.baseline.item() > 1
    assert found.rescaled.isnan().all()


def test_a_change_of_ones_own_is_measured_alike():
    control, after = rows(1, 5, 12), rows(1, 7, 12, seed=1)
    whole = hedging_degree(control, after, generator())
    parts = change_in_span(control, after[:, :5], after[:, 5:], generator())
    torch.testing.assert_close(whole.difference_by_latent, parts.difference_by_latent)


def test_what_does_not_fit_is_refused(as_a_user):
    control, after = rows(2, 4, 6), rows(2, 6, 6)
    with pytest.raises(ShapeError, match="must have the 4 latents of the control and new ones"):
        hedging_degree(control, control, generator())
    with pytest.raises(ShapeError, match="same members and d_in"):
        hedging_degree(control, rows(2, 6, 7), generator())
    with pytest.raises(ShapeError, match=r"must have the \[4, 6\] latents"):
        hedging_degree(control, after, generator(), widths=(4, 6))
    with pytest.raises(ShapeError, match="rows of one shape before and after"):
        change_in_span(control, after, after, generator())
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        hedging_degree(control, after, generator(), baselines=0)
    with pytest.raises(ConfigError, match="6 new latents span all 6 dimensions"):
        hedging_degree(control, rows(2, 10, 6), generator())
    with pytest.raises(DataError, match="`before` is not finite"):
        hedging_degree(control * torch.nan, after, generator())
