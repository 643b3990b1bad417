"""Settings of a grid compared where they leave the same variance unexplained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from latent_assay.metrics import METRICS
from latent_assay.report import Cell, Column, MetricsTable, Row
from latent_assay.runs.config.grid import word

SPARSITY = ("k", "l1", "target_l0")
"""Axes of a grid along which SAEs trade firing for reconstruction."""

_CARRIED = ("l0", "frac_alive", "shrinkage")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A setting of a grid and its numbers."""

    grid: str
    """The grid it is of."""
    axes: Mapping[str, object]
    """Axis → value."""
    metrics: Mapping[str, np.ndarray]
    """Metric → its value for each member."""


def matched_fvu(measured: Sequence[Measured]) -> list[MetricsTable]:
    r"""For every grid with a sparsity among its axes, a table of all others at equal FVU.

    Two objectives are not comparable at equal L0 if one of them reconstructs worse, as a reweighted
    one does. Each combination of the other axes is a line of points (FVU, L0), one for each
    sparsity; where the line crosses a reference FVU, its L0 is read off, between neighbours by the
    straight line in $(\mathrm{FVU}, \log L0)$, member by member. The reference is the mean FVU of
    the first line's middle setting. A line that does not reach it has no number.

    **Arguments:**
    - `measured`: the settings; those of no such grid are passed over.
    """
    tables = []
    for grid in dict.fromkeys(each.grid for each in measured if each.grid):
        own = [each for each in measured if each.grid == grid]
        axis = next((each for each in SPARSITY if each in own[0].axes), None)
        if axis is None:
            continue
        lines: dict[str, list[Measured]] = {}
        for each in own:
            others = [word(name, v) for name, v in each.axes.items() if name != axis]
            lines.setdefault(" ".join([grid, *others]), []).append(each)
        if len(lines) > 1 and all(len(line) > 1 for line in lines.values()):
            tables.append(_table(grid, axis, lines))
    return tables


def _table(grid: str, axis: str, lines: Mapping[str, Sequence[Measured]]) -> MetricsTable:
    first = sorted(next(iter(lines.values())), key=lambda each: each.metrics["fvu"].mean())
    reference = float(first[len(first) // 2].metrics["fvu"].mean())
    shown = [name for name in _CARRIED if all(name in e.metrics for e in first)]
    return MetricsTable(
        title=f"{grid}: at equal FVU",
        columns=tuple(
            Column(
                key=METRICS[name].id,
                label={"l0": "L0", "frac_alive": "alive"}.get(name, name),
                direction="none",
                definition=f"{METRICS[name].definition} Read off at FVU {reference:.3f}.",
                digits=2 if name == "l0" else 3,
            )
            for name in shown
        ),
        rows=tuple(
            Row(
                name=name,
                kind="trained",
                note=f"FVU {min(fvu):.3f} to {max(fvu):.3f} over {axis}",
                cells={
                    METRICS[metric].id: Cell.over(crossing(line, metric, reference).tolist())
                    for metric in shown
                },
            )
            for name, line in lines.items()
            for fvu in [[float(each.metrics["fvu"].mean()) for each in line]]
        ),
        ranked=False,
        sentence=(
            f"Where each line over {axis} leaves FVU {reference:.3f}, which the first has in its "
            "middle setting; between settings it is interpolated, beyond them there is no number."
        ),
    )


def crossing(line: Sequence[Measured], metric: str, reference: float) -> np.ndarray:
    """A metric of each member where its FVU is a reference.

    **Arguments:**
    - `line`: settings that differ in sparsity.
    - `metric`: which; a positive one is interpolated by its logarithm if it is the L0.
    - `reference`: the FVU.

    **Returns:** a number for each member, NaN where the line does not reach the reference.
    """
    fvu = np.stack([each.metrics["fvu"] for each in line])
    value = np.stack([each.metrics[metric] for each in line]).astype(np.float64)
    if metric == "l0":
        with np.errstate(divide="ignore"):
            value = np.log(value)
    found = np.full(fvu.shape[1], np.nan)
    for member in range(fvu.shape[1]):
        order = np.argsort(fvu[:, member])
        for a, b in pairwise(order):
            low, high = fvu[a, member], fvu[b, member]
            if low <= reference <= high:
                part = 0.0 if high == low else (reference - low) / (high - low)
                found[member] = (1 - part) * value[a, member] + part * value[b, member]
                break
    return np.exp(found) if metric == "l0" else found
