"""From files of SAEs to a page that compares them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latent_assay.atomic import write_json
from latent_assay.diagnosis import (
    Comparison,
    ComparisonConfig,
    compare,
    comparison_json,
    comparison_sections,
)
from latent_assay.report import Report
from latent_assay.runs.inputs import read_saes, store_for

_ROWS_AT_ONCE = 2_048


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """What `assay compare` made."""

    comparison: Comparison
    """The numbers."""
    page: Path
    """The report; `comparison.json` lies beside it."""
    content: dict[str, Any]
    """The JSON."""


def compare_files(
    sources: Sequence[str],
    folder: Path,
    *,
    activations: Path | None = None,
    model: str | None = None,
    text: str = "cpython",
    hook_point: str | None = None,
    tokens: int = 20_000,
    config: ComparisonConfig | None = None,
    progress: bool = True,
) -> Compared:
    """Compare SAEs from files, and write `report.html`, `report.json` and `comparison.json`.

    **Arguments:**
    - `sources`: two or more places of SAEs.
    - `folder`: where everything goes.
    - `activations`: a harvest, or a file of activations; None for none.
    - `model`, `text`, `hook_point`: what to harvest instead; the hook point is taken from the
      SAEs' files if not given. With neither, weights alone are compared.
    - `tokens`: how many activations are read.
    - `config`: thresholds and limits.
    - `progress`: whether to show progress.

    **Raises:** as `compare` and `formats.load` do.
    """
    found = read_saes(sources)
    saes = {each.name: each.sae for each in found}
    store = store_for(
        found,
        activations=activations,
        model=model,
        text=text,
        hook_point=hook_point,
        tokens=tokens,
        folder=folder,
        progress=progress,
    )
    batches: Any = ()
    if store is not None:
        store = store.part(0, min(store.n_rows, tokens))
        batches = (x.float() for x, _, _ in store.in_order(_ROWS_AT_ONCE))
    comparison = compare(saes, batches, config=config)
    content = comparison_json(comparison)
    report = Report(
        title=" and ".join(saes),
        summary="\n\n".join(pair.verdict for pair in comparison.pairs),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        provenance={
            "SAEs": {each.name: each.source for each in found},
            "threshold": comparison.config.threshold,
            "activations": comparison.rows,
        },
        sections=comparison_sections(comparison, saes, store),
    )
    page = report.write(folder)
    write_json(folder / "comparison.json", content)
    return Compared(comparison=comparison, page=page, content=content)
