"""Who gave most to whom, when all is planted."""

import math

import pytest
import torch
from torch.nn import functional as F

from latent_assay.diagnosis import handover
from latent_assay.errors import ConfigError, ShapeError
from latent_assay.metrics import directions

EYE = torch.eye(20, dtype=torch.float64)


def planted():
    """Old 1 and 3 hedged feature 10 (new latent 6), old 2 the absence of feature 11 (new 5)."""
    before = EYE[:5].clone()
    before[1] = math.cos(0.5) * EYE[1] + math.sin(0.5) * EYE[10]
    before[3] = math.cos(0.2) * EYE[3] + math.sin(0.2) * EYE[10]
    before[2] = math.cos(0.4) * EYE[2] - math.sin(0.4) * EYE[11]
    after = torch.cat([EYE[:5], EYE[[11, 10]]])
    return before, after


def test_planted_handovers_are_found():
    found = handover(*planted(), cases=2, top=2)
    assert found.new.tolist() == [6, 5]
    assert found.old[0].tolist() == [1, 3]
    assert found.loss[0].tolist() == pytest.approx([math.sin(0.5), math.sin(0.2)])
    assert found.old[1, 0].item() == 2
    assert found.before[1, 0].item() == pytest.approx(-math.sin(0.4))
    assert found.after[1, 0].item() == pytest.approx(0)
    assert found.loss[1, 0].item() == pytest.approx(-math.sin(0.4))


def test_agrees_with_the_plain_formula_in_any_pieces(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(40, 9, generator=generator)
    after = torch.randn(45, 9, generator=generator)
    unit = F.normalize(after.double(), dim=-1)
    loss = (F.normalize(before.double(), dim=-1) - unit[:40]) @ unit[40:].T
    monkeypatch.setattr(directions, "_ENTRIES", 7 * 9)
    found = handover(before, after, cases=5, top=4)
    for case, new in enumerate(found.new.tolist()):
        best = loss[:, new - 40].abs().topk(4)
        assert found.old[case].tolist() == best.indices.tolist()
        torch.testing.assert_close(found.loss[case], loss[best.indices, new - 40])
    strongest = found.loss[:, 0].abs()
    assert (strongest.diff() <= 0).all()


def test_more_than_there_are():
    found = handover(*planted(), cases=10, top=10)
    assert found.old.shape == (2, 5)


def test_what_cannot_be_is_refused():
    before, after = planted()
    with pytest.raises(ShapeError, match="new ones behind them, got 5 rows"):
        handover(before, before)
    with pytest.raises(ConfigError, match="at least 1, got 0 and 4"):
        handover(before, after, cases=0)
