"""Every plot, as functions that return a matplotlib `Figure`.

Nothing here touches pyplot or any other global state, so figures may be drawn in threads and
in notebooks alike. Matplotlib itself is imported when the first figure is drawn.

`inline_svg` turns a figure into markup for a web page whose colours follow the page's theme.
"""

from latent_assay.plots.bars import MetricBar, metric_bars
from latent_assay.plots.curves import Band, History, curve_panel, member_bands, training_curves
from latent_assay.plots.histogram import Bins, density_bins, density_histogram, histogram
from latent_assay.plots.maps import cosine_map, cosine_maps, diagonal_order, firing_map
from latent_assay.plots.svg import inline_svg

__all__ = [
    "Band",
    "Bins",
    "History",
    "MetricBar",
    "cosine_map",
    "cosine_maps",
    "curve_panel",
    "density_bins",
    "density_histogram",
    "diagonal_order",
    "firing_map",
    "histogram",
    "inline_svg",
    "member_bands",
    "metric_bars",
    "training_curves",
]
