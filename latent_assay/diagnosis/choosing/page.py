"""Choices as sections of a report."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from latent_assay.diagnosis.choosing.choice import Choice
from latent_assay.diagnosis.choosing.sweep import Sweep, told
from latent_assay.metrics import METRICS
from latent_assay.plots import Band
from latent_assay.report import Cell, Column, Curve, MetricsTable, Prose, Row, TrainingCurves

_HEADINGS = {"sparsity": "Is L0 too low or too high?", "width": "Is the SAE too narrow?",
             "balance": "Which multiplier?"}  # fmt: skip
_LABELS = {
    "decoder_pairwise_cosine": ("pairwise cosine", METRICS["decoder_pairwise_cosine"].definition),
    "nth_decoder_projection": (
        "n-th projection",
        METRICS["nth_decoder_projection"].definition + " Here n is a quarter of those latents; "
        "its distance from 0 is read.",
    ),
    "fvu": ("FVU", METRICS["fvu"].definition),
    "l0": ("L0", METRICS["l0"].definition),
    "absorbed_share": (
        "absorbed",
        "Share of latents that the diagnosis calls absorbed or absorbing.",
    ),
    "hedged_share": ("hedged", "Share of latents that the diagnosis calls hedged."),
    "absorbed_or_hedged": ("absorbed or hedged", "Share of latents that have either failure."),
}


def choice_sections(choices: Sequence[Choice]) -> tuple[Any, ...]:
    """For each choice its advice, its curves with the range over seeds, and a table of them."""
    sections: list[Any] = []
    for choice in choices:
        kind = "width" if choice.sweep is None else choice.sweep.kind
        sections.append(
            Prose(
                title=f"{_HEADINGS[kind]} {choice.name}",
                paragraphs=(choice.advice, *choice.evidence),
                tone="plain" if choice.determined else "note",
            )
        )
        if choice.sweep is not None:
            sections += [_curves(choice.sweep), _table(choice.sweep)]
        if choice.hedging is not None:
            sections.append(_degrees(choice))
    return tuple(sections)


def _curves(sweep: Sweep) -> TrainingCurves:
    return TrainingCurves(
        title=f"{sweep.name}: against {sweep.label}",
        step_label=sweep.label,
        sentence="Each point is a setting, the band spans its seeds.",
        curves=tuple(
            Curve(
                metric=name,
                label=_LABELS[name][0],
                definition=_LABELS[name][1],
                bands=(_band(sweep, curve.mean(2)),),
            )
            for name, curve in sweep.curves.items()
            if name in _LABELS
        ),
    )


def _band(sweep: Sweep, values: np.ndarray) -> Band:
    return Band(
        name=sweep.name,
        steps=np.array(sweep.values),
        mean=values.mean(1),
        low=values.min(1),
        high=values.max(1),
        members=values.shape[1],
    )


def _table(sweep: Sweep) -> MetricsTable:
    shown = [name for name in sweep.curves if name in _LABELS]
    return MetricsTable(
        title=f"{sweep.name}: the numbers",
        columns=tuple(
            Column(
                key=name,
                label=_LABELS[name][0],
                direction="none",
                definition=_LABELS[name][1],
                digits=1 if name == "l0" else 4,
            )
            for name in shown
        ),
        rows=tuple(
            Row(
                name=f"{sweep.axis} {told(setting)}",
                kind="trained",
                cells={name: Cell.over(sweep.curves[name][i].mean(1).tolist()) for name in shown},
            )
            for i, setting in enumerate(sweep.settings)
        ),
        ranked=False,
        sentence="Mean ± sd over seeds.",
    )


def _degrees(choice: Choice) -> TrainingCurves:
    assert choice.hedging is not None
    bands = []
    for name, found in (("degree", choice.hedging.degree), ("null", choice.hedging.null)):
        widths = sorted(found)
        mean = np.array([found[width].mean for width in widths])
        sd = np.nan_to_num(np.array([found[width].sd for width in widths]))
        bands.append(
            Band(
                name=name,
                steps=np.array(widths, dtype=float),
                mean=mean,
                low=mean - sd,
                high=mean + sd,
                members=found[widths[0]].n,
            )
        )
    return TrainingCurves(
        title=f"{choice.name}: hedging degree against width",
        step_label="width",
        sentence="Mean ± sd over seeds; null: two continuations without new latents.",
        curves=(Curve(metric="difference", label="hedging degree", bands=tuple(bands)),),
    )
