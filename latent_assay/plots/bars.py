"""One metric compared over SAEs and baselines: a dot for the mean, a whisker for the sd."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from latent_assay.plots import style

if TYPE_CHECKING:
    import matplotlib.figure

Kind = Literal["trained", "baseline", "oracle"]


@dataclass(frozen=True, kw_only=True)
class MetricBar:
    """One row of the comparison."""

    name: str
    """An SAE or a baseline."""
    mean: float | int | None
    """Mean over members; `None` where the metric is not defined."""
    sd: float | int | None = None
    """Standard deviation over members; `None` when there is only one."""
    kind: Kind = "trained"
    """Trained rows are filled dots, baselines are hollow, the oracle is a diamond."""


def metric_bars(
    rows: Sequence[MetricBar],
    *,
    label: str = "",
    order: Sequence[str] = (),
    width: int = 340,
) -> "matplotlib.figure.Figure":
    """A dot with a whisker of one standard deviation for each row, top to bottom.

    Rows without a finite mean keep their line and show a dash.

    **Arguments:**
    - `rows`: what is compared.
    - `label`: the metric's name.
    - `order`: names that fix which colour each trained row gets; by default their own order.
    - `width`: in CSS pixels.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure, (panel,) = style.new_figure(width, 46 + 24 * max(1, len(rows)))
    trained = [row.name for row in rows if row.kind == "trained"]
    names = list(dict.fromkeys([*order, *trained]))
    colours = style.series_colours(len(names))
    known = [row.mean for row in rows if row.mean is not None and math.isfinite(row.mean)]
    for height, row in enumerate(rows):
        if row.mean is None or not math.isfinite(row.mean):
            panel.text(
                0.0, height, "—", color=style.MUTED, fontsize=style.TEXT, va="center",
                transform=panel.get_yaxis_transform(),
            )  # fmt: skip
            continue
        colour = {"baseline": style.MUTED, "oracle": style.ORACLE}.get(row.kind)
        colour = colour or colours[names.index(row.name)]
        panel.errorbar(
            row.mean,
            height,
            xerr=row.sd if row.sd is not None and math.isfinite(row.sd) else None,
            fmt="D" if row.kind == "oracle" else "o",
            color=colour,
            markerfacecolor=style.PAPER if row.kind == "baseline" else colour,
            markeredgewidth=1.5,
            markersize=6,
            elinewidth=1.6,
            capsize=0,
        )
    panel.set_yticks(range(len(rows)), [style.shortened(row.name) for row in rows])
    for tick, row in zip(panel.get_yticklabels(), rows, strict=True):
        tick.set(parse_math=False, color=style.INK if row.kind == "trained" else style.MUTED)
    panel.set_ylim(max(1, len(rows)) - 0.4, -0.6)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=4))
    panel.xaxis.set_major_formatter(FuncFormatter(style.compact))
    if len(set(known)) <= 1:  # nothing to scale by
        middle = known[0] if known else 0.0
        panel.set_xlim(middle - 0.5, middle + 0.5)
    panel.margins(x=0.08)
    panel.set_xlabel(style.plain(label), loc="right")
    style.quiet_grid(panel, "x")
    return figure
