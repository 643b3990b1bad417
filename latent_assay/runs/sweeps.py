"""A grid's metrics against its axes, with the spread over members."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from latent_assay.metrics import METRICS
from latent_assay.plots import Band
from latent_assay.report import Curve, TrainingCurves
from latent_assay.runs.beside_baselines import LABELS, Trained, headline_metrics
from latent_assay.runs.config.grid import word
from latent_assay.runs.data import Data

MOST_LINES = 12
"""More lines than this cannot be told apart in one figure."""


def sweeps(trained: Sequence[Trained], data: Data) -> list[TrainingCurves]:
    """For each grid and each of its axes that counts something, its metrics against that axis.

    A line is what the other axes leave: one for each combination of their values. Where there are
    more than `MOST_LINES`, the section says which are shown.

    **Arguments:**
    - `trained`: the SAEs of a run.
    - `data`: the activations that they were measured on.
    """
    found = []
    for grid in dict.fromkeys(each.plan.grid for each in trained if each.plan.grid):
        own = [each for each in trained if each.plan.grid == grid]
        for axis in own[0].plan.axes:
            values = {each.plan.axes.get(axis) for each in own if _is_number(each, axis)}
            if len(values) > 1 and all(_is_number(each, axis) for each in own):
                found.append(_sweep(own, grid, axis, data))
    return found


def _sweep(trained: Sequence[Trained], grid: str, axis: str, data: Data) -> TrainingCurves:
    lines: dict[str, list[Trained]] = {}
    for each in trained:
        others = [word(k, v) for k, v in each.plan.axes.items() if k != axis]
        lines.setdefault(" ".join([grid, *others]), []).append(each)
    shown = dict(list(lines.items())[:MOST_LINES])
    sentence = "Each point is a setting, measured as in the table; the band spans its members."
    if len(lines) > len(shown):
        sentence += (
            f" The first {len(shown)} of {len(lines)} lines are shown; report.json has every "
            "setting's numbers."
        )
    return TrainingCurves(
        title=f"{grid}: against {axis}",
        step_label=axis,
        sentence=sentence,
        curves=tuple(
            Curve(
                metric=metric,
                label=LABELS[metric],
                definition=METRICS[metric].definition,
                bands=tuple(_band(name, own, axis, metric) for name, own in shown.items()),
            )
            for metric in headline_metrics(data)
        ),
    )


def _band(name: str, trained: Sequence[Trained], axis: str, metric: str) -> Band:
    ordered = sorted(trained, key=lambda each: each.plan.axes[axis])
    values = [each.measurement.metrics[metric].double().numpy() for each in ordered]
    return Band(
        name=name,
        steps=np.array([each.plan.axes[axis] for each in ordered]),
        mean=np.array([_over(np.nanmean, each) for each in values]),
        low=np.array([_over(np.nanmin, each) for each in values]),
        high=np.array([_over(np.nanmax, each) for each in values]),
        members=min(len(each) for each in values),
    )


def _over(reduce: Any, values: np.ndarray) -> float:
    """Of members that have a value; NaN if none has."""
    return float(reduce(values)) if np.isfinite(values).any() else float("nan")


def _is_number(each: Trained, axis: str) -> bool:
    value = each.plan.axes.get(axis)
    return isinstance(value, int | float) and not isinstance(value, bool)
