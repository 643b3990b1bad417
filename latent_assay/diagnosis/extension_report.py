"""The hedging degree on a page: against width, L0, layer or the number of new latents."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_assay.diagnosis.extension_study import ExtensionNumbers
from latent_assay.errors import DataError
from latent_assay.metrics import MeanSd
from latent_assay.metrics import summary as over_members
from latent_assay.plots import Band, Bins
from latent_assay.report import (
    Cell,
    Column,
    Curve,
    Histogram,
    MetricsTable,
    Prose,
    Report,
    Row,
    TrainingCurves,
)
from latent_assay.report.page import Section

Sweep = Mapping[int, ExtensionNumbers] | Mapping[int | float, ExtensionNumbers]
"""Value on the axis → what was measured there; an `ExtensionOutcome` will do."""

EXTENDED = "extended"
NULL = "two continuations"
_BINS = 40


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A number of the metric: its attribute, its name and what it says."""

    key: str
    label: str
    definition: str


_FORMS = (
    _Form(
        key="difference",
        label="h (paper)",
        definition="Mean length of the old latents' changes within the span of the new ones, less "
        "the same for random directions.",
    ),
    _Form(
        key="rescaled",
        label="h (code)",
        definition="The same divided by 1 less the baseline, and not below 0, as the authors' code "
        "has it.",
    ),
)
_PARTS = (
    _Form(
        key="projection",
        label="projection",
        definition="Mean length of the old latents' changes within the span of the new ones.",
    ),
    _Form(
        key="baseline",
        label="baseline",
        definition="The same for random directions, mean of many draws.",
    ),
)


def degree_sections(outcomes: Sweep, *, axis: str = "width") -> tuple[Section, ...]:
    """Curves, a table, and the degree of each latent, for the outcomes of a sweep.

    **Arguments:**
    - `outcomes`: value on the axis → outcome; at least one.
    - `axis`: what was varied, such as "width", "k", "layer" or "new latents".

    **Returns:** sections for a `Report`: what the numbers say, both forms of the metric and its
    parts as curves (mean over members and their range), a table (mean ± sd over members), a
    histogram over latents.

    **Raises:** `DataError` for no outcome, or outcomes with different numbers of members.
    """
    if not outcomes:
        raise DataError("there is nothing to report: expected at least one outcome, got none.")
    members = {value: len(each.degree.difference) for value, each in outcomes.items()}
    if len(set(members.values())) > 1:
        raise DataError(
            f"outcomes side by side need the same number of members, got {members}. Train them "
            "with the same number of seeds."
        )
    ordered = dict(sorted(outcomes.items()))
    return (
        Prose(
            title="What the numbers say",
            paragraphs=(degree_reading(ordered, axis=axis), _NULL_IS),
        ),
        _curves(ordered, axis, f"Hedging degree against {axis}", _FORMS),
        _curves(ordered, axis, "What it is made of", _PARTS),
        _table(ordered, axis),
        _histogram(ordered, axis),
    )


def extension_report(
    outcomes: Sweep,
    *,
    axis: str = "width",
    title: str = "Hedging degree",
    summary: str = "",
    created: str = "",
    provenance: Mapping[str, Any] | None = None,
    sections: Sequence[Section] = (),
) -> Report:
    """A page of its own for a sweep.

    **Arguments:**
    - `outcomes`, `axis`: as in `degree_sections`.
    - `title`, `summary`, `created`, `provenance`: as the fields of `Report`.
    - `sections`: further ones, such as those of `case_study`.
    """
    return Report(
        title=title,
        summary=summary,
        created=created,
        provenance=provenance or {},
        sections=(*degree_sections(outcomes, axis=axis), *sections),
    )


def degree_reading(outcomes: Sweep, *, axis: str = "width") -> str:
    """What a sweep shows, in sentences: its ends, its course, and where it exceeds its null.

    Two means count as different if the spread over members does not explain it (Welch's t-test,
    5%); with one member nothing is said to differ.
    """
    values = sorted(outcomes)
    degree = {value: over_members(each.degree.difference) for value, each in outcomes.items()}
    null = {value: over_members(each.null.difference) for value, each in outcomes.items()}
    above = [v for v in values if _exceeds(degree[v], null[v])]
    first, last = values[0], values[-1]
    if first == last:
        said = f"At {axis} {first:,} the hedging degree is {degree[first]}."
    else:
        means = [degree[value].mean for value in values]
        steps = np.diff(means)
        course = (
            "falls at every step"
            if (steps < 0).all()
            else "rises at every step"
            if (steps > 0).all()
            else "neither falls nor rises throughout"
        )
        differ = "differ" if degree[first].differs_from(degree[last]) else "do not differ"
        said = (
            f"From {axis} {first:,} to {last:,} the hedging degree goes from {degree[first]} to "
            f"{degree[last]}; it {course}, and its ends {differ} by more than the spread over "
            "members explains."
        )
    where = (
        "everywhere"
        if len(above) == len(values)
        else "nowhere"
        if not above
        else f"at {axis} " + ", ".join(f"{value:,}" for value in above)
    )
    return (
        f"{said} It exceeds what the same formula gives for two continuations without new latents "
        f"{where} (there: {null[first]}"
        + (f" to {null[last]})." if first != last else ").")
        + _asleep(outcomes, axis)
    )


_NULL_IS = (
    "The null are two continuations of the same SAE without new latents, on independent batches; "
    "their difference is projected on the same new latents. It is above 0 because training noise "
    "and new latents both lie where activations vary, and random directions do not. It is a "
    "cautious one: control and extended SAE see the same batches and so differ by less noise, "
    "which is why the degree may also lie below it."
)


def _asleep(outcomes: Sweep, axis: str) -> str:
    """A sentence about new latents that do not fire, where they are many."""
    share = {value: _silent(each).mean().item() for value, each in outcomes.items()}
    found = {value: each for value, each in sorted(share.items()) if each > 0.5}
    if not found:
        return ""
    where = ", ".join(f"{each:.0%} at {axis} {value:,}" for value, each in found.items())
    return (
        f" Most new latents never fire ({where}). Nothing could be handed over to them, and a low "
        "degree says nothing there: train longer, wake dead latents sooner, begin new ones with "
        "longer rows, or let the penalty warm up again."
    )


def _silent(outcome: ExtensionNumbers) -> Tensor:
    """Share of each member's new latents that did not fire once."""
    return (outcome.new_density == 0).double().mean(-1)


def _exceeds(degree: MeanSd, null: MeanSd) -> bool:
    return degree.mean > null.mean and degree.differs_from(null)


def _curves(outcomes: Sweep, axis: str, title: str, forms: Sequence[_Form]) -> TrainingCurves:
    steps, label = _axis(list(outcomes), axis)

    def band(name: str, values: list[Tensor]) -> Band:
        y = torch.stack(values).double().numpy()
        return Band(
            name=name,
            steps=steps,
            mean=y.mean(axis=1),
            low=y.min(axis=1),
            high=y.max(axis=1),
            members=y.shape[1],
        )

    return TrainingCurves(
        title=title,
        step_label=label,
        curves=tuple(
            Curve(
                metric=form.key,
                label=form.label,
                definition=form.definition,
                bands=(
                    band(EXTENDED, [getattr(o.degree, form.key) for o in outcomes.values()]),
                    band(NULL, [getattr(o.null, form.key) for o in outcomes.values()]),
                ),
            )
            for form in forms
        ),
    )


def _axis(values: Sequence[int | float], axis: str) -> tuple[np.ndarray, str]:
    """The horizontal axis; powers of two far apart are told by their exponents."""
    if values[0] > 0 and values[-1] >= 16 * values[0]:
        powers = [round(math.log2(value)) for value in values]
        if [2**power for power in powers] == list(values):
            return np.array(powers, dtype=np.int64), f"{axis}, as a power of 2"
    whole = all(value == int(value) for value in values)
    return np.array(values, dtype=np.int64 if whole else np.float64), axis


def _table(outcomes: Sweep, axis: str) -> MetricsTable:
    columns = [
        *(
            Column(
                key=form.key, label=form.label, direction="none", digits=4,
                definition=form.definition,
            )
            for form in (*_FORMS, *_PARTS)
        ),
        Column(key="null_difference", label="null (paper)", direction="none", digits=4,
               definition="h of two continuations of the same SAE without new latents."),
        Column(key="null_rescaled", label="null (code)", direction="none", digits=4,
               definition="The same in the form of the authors' code."),
        Column(key="silent", label="silent new", direction="none", digits=2,
               definition="Share of new latents that never fire. Nothing is handed over to them; "
               "near 1 the degree says nothing."),
    ]  # fmt: skip
    if all("l0" in outcome.metrics and "fvu" in outcome.metrics for outcome in outcomes.values()):
        columns += [
            Column(key="l0", label="L0", direction="none", digits=1,
                   definition="Latents of the control that fire, on held-out activations."),
            Column(key="fvu", label="FVU", direction="none", digits=3,
                   definition="Variance that the control leaves unexplained, on the same."),
        ]  # fmt: skip
    return MetricsTable(
        title="Both forms of the metric",
        columns=tuple(columns),
        rows=tuple(
            Row(
                name=f"{axis} {value:,}",
                kind="trained",
                note=f"{outcome.width:,} latents and {outcome.n:,} new ones",
                cells={
                    column.key: Cell.over(_values(outcome, column.key).tolist())
                    for column in columns
                },
            )
            for value, outcome in outcomes.items()
        ),
        ranked=False,
        sentence="Mean ± sd over members.",
    )


def _values(outcome: ExtensionNumbers, key: str) -> Tensor:
    if key == "silent":
        return _silent(outcome)
    if key in outcome.metrics:
        return outcome.metrics[key]
    found = outcome.null if key.startswith("null_") else outcome.degree
    values: Tensor = getattr(found, key.removeprefix("null_"))
    return values


def _histogram(outcomes: Sweep, axis: str) -> Histogram:
    by_latent = {
        value: each.degree.difference_by_latent.flatten().numpy()
        for value, each in outcomes.items()
    }
    by_latent = {value: each[np.isfinite(each)] for value, each in by_latent.items()}
    every = np.concatenate(list(by_latent.values()))
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, high if high > low else low + 1e-6, _BINS + 1)
    return Histogram(
        title="Hedging degree of each latent",
        series=tuple(
            Bins(
                name=f"{axis} {value:,}",
                edges=edges,
                counts=np.histogram(each, edges)[0].astype(np.int64),
            )
            for value, each in by_latent.items()
        ),
        label="h (paper) of a latent",
        sentence="Latents of all members. A few far to the right gave a feature away; a hill that "
        "stands to the right of 0 as a whole is noise that the new latents share.",
    )
