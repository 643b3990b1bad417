"""The report of a run: everything measured anew from what lies in its folder."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from latent_assay import formats
from latent_assay.history import History
from latent_assay.measurement import measure
from latent_assay.metrics import METRICS, cosine_map
from latent_assay.report import (
    Histogram,
    LatentBrowser,
    Prose,
    Report,
    TrainingCurves,
    browser_of,
)
from latent_assay.runs.beside_baselines import LABELS, Trained, comparison
from latent_assay.runs.config import RunConfig
from latent_assay.runs.data import Data
from latent_assay.runs.diagnosis_pages import Patient, diagnose_run
from latent_assay.runs.extension_pages import extension_sections, write_case_studies
from latent_assay.runs.folder import sae_folder, stored_config, training_folder
from latent_assay.runs.matched import Measured, matched_fvu
from latent_assay.runs.sources import Prepared, prepare
from latent_assay.runs.sweeps import sweeps
from latent_assay.runs.world_sections import most_typical, world_sections

ALL_SHOWN = 6
"""Up to so many SAEs, each of them is shown in every section."""
_BROWSED = 4


def write_report(folder: str | Path, *, progress: bool = True) -> Path:
    """Measure and diagnose the SAEs of a run; write `report.html`, its JSON, and `diagnosis.html`.

    Needs the folder only, not the model that the activations came from.

    **Returns:** the page.

    **Raises:** `FormatError` if the folder is not that of a finished run.
    """
    folder = Path(folder)
    config = stored_config(folder)
    prepared = prepare(config, folder, harvest=False, progress=progress)
    bar = tqdm(total=4 * len(config.saes) + 1, desc="measuring", unit="part", disable=not progress)
    trained = []
    histories = training_histories(config, folder)
    for plan in config.saes:
        sae = formats.load(sae_folder(folder, plan.name))
        data = prepared.at(plan.hook_point)
        trained.append(
            Trained(
                plan=plan,
                sae=sae,
                history=histories[plan.name],
                measurement=measure(sae, data.held_out(), features=data.features),
            )
        )
        bar.update()
    sections = _sae_sections(trained, config, prepared, folder, bar) if trained else []
    sections += extension_sections(config, folder)
    write_case_studies(config, folder, prepared)
    bar.update(bar.total - bar.n)
    bar.close()
    report = Report(
        title=config.title,
        summary=config.summary,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        provenance=_provenance(config, prepared.first, folder),
        sections=tuple(sections),
    )
    return report.write(folder)


def chosen(trained: Sequence[Trained], config: RunConfig) -> list[Trained]:
    """The SAEs that are shown in full: those of `browse`; else all of a few, or four of many."""
    if config.browse is not None:
        return [each for each in trained if each.name in config.browse]
    if len(trained) <= ALL_SHOWN:
        return list(trained)
    last = len(trained) - 1
    return [trained[round(i * last / (_BROWSED - 1))] for i in range(_BROWSED)]


def _sae_sections(
    trained: Sequence[Trained], config: RunConfig, prepared: Prepared, folder: Path, bar: Any
) -> list[Any]:
    """What the SAEs do, beside baselines, and what their latents are made of."""
    shown = chosen(trained, config)
    names = {each.name for each in shown}
    # few enough for all curves in one figure
    followed = trained if len(trained) <= ALL_SHOWN else shown
    sections: list[Any] = []
    if len(shown) < len(trained):
        sections.append(
            Prose(
                title="What is on this page",
                tone="note",
                paragraphs=(
                    f"All {len(trained)} SAEs are in the table and in the curves over the grid. "
                    f"In full, down to single latents, it shows {len(shown)} of them: "
                    f"{', '.join(each.name for each in shown)}. Others can be named as `browse` "
                    "in the configuration; `assay train` then only writes the report anew.",
                ),
            )
        )
    several = len(config.hook_points) > 1
    for hook_point in config.hook_points:
        data = prepared.at(hook_point)
        here = [each for each in trained if not several or each.plan.hook_point == hook_point]
        if not here:
            continue
        if data.features is not None:
            sections += world_sections(here, [t for t in here if t.name in names], data)
        where = str(hook_point) if several else ""
        permuted = [t.name for t in here if t.name in names]
        sections.append(comparison(here, permuted, data, hook_point=where, advance=bar.update))
        sections += data.sections([(each.name, each.sae) for each in here])
    sections += sweeps(trained, prepared.first)
    sections += matched_fvu(
        [
            Measured(
                grid=each.plan.grid,
                axes=each.plan.axes,
                metrics={name: v.numpy() for name, v in each.measurement.metrics.items()},
            )
            for each in trained
        ]
    )
    sections.append(
        TrainingCurves.of(
            {each.name: each.history for each in followed},
            metrics={
                name: METRICS[name].definition if name in METRICS else about
                for name, about in _LOGGED.items()
            },
            labels=LABELS,
        )
    )
    sections.append(
        Histogram.of_densities(
            {each.name: each.measurement.density.flatten().numpy() for each in followed}
        )
    )
    if shown:
        patients = [_patient(each, prepared) for each in shown]
        verdicts, labels = diagnose_run(folder, patients, title=config.title, advance=bar.update)
        sections.append(verdicts)
        if prepared.first.text is not None:
            sections.append(_browser(shown, prepared, bar, labels))
    return sections


def _patient(trained: Trained, prepared: Prepared) -> Patient:
    """An SAE to diagnose: in a world the member that is shown elsewhere, else the first."""
    data, sae, member = prepared.at(trained.plan.hook_point), trained.sae, 0
    if data.features is not None and sae.members > 1:
        member = most_typical(cosine_map(sae.W_dec, data.features.to(sae.W_dec)))
    return Patient(name=trained.name, sae=sae, member=member, data=data)


def training_histories(config: RunConfig, folder: Path) -> dict[str, History]:
    """What training logged of each SAE, out of the log of the ensemble that it was a member of."""
    found = {}
    for ensemble in config.ensembles:
        history = History.read(training_folder(folder, ensemble.name) / "log.jsonl")
        for plan, members in zip(ensemble.plans, ensemble.members, strict=True):
            found[plan.name] = history.take(members)
    return found


_LOGGED = {
    "loss": "The objective, at the batch of that step.",
    "fvu": "",
    "l0": "",
    "dead": "Latents that have not fired for as many samples as the configuration names.",
}


def _browser(
    shown: Sequence[Trained], prepared: Prepared, bar: Any, labels: dict[str, list[str]]
) -> LatentBrowser:
    """Contexts of every latent of some SAEs, over the first part of the text."""
    stores = {}
    for each in shown:
        store = prepared.at(each.plan.hook_point).text
        assert store is not None
        stores[each.name] = store
    saes = {each.name: each.sae for each in shown}
    return browser_of(stores, saes, labels=labels, advance=bar.update)


def _provenance(config: RunConfig, data: Data, folder: Path) -> dict[str, Any]:
    import latent_assay

    return {
        "latent-assay": latent_assay.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "configuration": config.to_json(),
        **data.provenance(),
    }
