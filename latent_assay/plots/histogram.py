"""Histograms, drawn as outlines so that several can share one panel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from latent_assay.errors import DataError, ShapeError
from latent_assay.plots import style

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Counts between edges."""

    name: str
    """Whose histogram this is."""
    edges: Float[np.ndarray, " edge"]
    """Rising; bin `i` lies between `edges[i]` and `edges[i + 1]`."""
    counts: Int[np.ndarray, " bin"]
    """How many fell into each bin."""
    outside: int = 0
    """How many have no place on the axis, such as latents that never fire on a log axis."""

    def __post_init__(self) -> None:
        if np.ndim(self.counts) != 1 or np.shape(self.edges) != (len(self.counts) + 1,):
            raise ShapeError(
                f"the histogram '{self.name}' needs one edge more than counts, but it has "
                f"{np.shape(self.edges)} edges and {np.shape(self.counts)} counts. "
                "Pass what `numpy.histogram` returns."
            )


def density_bins(
    densities: Mapping[str, Float[np.ndarray, " latent"]], *, bins: int = 40
) -> list[Bins]:
    r"""Histograms of $\log_{10}$ of how often latents fire, over bins shared by all SAEs.

    Latents that never fire have no logarithm; they are counted in `Bins.outside`.

    **Arguments:**
    - `densities`: an SAE's name → the fraction of activations on which each latent fires.
    - `bins`: how many bins.

    **Raises:** `DataError` if a density is outside [0, 1].
    """
    logs = {}
    for name, density in densities.items():
        values = np.asarray(density, dtype=np.float64)
        if not ((values >= 0) & (values <= 1)).all():
            raise DataError(
                f"densities are fractions, so those of '{name}' must lie in [0, 1], but they "
                f"reach from {values.min():g} to {values.max():g}. Divide the firing counts by "
                "the number of activations."
            )
        logs[name] = np.log10(values[values > 0])
    alive = np.concatenate([*logs.values(), np.array([], dtype=np.float64)])
    low = np.floor(2 * alive.min()) / 2 if len(alive) else -1.0
    edges = np.linspace(min(low, -0.5), 0.0, bins + 1)
    return [
        Bins(
            name=name,
            edges=edges,
            counts=np.histogram(values, edges)[0].astype(np.int64),
            outside=int(np.size(densities[name]) - len(values)),
        )
        for name, values in logs.items()
    ]


def histogram(
    series: Sequence[Bins],
    *,
    label: str = "",
    count_label: str = "latents",
    powers: bool = False,
    order: Sequence[str] = (),
    width: int = 520,
    height: int = 240,
) -> "matplotlib.figure.Figure":
    """One panel of outlined histograms, without a legend.

    **Arguments:**
    - `series`: the histograms.
    - `label`: what the horizontal axis measures.
    - `count_label`: what is counted.
    - `powers`: whether the axis is a base-10 logarithm whose ticks read as powers of ten.
    - `order`: names that fix which colour each one gets; by default their own order.
    - `width`, `height`: in CSS pixels.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure, (panel,) = style.new_figure(width, height)
    names = list(dict.fromkeys([*order, *(bins.name for bins in series)]))
    colours = style.series_colours(len(names))
    for bins in series:
        index = names.index(bins.name)
        panel.stairs(bins.counts, bins.edges, fill=True, color=colours[index], alpha=0.16)
        panel.stairs(
            bins.counts,
            bins.edges,
            color=colours[index],
            linewidth=1.6,
            linestyle=style.line_pattern(index),
            label=style.legend_entries([bins.name])[0],
        )
    panel.set_xlabel(style.plain(label))
    panel.set_ylabel(style.plain(count_label))
    panel.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    panel.yaxis.set_major_formatter(FuncFormatter(style.compact))
    panel.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=powers))
    if powers:
        panel.xaxis.set_major_formatter(FuncFormatter(lambda v, _: style.compact(10.0**v)))
    else:
        panel.xaxis.set_major_formatter(FuncFormatter(style.compact))
    style.quiet_grid(panel, "y")
    panel.margins(x=0.01)
    panel.set_ylim(bottom=0)
    return figure


def density_histogram(
    densities: Mapping[str, Float[np.ndarray, " latent"]], *, bins: int = 40
) -> "matplotlib.figure.Figure":
    r"""How often latents fire: a histogram of $\log_{10}$ density for each SAE.

    A healthy SAE shows one hill; a second hill far to the left is made of latents that are
    nearly dead. The legend counts those that never fired.

    **Arguments:**
    - `densities`: an SAE's name → the fraction of activations on which each latent fires.
    - `bins`: how many bins.

    **Raises:** `DataError` if a density is outside [0, 1].
    """
    series = density_bins(densities, bins=bins)
    figure = histogram(series, label="fraction of activations on which a latent fires", powers=True)
    panel = figure.axes[0]
    handles, _ = panel.get_legend_handles_labels()
    names = [f"{b.name} ({b.outside} never fire)" if b.outside else b.name for b in series]
    legend = panel.legend(
        handles,
        style.legend_entries(names),
        frameon=False,
        fontsize=style.TEXT,
        labelcolor=style.INK,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure
