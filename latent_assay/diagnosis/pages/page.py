"""The page of one or several diagnoses: `diagnosis.html`, which needs no network."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latent_assay.atomic import write_text
from latent_assay.diagnosis.advising import advice_for
from latent_assay.diagnosis.columns import COLUMNS
from latent_assay.diagnosis.evidence import ROLES
from latent_assay.diagnosis.pages.arrays import latents_of
from latent_assay.diagnosis.pages.diagnosed import DiagnosedSAE
from latent_assay.diagnosis.pages.overview import overview
from latent_assay.diagnosis.verdict import FAILURES, VERDICTS, meaning
from latent_assay.errors import ConfigError, DataError
from latent_assay.report import Report
from latent_assay.report.diagnosis import DiagnosisExplorer

PAGE = "diagnosis.html"
"""The file's name."""


def diagnosis_report(
    saes: Sequence[DiagnosedSAE],
    *,
    title: str = "Diagnosis",
    summary: str = "",
    created: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """What the latents of some SAEs are made of, as a report: an overview, then every latent.

    **Arguments:**
    - `saes`: what was diagnosed. Those with text must share it.
    - `title`, `summary`, `created`: as the fields of `Report`.
    - `provenance`: what is to be known besides each diagnosis's own provenance.

    **Raises:** `ConfigError` for no SAE, or two of one name; `DataError` if texts differ.
    """
    names = [one.name for one in saes]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"expected SAEs with a name each, received {', '.join(names) or 'none'}. Give each "
            "diagnosis a name of its own."
        )
    texts = [one.excerpts.corpus for one in saes if one.excerpts is not None]
    if any(len(each.ids) != len(texts[0].ids) or each.pieces != texts[0].pieces for each in texts):
        raise DataError(
            "the diagnoses were made from different texts, but one page shows one. Diagnose the "
            "SAEs on the same activations, or write a page for each."
        )
    explorer = DiagnosisExplorer(
        title="Every latent",
        saes=tuple(latents_of(one) for one in saes),
        verdicts={verdict.value: meaning(verdict) for verdict in VERDICTS},
        columns=COLUMNS,
        roles=ROLES,
        advice={verdict.value: " ".join(advice_for(verdict)) for verdict in FAILURES},
        corpus=texts[0] if texts else None,
        sentence=(
            "Filter by verdict, search by token or number, and open a latent to see what its "
            "verdict rests on."
        ),
    )
    return Report(
        title=title,
        summary=summary,
        created=created,
        provenance={**(provenance or {}), **{o.name: o.diagnosis.provenance for o in saes}},
        sections=(overview(saes), explorer),
    )


def write_page(report: Report, folder: str | os.PathLike[str]) -> Path:
    """Write `diagnosis.html` into a folder, wholly or not at all.

    **Returns:** the page.

    **Raises:** `StorageError` if it cannot be written.
    """
    page = Path(folder) / PAGE
    write_text(page, report.to_html())
    return page
