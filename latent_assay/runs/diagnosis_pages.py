"""The diagnosis at the end of a run: a page of its own, and an overview for the report."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latent_assay import __version__
from latent_assay.diagnosis import diagnose
from latent_assay.diagnosis.calibration import truth
from latent_assay.diagnosis.pages import (
    DiagnosedSAE,
    diagnosis_report,
    excerpts,
    overview,
    write_page,
)
from latent_assay.diagnosis.pages.page import PAGE
from latent_assay.errors import AssayError
from latent_assay.report import Prose
from latent_assay.report.diagnosis import VerdictOverview
from latent_assay.runs.data import Data
from latent_assay.runs.diagnosing import TRUTH_SAMPLES, Rows
from latent_assay.runs.folder import slug
from latent_assay.runs.world_data import WorldData
from latent_assay.sae import SAE

FOLDER = "diagnosis"
"""Where in a run's folder the numbers of each diagnosis lie."""
MOST_SAES = 4
"""A run's report diagnoses so many SAEs; `assay diagnose` does others."""
_FEWEST, _MOST = 10_000, 40_000
_ENTRIES = 2**28
"""Latent activations that are looked at, within the bounds above."""
_BATCH = 4_096


@dataclass(frozen=True, kw_only=True, eq=False)
class Patient:
    """An SAE of a run that is to be diagnosed."""

    name: str
    """Its name."""
    sae: SAE
    """The SAE as saved; takes raw activations."""
    member: int
    """Which member."""
    data: Data
    """The activations that it reads."""


def diagnose_run(
    folder: Path,
    patients: Sequence[Patient],
    *,
    title: str,
    advance: Callable[[], object] | None = None,
) -> tuple[VerdictOverview | Prose, dict[str, list[str]]]:
    """Diagnose SAEs of a run, and write `diagnosis.html` and a folder of numbers for each.

    Activations are bounded, so that this takes seconds: text that the SAEs were trained on, other
    stored activations, or fresh samples of the world, whose truth is then shown too.

    **Arguments:**
    - `folder`: the run's.
    - `patients`: at most the first `MOST_SAES` are diagnosed.
    - `title`: the run's.
    - `advance`: called after each SAE.

    **Returns:** the overview, or the reason why there is none; and the verdict of each latent, for
    each SAE.
    """
    chosen = patients[:MOST_SAES]
    try:
        found = [_diagnosed(each, folder, advance) for each in chosen]
        page = diagnosis_report(
            found,
            title=f"Diagnosis: {title}",
            summary=_told(len(patients)),
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        write_page(page, folder)
    except AssayError as error:
        return Prose(title="Diagnosis", paragraphs=(f"Not made: {error}",), tone="note"), {}
    labels = {
        each.name: [each.diagnosis.verdict(i).value.replace("_", " ") for i in range(width)]
        for each in found
        for width in (each.diagnosis.width,)
    }
    return overview(found, page=PAGE), labels


def _told(number: int) -> str:
    left = number - MOST_SAES
    if left <= 0:
        return ""
    return (
        f"The first {MOST_SAES} of {number} SAEs were diagnosed; `assay diagnose` does the others."
    )


def _diagnosed(
    patient: Patient, folder: Path, advance: Callable[[], object] | None
) -> DiagnosedSAE:
    sae, data, member = patient.sae, patient.data, patient.member
    most = max(_FEWEST, min(_MOST, _ENTRIES // max(sae.widths)))
    store = data.text
    batches: Iterable[Tensor]
    if store is not None:
        store = store.part(0, min(most, store.n_rows))
        batches = Rows(store)
    elif isinstance(data, WorldData):
        batches = _samples(data, most)
    else:
        batches = data.excerpt(most).split(_BATCH)
    about: dict[str, Any] = {"sae": patient.name, "member": member, "version": __version__}
    found = diagnose(sae, batches, member=member, provenance=about)
    found.write(folder / FOLDER / slug(patient.name))
    text = None if store is None else excerpts(found, sae, store, member=member)
    known = None
    if isinstance(data, WorldData):
        sample = data.world.sample(TRUTH_SAMPLES, torch.Generator().manual_seed(2**31 - 2))
        known = truth(sae.take(member), data.world, sample)
    if advance is not None:
        advance()
    return DiagnosedSAE(name=patient.name, diagnosis=found, excerpts=text, truth=known)


def _samples(data: WorldData, n: int) -> Iterable[Tensor]:
    generator = torch.Generator().manual_seed(2**31 - 3)
    return [data.world.sample(min(_BATCH, n - at), generator).x for at in range(0, n, _BATCH)]
