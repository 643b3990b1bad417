"""Values as curves of a report."""

import numpy as np
import pytest
import torch

from latent_assay.reproductions.curves import axis, line, member_band


@pytest.mark.parametrize("kind", [tuple, torch.tensor])
def test_axis_counts_in_whole_numbers(kind):
    found = axis(kind([0.0, 0.29, -0.5]), 100)
    assert found.dtype == np.int64
    assert found.tolist() == [0, 29, -50]


def test_line_has_no_width():
    band = line("l1", axis((0.0, 0.1), 100), torch.tensor([0.3, 0.25]))
    assert band.steps.tolist() == [0, 10]
    assert band.mean.tolist() == pytest.approx([0.3, 0.25])
    assert (band.low == band.mean).all()
    assert (band.high == band.mean).all()
    assert band.members == 1


def test_member_band_spans_the_members_at_each_point():
    band = member_band("cosine", np.array([1, 2]), torch.tensor([[0.0, 3.0, 6.0], [1.0, 1.0, 1.0]]))
    assert band.mean.tolist() == [3.0, 1.0]
    assert band.low.tolist() == [0.0, 1.0]
    assert band.high.tolist() == [6.0, 1.0]
    assert band.members == 3
