"""Comparison of a grid's settings at equal FVU."""

import numpy as np
import pytest

from latent_assay.runs.matched import Measured, crossing, matched_fvu


def setting(alpha: float, k: int, fvu: list[float], grid: str = "WSAE") -> Measured:
    metrics = {"fvu": np.array(fvu), "l0": np.array([float(k)] * len(fvu))}
    return Measured(grid=grid, axes={"alpha": alpha, "k": k}, metrics=metrics)


LINE = [setting(0, 8, [0.6, 0.5]), setting(0, 16, [0.4, 0.3]), setting(0, 32, [0.2, 0.1])]


def test_l0_is_read_off_member_by_member_between_neighbours():
    # halfway from 8 to 16 in the logarithm; the second member from 16 to 8 by a quarter less
    found = crossing(LINE, "l0", 0.5)
    assert found == pytest.approx([np.sqrt(8 * 16), 8.0])
    assert crossing(LINE, "l0", 0.35) == pytest.approx([16 * 2**0.25, 16 / 2**0.25])


def test_beyond_its_settings_a_line_has_no_number():
    assert np.isnan(crossing(LINE, "l0", 0.55)).tolist() == [False, True]


def test_the_table_reads_every_line_at_the_first_ones_middle():
    worse = [setting(1, k, [each + 0.05 for each in fvu]) for k, fvu in
             ((8, [0.6, 0.5]), (16, [0.4, 0.3]), (32, [0.2, 0.1]))]  # fmt: skip
    (table,) = matched_fvu([*LINE, *worse])
    assert table.title == "WSAE: at equal FVU"
    first, second = table.rows
    assert first.name == "WSAE alpha 0"
    key = table.columns[0].key
    assert second.cells[key].mean > first.cells[key].mean  # worse, so that more must fire
    assert "FVU 0.350" in table.sentence


@pytest.mark.parametrize(
    "settings",
    [
        LINE,  # nothing to compare with
        [setting(0, 8, [0.5]), setting(1, 8, [0.5])],  # no line
        [setting(0, 8, [0.5], grid="")],  # no grid
    ],
)
def test_without_lines_to_compare_there_is_no_table(settings):
    assert matched_fvu(settings) == []
