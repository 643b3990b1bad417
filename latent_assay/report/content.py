"""What a report can hold, as plain data: text, curves, histograms and maps.

Nothing here knows how an SAE is built; everything is numbers, numpy arrays and strings.
The table of metrics is in `metrics_table`, the browser of latents in `latents`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from latent_assay.errors import DataError, ShapeError
from latent_assay.plots import (
    Band,
    Bins,
    History,
    density_bins,
    diagonal_order,
    member_bands,
)
from latent_assay.report.metrics_table import Direction


@dataclass(frozen=True, kw_only=True)
class Prose:
    """Paragraphs of plain text."""

    title: str
    """The section's heading."""
    paragraphs: tuple[str, ...]
    """Shown as they are, with their line breaks; markup in them is shown, not obeyed."""
    tone: Literal["plain", "note", "warning", "verbatim"] = "plain"
    """A note or a warning is set apart from the page; verbatim text keeps its columns."""
    kind: str = field(default="prose", init=False)

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields."""
        return {
            "kind": self.kind,
            "title": self.title,
            "tone": self.tone,
            "paragraphs": list(self.paragraphs),
        }


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric over training, for several SAEs."""

    metric: str
    """Its name in the JSON."""
    label: str
    """Its name on the page."""
    bands: tuple[Band, ...]
    """One for each SAE."""
    direction: Direction = "none"
    """Which way is better."""
    definition: str = ""
    """What it measures, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class TrainingCurves:
    """Metrics over training: mean over members, and the band from the lowest to the highest."""

    title: str
    """The section's heading."""
    curves: tuple[Curve, ...]
    """The metrics."""
    step_label: str = "step"
    """What the horizontal axis counts, such as "samples"."""
    sentence: str = ""
    """What the curves show."""
    kind: str = field(default="training_curves", init=False)

    @classmethod
    def of(
        cls,
        histories: Mapping[str, History],
        *,
        title: str = "Training",
        metrics: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        step_label: str = "step",
        sentence: str = "",
    ) -> "TrainingCurves":
        """The curves of several trainings.

        **Arguments:**
        - `histories`: an SAE's name → what its training recorded.
        - `title`, `step_label`, `sentence`: as the fields.
        - `metrics`: a recorded metric → its definition; all metrics, undefined, if `None`.
        - `labels`: a recorded metric → its name on the page, where that differs.

        **Raises:** `DataError` for a metric that no history recorded.
        """
        recorded = dict.fromkeys(m for history in histories.values() for m in history.values)
        chosen = dict.fromkeys(recorded, "") if metrics is None else dict(metrics)
        missing = sorted(set(chosen) - set(recorded))
        if missing:
            raise DataError(
                f"expected metrics among those recorded ({', '.join(recorded)}), received "
                f"{', '.join(missing)}. Choose among those."
            )
        curves = tuple(
            Curve(
                metric=metric,
                label=(labels or {}).get(metric, metric.replace("_", " ")),
                definition=definition,
                bands=tuple(member_bands(histories, metric)),
            )
            for metric, definition in chosen.items()
        )
        return cls(title=title, curves=curves, step_label=step_label, sentence=sentence)

    def to_json(self) -> dict[str, Any]:
        """Each curve's `series` hold `name`, `members` and the arrays steps, mean, low, high."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "step_label": self.step_label,
            "curves": [
                {
                    "metric": curve.metric,
                    "label": curve.label,
                    "direction": curve.direction,
                    "definition": curve.definition,
                    "series": [
                        {
                            "name": band.name,
                            "members": band.members,
                            "steps": band.steps,
                            "mean": band.mean,
                            "low": band.low,
                            "high": band.high,
                        }
                        for band in curve.bands
                    ],
                }
                for curve in self.curves
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts over one axis, for several SAEs."""

    title: str
    """The section's heading."""
    series: tuple[Bins, ...]
    """One for each SAE."""
    label: str
    """What the axis measures."""
    powers: bool = False
    """Whether the axis is a base-10 logarithm, to be read as powers of ten."""
    count_label: str = "latents"
    """What is counted."""
    outside_label: str = "outside the axis"
    """What to call those that have no place on the axis."""
    sentence: str = ""
    """What the histogram shows."""
    kind: str = field(default="histogram", init=False)

    @classmethod
    def of_densities(
        cls, densities: Mapping[str, Float[np.ndarray, " latent"]], *, bins: int = 40
    ) -> "Histogram":
        """How often latents fire, from the fraction of activations on which each one does."""
        return cls(
            title="How often latents fire",
            series=tuple(density_bins(densities, bins=bins)),
            label="fraction of activations on which a latent fires",
            powers=True,
            outside_label="never fired",
            sentence=(
                "Each SAE's latents by how often they fire. One hill is healthy; a second hill "
                "far to the left is made of latents that are nearly dead, a crowd at the right "
                "of latents that fire on almost everything."
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Each of `series` holds `name`, `edges`, `counts` and `outside`."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "label": self.label,
            "log10": self.powers,
            "count_label": self.count_label,
            "outside_label": self.outside_label,
            "series": [
                {"name": b.name, "edges": b.edges, "counts": b.counts, "outside": b.outside}
                for b in self.series
            ],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class CosineMap:
    """Cosines of one SAE's latents with the true features."""

    name: str
    """The SAE."""
    decoder: Float[np.ndarray, "latent feature"]
    """Cosines of decoder rows."""
    encoder: Float[np.ndarray, "_latent _feature"] | None = None
    """Cosines of encoder rows; `None` for a tied SAE, whose encoder is its decoder."""
    sentence: str = ""
    """What this SAE shows."""
    latents: tuple[str, ...] | None = None
    """Names of the rows; their indices if `None`."""

    def __post_init__(self) -> None:
        if self.encoder is not None and np.shape(self.encoder) != np.shape(self.decoder):
            raise ShapeError(
                f"the maps of '{self.name}' must have one shape [latent, feature], but the "
                f"encoder has {list(np.shape(self.encoder))} and the decoder "
                f"{list(np.shape(self.decoder))}. Compare both with the same features."
            )

    def arranged(self) -> "CosineMap":
        """The same maps with latents in the order that brings the decoder near to a diagonal.

        Rows keep their names, by default the latent's index.
        """
        order = diagonal_order(self.decoder)
        names = self.latents or tuple(str(i) for i in range(len(self.decoder)))
        return CosineMap(
            name=self.name,
            decoder=self.decoder[order],
            encoder=None if self.encoder is None else self.encoder[order],
            sentence=self.sentence,
            latents=tuple(names[i] for i in order),
        )


@dataclass(frozen=True, kw_only=True)
class CosineMaps:
    """Encoder and decoder maps of several SAEs, side by side."""

    title: str
    """The section's heading."""
    maps: tuple[CosineMap, ...]
    """One for each SAE, left to right."""
    features: tuple[str, ...] | None = None
    """Names of the columns; their indices if `None`."""
    sentence: str = ""
    """What the maps show."""
    kind: str = field(default="cosine_maps", init=False)

    def __post_init__(self) -> None:
        counts = {m.name: np.shape(m.decoder)[-1] for m in self.maps}
        if self.features is not None:
            counts["the list of names"] = len(self.features)
        if len(set(counts.values())) > 1:
            raise ShapeError(
                f"maps side by side need the same features, but the numbers of features are "
                f"{counts}. Compare SAEs of one world, or give each world a section of its own."
            )

    def to_json(self) -> dict[str, Any]:
        """Each map holds `name`, `sentence`, `latents`, `decoder`, `encoder` (null if tied)."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "features": _names(self.features, [m.decoder.shape[1] for m in self.maps]),
            "maps": [
                {
                    "name": m.name,
                    "sentence": m.sentence,
                    "latents": _names(m.latents, [len(m.decoder)]),
                    "encoder": m.encoder,
                    "decoder": m.decoder,
                }
                for m in self.maps
            ],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Firing:
    """How often one SAE's latents fire when each feature does."""

    name: str
    """The SAE."""
    probabilities: Float[np.ndarray, "latent feature"]
    """P(latent fires | feature fires)."""
    sentence: str = ""
    """What this SAE shows."""
    latents: tuple[str, ...] | None = None
    """Names of the rows; their indices if `None`."""


@dataclass(frozen=True, kw_only=True)
class FiringTable:
    """Which latents answer to which features, side by side for several SAEs."""

    title: str
    """The section's heading."""
    tables: tuple[Firing, ...]
    """One for each SAE."""
    features: tuple[str, ...] | None = None
    """Names of the columns; their indices if `None`."""
    sentence: str = ""
    """What the tables show."""
    kind: str = field(default="firing_table", init=False)

    def to_json(self) -> dict[str, Any]:
        """Each table holds `name`, `sentence`, `latents` and `probabilities`."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "features": _names(self.features, [t.probabilities.shape[1] for t in self.tables]),
            "tables": [
                {
                    "name": t.name,
                    "sentence": t.sentence,
                    "latents": _names(t.latents, [len(t.probabilities)]),
                    "probabilities": t.probabilities,
                }
                for t in self.tables
            ],
        }


def _names(names: Sequence[str] | None, sizes: Sequence[int]) -> list[str]:
    if names is not None:
        return list(names)
    return [str(i) for i in range(max(sizes, default=0))]
