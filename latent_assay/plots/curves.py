"""Training curves: a line for the mean over members, a band from the lowest to the highest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.plots import style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

MOST_POINTS = 400


@runtime_checkable
class History(Protocol):
    """What training recorded: one row of metrics for each time that they were read."""

    @property
    def steps(self) -> np.ndarray:
        """When each record was taken, shape `[record]`, rising."""

    @property
    def values(self) -> Mapping[str, np.ndarray]:
        """A metric's name → its values, shape `[record, member]`; NaN where there is none."""

    @property
    def members(self) -> int:
        """How many SAEs were trained side by side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """One metric of one ensemble over training."""

    name: str
    """Whose curve this is."""
    steps: Int[np.ndarray, " record"] | Float[np.ndarray, " record"]
    """When each record was taken, or what else the horizontal axis counts."""
    mean: Float[np.ndarray, " record"]
    """Mean over members; NaN where nothing was recorded."""
    low: Float[np.ndarray, " record"]
    """The lowest member."""
    high: Float[np.ndarray, " record"]
    """The highest member."""
    members: int = 1
    """How many members the band spans."""

    def __post_init__(self) -> None:
        shapes = {np.shape(a) for a in (self.steps, self.mean, self.low, self.high)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ShapeError(
                f"the curve '{self.name}' needs steps, mean, low and high of one shape [record], "
                f"but they have the shapes {sorted(shapes)}. Give one value for each record."
            )


def member_bands(histories: Mapping[str, History], metric: str) -> list[Band]:
    """The mean and the range over members of one metric, for every history that has it.

    A record in which some member has no value (NaN) is averaged over the others.

    **Arguments:**
    - `histories`: a name → what its training recorded.
    - `metric`: which of the recorded metrics.

    **Raises:** `ShapeError` if the values are not `[record, member]`.
    """
    found = []
    for name, history in histories.items():
        recorded = history.values.get(metric)
        if recorded is None:
            continue
        values = np.asarray(recorded, dtype=np.float64)
        steps = np.asarray(history.steps).astype(np.int64)
        if values.ndim != 2 or len(values) != len(steps):
            raise ShapeError(
                f"the history of '{name}' holds {len(steps)} steps, so '{metric}' must have the "
                f"shape [{len(steps)}, member], but it has {list(values.shape)}. "
                "Record one row per step and one column per member."
            )
        values = np.where(np.isfinite(values), values, np.nan)
        known = ~np.isnan(values).all(axis=1)
        mean, low, high = (np.full(len(values), np.nan) for _ in range(3))
        mean[known] = np.nanmean(values[known], axis=1)
        low[known] = np.nanmin(values[known], axis=1)
        high[known] = np.nanmax(values[known], axis=1)
        found.append(
            Band(name=name, steps=steps, mean=mean, low=low, high=high, members=values.shape[1])
        )
    return found


def training_curves(
    histories: Mapping[str, History],
    metrics: Sequence[str] | None = None,
    *,
    log: bool = False,
    columns: int = 3,
    step_label: str = "step",
) -> "matplotlib.figure.Figure":
    """One panel for each metric, one curve for each history.

    **Arguments:**
    - `histories`: a name → what its training recorded.
    - `metrics`: which metrics, in this order; all that were recorded if `None`.
    - `log`: a logarithmic vertical scale. Values that are not positive are left out.
    - `columns`: how many panels stand side by side at most.
    - `step_label`: what the horizontal axis counts.

    **Raises:** `ConfigError` for a metric that no history recorded.
    """
    recorded = list(dict.fromkeys(m for history in histories.values() for m in history.values))
    metrics = recorded if metrics is None else list(metrics)
    missing = [metric for metric in metrics if metric not in recorded]
    if missing or not metrics:
        raise ConfigError(
            f"expected metrics among those recorded ({', '.join(recorded) or 'there are none'}), "
            f"received {', '.join(missing) or 'none'}. Choose among those, or train with "
            "recording switched on."
        )
    columns = min(columns, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure, axes = style.new_figure(340 * columns, 230 * rows, rows=rows, columns=columns)
    order = list(histories)
    for panel, metric in zip(axes, metrics, strict=False):
        style.heading(panel, metric)
        _draw(panel, member_bands(histories, metric), order, log=log, step_label=step_label)
    for panel in axes[len(metrics) :]:
        panel.set_visible(False)
    if len(order) > 1:
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=colour, linestyle=style.line_pattern(i), linewidth=1.8)
            for i, colour in enumerate(style.series_colours(len(order)))
        ]
        legend = figure.legend(
            handles,
            style.legend_entries(order),
            loc="outside upper left",
            ncols=min(4, len(order)),
            frameon=False,
            fontsize=style.TEXT,
            labelcolor=style.INK,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def curve_panel(
    bands: Sequence[Band],
    *,
    log: bool = False,
    step_label: str = "step",
    order: Sequence[str] = (),
    width: int = 340,
    height: int = 220,
) -> "matplotlib.figure.Figure":
    """One metric, without title or legend, for a page that sets them itself.

    **Arguments:**
    - `bands`: the curves.
    - `log`: a logarithmic vertical scale. Values that are not positive are left out.
    - `step_label`: what the horizontal axis counts.
    - `order`: names that fix which colour each curve gets; by default the curves' own order.
    - `width`, `height`: in CSS pixels.
    """
    figure, (panel,) = style.new_figure(width, height)
    names = list(dict.fromkeys([*order, *(band.name for band in bands)]))
    _draw(panel, bands, names, log=log, step_label=step_label)
    return figure


def _draw(
    panel: "matplotlib.axes.Axes",
    bands: Sequence[Band],
    order: Sequence[str],
    *,
    log: bool,
    step_label: str,
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if log:
        panel.set_yscale("log")
        spans = [b.mean[b.mean > 0] for b in bands]
        values = np.concatenate([s for s in spans if len(s)] or [np.ones(1)])
        narrow = values.max() < 30 * values.min()
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=7))
        panel.yaxis.set_minor_locator(NullLocator())
    else:
        panel.yaxis.set_major_locator(MaxNLocator(nbins=4))
    panel.yaxis.set_major_formatter(FuncFormatter(style.compact))
    whole = all(np.issubdtype(band.steps.dtype, np.integer) for band in bands)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=whole))
    panel.xaxis.set_major_formatter(FuncFormatter(style.compact))
    panel.set_xlabel(style.plain(step_label), loc="right")
    style.quiet_grid(panel, "y")
    panel.margins(x=0.02, y=0.06)
    colours = style.series_colours(len(order))
    for band in bands:
        index = order.index(band.name)
        steps, mean, low, high = _thinned(band)
        if log:
            mean, low, high = (np.where(v > 0, v, np.nan) for v in (mean, low, high))
        if band.members > 1:
            panel.fill_between(steps, low, high, color=colours[index], alpha=0.16, linewidth=0)
        alone = np.isfinite(mean).sum() == 1
        panel.plot(
            steps,
            mean,
            color=colours[index],
            linestyle=style.line_pattern(index),
            linewidth=1.8,
            marker="o" if alone else "",
            markersize=4,
        )
    bottom, top = panel.get_ylim()
    if not log and bottom < 0 <= panel.dataLim.y0:  # no room for what cannot be, such as -1 dead
        top = top if panel.dataLim.y1 > 0 else 1.0
        panel.set_ylim(-0.02 * top, top)


def _thinned(band: Band) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """At most `MOST_POINTS` points: neighbours are merged so that the band keeps its extremes."""
    count = len(band.steps)
    if count <= MOST_POINTS:
        return band.steps, band.mean, band.low, band.high
    group = np.arange(count) * MOST_POINTS // count
    starts = np.searchsorted(group, np.arange(MOST_POINTS))
    sizes = np.diff(np.append(starts, count))
    mean = np.add.reduceat(band.mean, starts) / sizes
    low = np.minimum.reduceat(band.low, starts)
    high = np.maximum.reduceat(band.high, starts)
    return band.steps[starts + sizes - 1], mean, low, high
