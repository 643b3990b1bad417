"""What a run's report shows of its extensions, and the page of a case study."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_assay.diagnosis import (
    CaseConfig,
    ExtensionNumbers,
    case_study,
    degree_reading,
    degree_sections,
)
from latent_assay.plots import Band
from latent_assay.report import Curve, Prose, Report, TrainingCurves
from latent_assay.report.page import Section
from latent_assay.runs.config import RunConfig
from latent_assay.runs.config.extension import ExtensionPlan, case_setting
from latent_assay.runs.extension_runs import outcome_folder
from latent_assay.runs.folder import slug
from latent_assay.runs.sources import Prepared
from latent_assay.runs.stored_outcome import read_numbers, read_outcome

_SPARSITY = ("k", "l1")


@dataclass(frozen=True, kw_only=True)
class Series:
    """A curve: the settings of an extension that differ along its horizontal axis only."""

    name: str
    """What tells it from the other curves."""
    axis: str
    """What is varied along it."""
    outcomes: dict[int | float, ExtensionNumbers]
    """Value on the axis → what was measured there."""


def extension_sections(config: RunConfig, folder: str | Path) -> tuple[Section, ...]:
    """The sections of all extensions of a run: those that share an axis first, then each alone.

    **Arguments:**
    - `config`: the run.
    - `folder`: its folder, with the outcome of every setting.

    **Raises:** `FormatError` if an outcome is not there or damaged.
    """
    folder = Path(folder)
    by_plan = {plan.name: series_of(plan, folder) for plan in config.extensions}
    every = [series for group in by_plan.values() for series in group]
    sections: list[Section] = []
    for axis in dict.fromkeys(series.axis for series in every):
        group = [series for series in every if series.axis == axis]
        if len(group) > 1:
            sections.append(_together(group, axis))
    sections += _against_l0(config, by_plan)
    for plan in config.extensions:
        if plan.about:
            sections.append(Prose(title=plan.name, paragraphs=(plan.about,)))
        for series in by_plan[plan.name]:
            for section in degree_sections(series.outcomes, axis=series.axis):
                titled: Any = section
                sections.append(replace(titled, title=f"{series.name}: {titled.title}"))
        if plan.case is not None:
            sections.append(
                Prose(
                    title=f"{plan.name}: who gave what to whom",
                    paragraphs=(
                        f"A case study of {case_setting(plan).name} is on a page of its own: "
                        f"{_case_place(plan)}/report.html, beside this one.",
                    ),
                )
            )
    return tuple(sections)


def series_of(plan: ExtensionPlan, folder: Path) -> tuple[Series, ...]:
    """The curves of an extension: one for every combination of its axes other than the first."""
    others = list(plan.over)[1:]
    label = "layer" if plan.axis == "hook_point" else "new latents" if plan.axis == "n" else ""
    found: dict[str, dict[int | float, ExtensionNumbers]] = {}
    for setting in plan.settings:
        words = [f"{axis} {setting.axes[axis]}" for axis in others]
        name = ", ".join([plan.name, *words])
        value = setting.axes.get(plan.axis or "", setting.plan.options["width"])
        outcomes = found.setdefault(name, {})
        outcomes[_place(value, len(outcomes))] = read_numbers(outcome_folder(folder, plan, setting))
    return tuple(
        Series(name=name, axis=label or plan.axis or "width", outcomes=dict(sorted(each.items())))
        for name, each in found.items()
    )


def _place(value: Any, index: int) -> int | float:
    """Where a value stands on the axis: a hook point by its layer, anything else by its number."""
    if isinstance(value, int | float):
        return value
    layer = re.search(r"(?<![a-zA-Z])\d+(?![a-zA-Z])", str(value))
    return int(layer.group()) if layer else index


def _together(group: Sequence[Series], axis: str) -> TrainingCurves:
    """Several curves over one axis, each beside its null."""
    bands: dict[str, list[Band]] = {"difference": [], "rescaled": []}
    for form, drawn in bands.items():
        for series in group:
            values = list(series.outcomes)
            whole = all(isinstance(value, int) for value in values)
            steps = np.array(values, dtype=np.int64 if whole else np.float64)
            for name, part in ((series.name, "degree"), (f"{series.name}, null", "null")):
                rows = [getattr(getattr(o, part), form) for o in series.outcomes.values()]
                drawn.append(_band(name, steps, rows))
    return TrainingCurves(
        title=f"Hedging degree against {axis}, all together",
        step_label=axis,
        curves=(
            Curve(
                metric="difference",
                label="h (paper)",
                definition="Mean and range over members; null: two continuations without new "
                "latents.",
                bands=tuple(bands["difference"]),
            ),
            Curve(
                metric="rescaled",
                label="h (code)",
                definition="The same in the form of the authors' code.",
                bands=tuple(bands["rescaled"]),
            ),
        ),
    )


def _against_l0(config: RunConfig, by_plan: dict[str, tuple[Series, ...]]) -> list[Section]:
    """Sweeps over a sparsity, against what it led to: the measured L0."""
    bands = []
    for plan in config.extensions:
        if plan.axis not in _SPARSITY:
            continue
        for series in by_plan[plan.name]:
            found = sorted(
                (float(o.metrics["l0"].mean()), value)
                for value, o in series.outcomes.items()
                if "l0" in o.metrics
            )
            if found:
                rows = [series.outcomes[value].degree.difference for _, value in found]
                bands.append(_band(series.name, np.array([l0 for l0, _ in found]), rows))
    if not bands:
        return []
    curve = Curve(
        metric="difference",
        label="h (paper)",
        definition="Mean and range over members, against the mean L0 of the control.",
        bands=tuple(bands),
    )
    return [
        TrainingCurves(title="Hedging degree against L0", step_label="L0", curves=(curve,)),
    ]


def _band(name: str, steps: np.ndarray, rows: Sequence[Tensor]) -> Band:
    y = torch.stack(list(rows)).double().numpy()
    return Band(
        name=name,
        steps=steps,
        mean=y.mean(axis=1),
        low=y.min(axis=1),
        high=y.max(axis=1),
        members=y.shape[1],
    )


def write_case_studies(
    config: RunConfig, folder: str | Path, prepared: Prepared
) -> tuple[Path, ...]:
    """A page for every case study that is wanted.

    **Arguments:**
    - `config`: the run.
    - `folder`: its folder.
    - `prepared`: its activations; contexts are shown where they came from text.

    **Returns:** the pages.
    """
    folder = Path(folder)
    pages = []
    for plan in config.extensions:
        if plan.case is None:
            continue
        setting = case_setting(plan)
        outcome = read_outcome(outcome_folder(folder, plan, setting))
        sections = case_study(
            outcome,
            member=plan.case.member,
            store=prepared.at(setting.hook_point).text,
            config=CaseConfig(
                cases=plan.case.cases,
                top=plan.case.top,
                contexts=plan.case.contexts,
                rows=plan.case.rows,
            ),
        )
        where = f"{plan.name}, {setting.name}"
        report = Report(
            title=f"Who gave what to whom: {where}",
            summary=(
                f"{config.title}. {outcome.width:,} latents, extended by {outcome.n:,}; seed "
                f"{plan.seeds[plan.case.member]}. "
                + degree_reading({outcome.width: outcome}, axis="width")
            ),
            created="",
            provenance={"configuration": config.to_json(), "setting": setting.axes},
            sections=sections,
        )
        pages.append(report.write(folder / _case_place(plan)))
    return tuple(pages)


def _case_place(plan: ExtensionPlan) -> str:
    return f"case_studies/{slug(plan.name)}"
