"""What the SAEs of a run do, in a table, beside what chance does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from latent_assay import baselines
from latent_assay.history import History
from latent_assay.measurement import Measurement, measure
from latent_assay.metrics import METRICS
from latent_assay.report import Cell, Column, MetricsTable, Row
from latent_assay.runs.config import SAEPlan
from latent_assay.runs.data import Data
from latent_assay.sae import SAE

_BASELINE_SEEDS = (0, 1, 2)
_EXCERPT = 20_000


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One SAE of a run with what is known about it."""

    plan: SAEPlan
    """What the configuration says of it."""
    sae: SAE
    """The SAE as saved; takes raw activations."""
    history: History
    """What training logged."""
    measurement: Measurement
    """What it does on held-out activations."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.plan.name


LABELS = {
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


def headline_metrics(data: Data) -> tuple[str, ...]:
    """What is shown of an SAE on some activations: names in `METRICS`."""
    return _SHOWN_MODEL if data.features is None else _SHOWN_WORLD


def comparison(
    trained: Sequence[Trained],
    permuted: Iterable[str],
    data: Data,
    *,
    hook_point: str = "",
    advance: Any,
) -> MetricsTable:
    """SAEs on the same activations, beside baselines and, in a world, the oracle.

    **Arguments:**
    - `trained`: the SAEs.
    - `permuted`: names of those whose decoder, permuted, is a baseline too.
    - `data`: the activations.
    - `hook_point`: where they are from, if there are several places.
    - `advance`: called with a number after that many parts are measured.
    """
    rows = [
        _row(each.name, "trained", each.measurement, _size(each.sae) + _on_training(each.sae, data))
        for each in trained
    ]
    wanted = {*permuted}
    rows += _baseline_rows(trained, [t for t in trained if t.name in wanted], data, advance)
    return _table(rows, data, hook_point)


def _table(rows: list[Row], data: Data, hook_point: str) -> MetricsTable:
    shown = headline_metrics(data)
    directions = {"higher": "higher", "lower": "lower", "neutral": "none"}
    # a dictionary that learned nothing is wholly alive: being so is no merit to rank
    unranked = {"frac_alive", "n_dead"}
    columns = tuple(
        Column(
            key=METRICS[name].id,
            label=LABELS[name],
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
        title="What they do, beside what chance does"
        + (f", at {hook_point}" if hook_point else ""),
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


def _baseline_rows(
    trained: Sequence[Trained], permuted: Sequence[Trained], data: Data, advance: Any
) -> list[Row]:
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
    for each in permuted:
        saes[f"{each.name}, decoder permuted"] = baselines.permuted_decoder(
            each.sae, seeds=_BASELINE_SEEDS
        )
    rows = []
    for name, sae in saes.items():
        measurement = measure(sae, data.held_out(), features=data.features)
        without = _UNMOVED if name.endswith("permuted") else frozenset()
        rows.append(_row(name, "baseline", measurement, without=without))
        advance(0.5)
    oracle = data.oracle()
    if oracle is not None:
        rows.append(
            _row("oracle", "oracle", measure(oracle, data.held_out(), features=data.features))
        )
    return rows
