"""What to choose on one axis, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latent_assay.diagnosis.choosing.levelling import Levelling
from latent_assay.diagnosis.choosing.minimum import Minimum
from latent_assay.diagnosis.choosing.sweep import Hedging, Sweep


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """Advice on one axis."""

    sweep: Sweep | None
    """What it rests on; None where it rests on extensions alone."""
    name: str
    """The grid or extension."""
    label: str
    """What `best`, `low` and `high` count."""
    best: float | None
    """The value to take; None where nothing can be said."""
    low: float | None
    """It lies above this; None if the grid leaves that open."""
    high: float | None
    """It lies below this; None if the grid leaves that open."""
    determined: bool
    """Whether the grid encloses it."""
    advice: str
    """What to do, in plain words."""
    evidence: tuple[str, ...]
    """What was seen, a sentence each."""
    readings: Mapping[str, Minimum | Levelling]
    """Curve → what it says by itself."""
    hedging: Hedging | None = None
    """Hedging degrees, where they were measured."""

    def to_json(self) -> dict[str, Any]:
        """`kind`, `name`, `label`, `best`, `low`, `high`, `determined`, `advice`, `evidence`,
        `readings`; `values` and `settings`, and `curves`: metric → a list for each setting with
        the mean of each member; `hedging`: width → `degree` and `null`, mean and sd."""
        sweep = self.sweep
        content: dict[str, Any] = {
            "kind": "width" if sweep is None else sweep.kind,
            "name": self.name,
            "label": self.label,
            "best": self.best,
            "low": self.low,
            "high": self.high,
            "determined": self.determined,
            "advice": self.advice,
            "evidence": list(self.evidence),
            "readings": {name: each.to_json() for name, each in self.readings.items()},
        }
        if sweep is not None:
            content |= {
                "axis": sweep.axis,
                "values": list(sweep.values),
                "settings": list(sweep.settings),
                "curves": {name: each.mean(2).tolist() for name, each in sweep.curves.items()},
            }
        if self.hedging is not None:
            content["hedging"] = {
                str(width): {
                    "degree": {"mean": degree.mean, "sd": degree.sd},
                    "null": {
                        "mean": self.hedging.null[width].mean,
                        "sd": self.hedging.null[width].sd,
                    },
                }
                for width, degree in self.hedging.degree.items()
            }
        return content
