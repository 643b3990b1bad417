"""The report of a run: everything measured anew from what lies in its folder."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from latent_assay import baselines, formats
from latent_assay.history import History
from latent_assay.measurement import Measurement, measure
from latent_assay.metrics import METRICS, cosine_map, encoder_cosine_map
from latent_assay.report import (
    Cell,
    Column,
    CosineMap,
    CosineMaps,
    Histogram,
    LatentBrowser,
    MetricsTable,
    Prose,
    Report,
    Row,
    TrainingCurves,
    browser_of,
)
from latent_assay.runs.config import RunConfig
from latent_assay.runs.data import Data
from latent_assay.runs.extension_pages import extension_sections, write_case_studies
from latent_assay.runs.families import families
from latent_assay.runs.folder import sae_folder, stored_config, training_folder
from latent_assay.runs.sources import prepare
from latent_assay.runs.world_data import WorldData
from latent_assay.sae import SAE

_BASELINE_SEEDS = (0, 1, 2)
_EXCERPT = 20_000


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One SAE of a run with what is known about it."""

    name: str
    """Its name."""
    about: str
    """A sentence about it."""
    sae: SAE
    """The SAE as saved; takes raw activations."""
    history: History
    """What training logged."""
    measurement: Measurement
    """What it does on held-out activations."""


def write_report(folder: str | Path, *, progress: bool = True) -> Path:
    """Measure the SAEs of a run beside baselines, and write `report.html` and `report.json`.

    Needs the folder only, not the model that the activations came from.

    **Returns:** the page.

    **Raises:** `FormatError` if the folder is not that of a finished run.
    """
    folder = Path(folder)
    config = stored_config(folder)
    prepared = prepare(config, folder, harvest=False, progress=progress)
    data = prepared.first
    bar = tqdm(total=3 * len(config.saes) + 1, desc="measuring", unit="part", disable=not progress)
    trained = []
    histories = training_histories(config, folder)
    for plan in config.saes:
        sae = formats.load(sae_folder(folder, plan.name))
        trained.append(
            Trained(
                name=plan.name,
                about=plan.about,
                sae=sae,
                history=histories[plan.name],
                measurement=measure(sae, data.held_out(), features=data.features),
            )
        )
        bar.update()
    sections = _sae_sections(trained, data, bar) if trained else []
    sections += extension_sections(config, folder)
    write_case_studies(config, folder, prepared)
    bar.update(bar.total - bar.n)
    bar.close()
    report = Report(
        title=config.title,
        summary=config.summary,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        provenance=_provenance(config, data, folder),
        sections=tuple(sections),
    )
    return report.write(folder)


def _sae_sections(trained: list[Trained], data: Data, bar: Any) -> list[Any]:
    """What the SAEs do, beside baselines."""
    rows = [
        _row(each.name, "trained", each.measurement, _size(each.sae) + _on_training(each.sae, data))
        for each in trained
    ]
    rows += _baseline_rows(trained, data, bar)
    sections: list[Any] = []
    if data.features is not None:
        sections += _world_sections(trained, data)
    sections.append(_table(rows, data))
    sections.append(
        TrainingCurves.of(
            {each.name: each.history for each in trained},
            metrics={
                name: METRICS[name].definition if name in METRICS else about
                for name, about in _LOGGED.items()
            },
            labels=_LABELS,
        )
    )
    sections.append(
        Histogram.of_densities(
            {each.name: each.measurement.density.flatten().numpy() for each in trained}
        )
    )
    if data.text is not None:
        sections.append(_browser(trained, data, bar))
    return sections


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

_LABELS = {
    "fvu": "FVU",
    "l0": "L0",
    "mse": "squared error",
    "cosine": "cosine",
    "shrinkage": "shrinkage",
    "frac_alive": "alive",
    "n_dead": "dead",
    "encoder_decoder_cosine": "enc–dec cos",
    "mcc": "MCC",
    "mmcs": "MMCS",
    "uniqueness": "uniqueness",
    "f1_by_match": "F1 (matched)",
    "f1_coverage": "F1 coverage",
}
_SHOWN_WORLD = ("fvu", "l0", "mcc", "mmcs", "uniqueness", "f1_by_match", "f1_coverage", "shrinkage")
_SHOWN_MODEL = (
    "fvu",
    "l0",
    "cosine",
    "shrinkage",
    "frac_alive",
    "n_dead",
    "encoder_decoder_cosine",
)


def _table(rows: list[Row], data: Data) -> MetricsTable:
    shown = _SHOWN_MODEL if data.features is None else _SHOWN_WORLD
    directions = {"higher": "higher", "lower": "lower", "neutral": "none"}
    # a dictionary that learned nothing is wholly alive: being so is no merit to rank
    unranked = {"frac_alive", "n_dead"}
    columns = tuple(
        Column(
            key=METRICS[name].id,
            label=_LABELS[name],
            direction="none" if name in unranked else directions[METRICS[name].direction],  # type: ignore[arg-type]
            definition=METRICS[name].definition,
            unit="" if METRICS[name].unit == "1" else METRICS[name].unit,
            digits={"l0": 1, "n_dead": 0}.get(name, 3),
            charted=name in ("fvu", "f1_coverage"),
        )
        for name in shown
    )
    keys = {column.key for column in columns}
    kept = tuple(
        Row(
            name=row.name,
            kind=row.kind,
            note=row.note,
            cells={key: cell for key, cell in row.cells.items() if key in keys},
        )
        for row in rows
    )
    where = "held-out activations" if data.features is None else "fresh samples of the world"
    return MetricsTable(
        title="What they do, beside what chance does",
        columns=columns,
        rows=kept,
        sentence=(
            f"Measured on {where}, each SAE as it is saved and used: every sample alone. "
            "Numbers are mean ± "
            "sd over members (seeds). The baselines have learned nothing, but fire as often as "
            "the first "
            "SAE of the table."
        ),
    )


# What depends on the set of decoder rows only, or on firing only, survives a permutation.
_UNMOVED = frozenset({"mmcs", "mcc", "uniqueness", "f1_coverage"})


def _row(
    name: str,
    kind: Any,
    measurement: Measurement,
    note: str = "",
    without: frozenset[str] = frozenset(),
) -> Row:
    return Row(
        name=name,
        kind=kind,
        note=note,
        cells={
            METRICS[metric].id: Cell.over(values.tolist())
            for metric, values in measurement.metrics.items()
            if metric not in without
        },
    )


def _size(sae: SAE) -> str:
    members = "" if sae.members == 1 else f", {sae.members} members"
    return f"{max(sae.widths):,} latents{members}"


def _on_training(sae: SAE, data: Data) -> str:
    """How well it does on what it was trained on, where that is not what it is measured on."""
    seen = data.seen(_EXCERPT)
    if seen is None:
        return ""
    fvu = measure(sae, seen.split(2_048)).metrics["fvu"]
    return f"; FVU {float(fvu.mean()):.3f} on activations it was trained on"


def _baseline_rows(trained: list[Trained], data: Data, bar: Any) -> list[Row]:
    """Baselines at the L0 of the first SAE, measured on the same data."""
    first = trained[0]
    l0 = max(float(first.measurement.metrics["l0"].mean()), 1e-6)
    x = data.excerpt(_EXCERPT)
    width = max(first.sae.widths)
    saes = {
        "random dictionary": baselines.random_dictionary(
            x, width=width, l0=l0, seeds=_BASELINE_SEEDS
        ),
        "PCA, leading components": baselines.leading_components(x, k=round(l0)),
        "PCA, chosen per sample": baselines.chosen_components(x, l0=l0),
    }
    for each in trained:
        saes[f"{each.name}, decoder permuted"] = baselines.permuted_decoder(
            each.sae, seeds=_BASELINE_SEEDS
        )
    rows = []
    for name, sae in saes.items():
        measurement = measure(sae, data.held_out(), features=data.features)
        without = _UNMOVED if name.endswith("permuted") else frozenset()
        rows.append(_row(name, "baseline", measurement, without=without))
        bar.update(0.5)
    oracle = data.oracle()
    if oracle is not None:
        rows.append(
            _row("oracle", "oracle", measure(oracle, data.held_out(), features=data.features))
        )
    return rows


def _world_sections(trained: list[Trained], data: Data) -> list[Any]:
    features = data.features
    assert features is not None
    maps = []
    for each in trained:
        member = _most_typical(cosine_map(each.sae.W_dec, features.to(each.sae.W_dec)))
        kept = each.sae.take(member)
        encoder = encoder_cosine_map(kept.W_enc[0], features.to(kept.W_enc))
        maps.append(
            CosineMap(
                name=each.name,
                decoder=cosine_map(kept.W_dec[0], features.to(kept.W_dec)).detach().numpy(),
                encoder=None if kept.tied else encoder.detach().numpy(),
                sentence=each.about,
            ).arranged()
        )
    sections: list[Any] = [
        CosineMaps(
            title="Which latent is which feature",
            maps=tuple(maps),
            sentence=(
                "Cosines of latents with true features; of each ensemble the member that "
                "resembles the "
                "others most. Encoders are shown in the span of the features, as noise outside it "
                "never gets a gradient."
            ),
        )
    ]
    if isinstance(data, WorldData):
        sections += families([(each.name, each.sae) for each in trained], data.world)
        sections.append(Prose(title="The world", paragraphs=(str(data.world),), tone="verbatim"))
    return sections


def _most_typical(maps: Tensor) -> int:
    """The member whose arranged map is nearest to all others."""
    arranged = np.stack(
        [CosineMap(name="", decoder=each).arranged().decoder for each in maps.detach().numpy()]
    )
    distance = ((arranged[:, None] - arranged[None]) ** 2).sum((2, 3)) ** 0.5
    return int(distance.sum(1).argmin())


def _browser(trained: list[Trained], data: Data, bar: Any) -> LatentBrowser:
    """Contexts of every latent, over the first part of the text, which it was trained on."""
    assert data.text is not None
    saes = {each.name: each.sae for each in trained}
    return browser_of(data.text, saes, advance=bar.update)


def _provenance(config: RunConfig, data: Data, folder: Path) -> dict[str, Any]:
    import latent_assay

    return {
        "latent-assay": latent_assay.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "configuration": config.to_json(),
        **data.provenance(),
    }
