"""From cases to a calibration and its figures: what `assay calibrate` does."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from latent_assay.diagnosis.calibration.cases import Effort
from latent_assay.diagnosis.calibration.evidence_used import USES
from latent_assay.diagnosis.calibration.fitting import fitted
from latent_assay.diagnosis.calibration.scoring import scored
from latent_assay.diagnosis.calibration.table import Table, gather, joined
from latent_assay.diagnosis.calibration.truth import BARS
from latent_assay.diagnosis.calibration.worlds import WORLDS
from latent_assay.diagnosis.calibration_model import Calibration
from latent_assay.diagnosis.evidence import Tier


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """A calibration and how it does on worlds that it has not seen."""

    calibration: Calibration
    """What was fitted, or what was given."""
    figures: dict[str, Any]
    """Precision, recall, support and calibration error of each verdict, and more, for JSON."""
    table: Table
    """Every latent behind it."""


def calibrate(
    effort: Effort | None = None,
    *,
    calibration: Calibration | None = None,
    workers: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Calibrated:
    """Fit a calibration on some worlds, and judge it on others.

    **Arguments:**
    - `effort`: how much is built; the full effort if None.
    - `calibration`: one to judge as it is; nothing is fitted then.
    - `workers`: processes; see `gather`. The figures do not depend on it.
    - `progress`: told of each draw of a world that is done.
    """
    effort = effort or Effort()
    begun = time.perf_counter()
    sides = (True,) if calibration is not None else (False, True)
    draws = sum(
        effort.seeds_held_out if named.held_out else effort.seeds_to_fit
        for named in WORLDS
        if named.held_out in sides
    )
    parts = []
    for done, part in enumerate(gather(effort, held_out=sides, workers=workers), start=1):
        parts.append(part)
        if progress is not None:
            progress(f"{done} of {draws} draws of worlds: {part.world[0]}, {len(part)} latents")
    table = joined(parts)
    calibration = fit_table(table, effort) if calibration is None else calibration
    figures = figures_of(table, calibration, effort)
    seconds = round(time.perf_counter() - begun, 1)
    return Calibrated(calibration=calibration, figures={**figures, "seconds": seconds}, table=table)


def fit_table(table: Table, effort: Effort) -> Calibration:
    """Fit a calibration on the rows of a table that are not held out, oracles among them.

    **Arguments:**
    - `table`: latents with evidence and truth.
    - `effort`: what the table was made with, for the provenance.
    """
    fresh = fitted(table.where(~table.held_out), USES)
    return Calibration(models=fresh.models, provenance=_provenance(effort, table))


def figures_of(table: Table, calibration: Calibration, effort: Effort) -> dict[str, Any]:
    """How well a calibration does on the rows of a table that are held out, for JSON.

    **Arguments:** as for `fit_table`.
    """
    held_out = table.where(table.held_out)
    return {
        **scored(held_out, calibration, Tier.ACTIVATIONS),
        "weights_only": scored(held_out, calibration, Tier.WEIGHTS),
        "bars": {verdict.value: asdict(bars) for verdict, bars in BARS.items()},
        "worlds": {
            "fitted": [each.name for each in WORLDS if not each.held_out],
            "held_out": [each.name for each in WORLDS if each.held_out],
        },
        "effort": asdict(effort),
    }


def _provenance(effort: Effort, table: Table) -> dict[str, Any]:
    rows = ~table.held_out
    return {
        "source": "assay calibrate",
        "worlds": sorted(set(table.world[rows].tolist())),
        "latents": int(rows.sum()),
        "effort": asdict(effort),
        "quick": effort.steps < Effort().steps,
    }
