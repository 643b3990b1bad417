"""What the template shows of each section: text as it is, figures as SVG."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from latent_assay import plots
from latent_assay.errors import ConfigError
from latent_assay.plots import style
from latent_assay.report.content import CosineMaps, FiringTable, Histogram, Prose, TrainingCurves
from latent_assay.report.latents import LatentBrowser
from latent_assay.report.metrics_table import KINDS, Cell, Column, MetricsTable
from latent_assay.report.strict_json import script_json

View = dict[str, Any]

DIRECTIONS = {"higher": "↑ higher is better", "lower": "↓ lower is better", "none": ""}
MOST_ROWS = 12
"""A table of more rows can be filtered, and its groups folded."""
GROUPS = {"trained": "Trained", "baseline": "Null baselines", "oracle": "Oracle"}


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What the sections of one page, or the figures of one claim, share."""

    order: tuple[str, ...]
    """SAE names; a name has one colour throughout."""

    def svg(self, figure: Any, prefix: str, label: str, tooltips: Any = None) -> Markup:
        """A figure, as `plots.inline_svg` writes it."""
        markup = plots.inline_svg(figure, prefix=prefix, label=label, tooltips=tooltips)
        return Markup(markup)

    def legend(self, names: Sequence[str]) -> list[View]:
        """Every name once, with its line."""
        return [
            {"name": name, "swatch": self.swatch(name), "remark": ""}
            for name in dict.fromkeys(names)
        ]

    def swatch(self, name: str) -> View:
        """Colour and dashes of a name's line."""
        index = self.order.index(name)
        _, dashes = style.line_pattern(index)
        return {
            "colour": style.css_variables()[style.series_colours(index + 1)[index]],
            "dashes": " ".join(f"{1.8 * dash:g}" for dash in dashes),
        }


def _prose(section: Prose, drawing: Drawing, prefix: str, data: View) -> View:
    return {"paragraphs": section.paragraphs, "tone": section.tone}


def _metrics_table(section: MetricsTable, drawing: Drawing, prefix: str, data: View) -> View:
    verdicts = {column.key: section.verdicts(column) for column in section.columns}
    groups = []
    for kind in KINDS:
        colours = drawing.order if kind == "trained" else ()
        rows = [
            {
                "name": row.name,
                "note": row.note,
                "swatch": drawing.swatch(row.name) if row.name in colours else None,
                "cells": [
                    _cell(row.cells.get(c.key), c) | {"verdict": verdicts[c.key][i]}
                    for c in section.columns
                ],
            }
            for i, row in enumerate(section.rows)
            if row.kind == kind
        ]
        if rows:
            groups.append({"name": GROUPS[kind], "kind": kind, "rows": rows})
    charts = []
    for i, column in enumerate(c for c in section.columns if c.charted):
        bars = [
            plots.MetricBar(name=row.name, kind=kind, mean=cell.mean, sd=cell.sd)
            for kind in KINDS
            for row in section.rows
            if row.kind == kind
            for cell in [row.cells.get(column.key, Cell(mean=None))]
        ]
        figure = plots.metric_bars(bars, order=drawing.order, width=300)
        label = f"{column.label}: {', '.join(f'{b.name} {_number(b.mean, 3)}' for b in bars)}"
        charts.append(
            {
                "label": column.label,
                "hint": DIRECTIONS[column.direction],
                "svg": drawing.svg(figure, f"{prefix}b{i}", label),
            }
        )
    shown = {verdict for found in verdicts.values() for verdict in found}
    members = {
        cell.n for row in section.rows if row.kind == "trained" for cell in row.cells.values()
    }
    return {
        "columns": [
            {
                "key": c.key,
                "label": c.label,
                "unit": c.unit,
                "arrow": DIRECTIONS[c.direction][:1],
                "direction": DIRECTIONS[c.direction],
                "definition": c.definition,
            }
            for c in section.columns
        ],
        "groups": groups,
        "ranked": section.ranked,
        "shape": f"{'many' if len(section.columns) > 6 else ''} "
        f"{'tall' if len(section.rows) > 24 else ''}".strip(),
        "filtered": len(section.rows) > MOST_ROWS,
        "charts": charts,
        "has_best": "best" in shown,
        "has_null": "no better than a baseline" in shown,
        "alone": bool(members) and max(members) <= 1,
    }


def _cell(cell: Cell | None, column: Column) -> View:
    if cell is None or not cell.known:
        return {"mean": "—", "sd": "", "title": "not defined or not measured"}
    spread = cell.sd is not None and math.isfinite(cell.sd)
    members = f"{cell.n} member{'s' if cell.n != 1 else ''}"
    exact = f"{cell.mean:.6g} ± {cell.sd:.3g}" if spread else f"{cell.mean:.6g}"
    return {
        "mean": _number(cell.mean, column.digits),
        # an sd below the last decimal reads as 0; the title has it in full
        "sd": f"± {cell.sd:.{column.digits}f}" if spread else "",
        "title": f"{column.label}: {exact}, {members}",
    }


def _training_curves(section: TrainingCurves, drawing: Drawing, prefix: str, data: View) -> View:
    panels = []
    for i, curve in enumerate(section.curves):
        ends = [f"{b.name} ends at {_number(_last(b.mean), 3)}" for b in curve.bands]
        label = f"{curve.label} over training: {', '.join(ends)}"
        panels.append(
            {
                "label": curve.label,
                "hint": DIRECTIONS[curve.direction],
                "definition": curve.definition,
                **{
                    name: drawing.svg(
                        plots.curve_panel(
                            curve.bands,
                            log=log,
                            order=drawing.order,
                            step_label=section.step_label,
                            width=300,
                            height=200,
                        ),
                        f"{prefix}{name}{i}",
                        label,
                    )
                    for name, log in (("linear", False), ("log", True))
                },
            }
        )
    bands = [band for curve in section.curves for band in curve.bands]
    return {
        "panels": panels,
        "legend": drawing.legend([band.name for band in bands]),
        "banded": any(band.members > 1 for band in bands),
        "group": prefix,
    }


def _histogram(section: Histogram, drawing: Drawing, prefix: str, data: View) -> View:
    legend = []
    for bins in section.series:
        total = int(bins.counts.sum()) + bins.outside
        share = f"{bins.outside:,} of {total:,} {section.outside_label}" if bins.outside else ""
        legend += [item | {"remark": share} for item in drawing.legend([bins.name])]
    counts = ", ".join(f"{b.name} {int(b.counts.sum())}" for b in section.series)
    figures = {
        name: drawing.svg(
            plots.histogram(
                section.series,
                label=section.label,
                count_label=section.count_label,
                powers=section.powers,
                order=drawing.order,
                width=width,
                height=height,
            ),
            f"{prefix}{name}",
            f"{section.title}, {section.count_label} by {section.label}: {counts}",
        )
        for name, width, height in (("wide", 760, 300), ("narrow", 350, 240))
    }
    return figures | {"legend": legend}


def _cosine_maps(section: CosineMaps, drawing: Drawing, prefix: str, data: View) -> View:
    columns = []
    for i, m in enumerate(section.maps):
        latents = m.latents or tuple(map(str, range(len(m.decoder))))
        parts = []
        for name, values in (("encoder", m.encoder), ("decoder", m.decoder)):
            if values is None:
                parts.append({"name": name, "svg": None})
                continue
            figure = plots.cosine_map(values, latents=latents, features=section.features)
            parts.append(
                {
                    "name": name,
                    "svg": drawing.svg(
                        figure,
                        f"{prefix}m{i}{name[0]}",
                        f"{m.name}: cosine of each {name} row with each true feature",
                        _cell_tooltips(values, latents, section.features),
                    ),
                }
            )
        columns.append({"name": m.name, "sentence": m.sentence, "parts": parts})
    return {"maps": columns, "scale": [round(0.1 * k, 1) for k in range(-10, 11)]}


def _firing_table(section: FiringTable, drawing: Drawing, prefix: str, data: View) -> View:
    columns = []
    for i, table in enumerate(section.tables):
        values = table.probabilities
        latents = table.latents or tuple(map(str, range(len(values))))
        figure = plots.firing_map(values, latents=latents, features=section.features)
        svg = drawing.svg(
            figure,
            f"{prefix}t{i}",
            f"{table.name}: how often each latent fires when each feature does",
            _cell_tooltips(values, latents, section.features),
        )
        part = {"name": "P(latent fires | feature fires)", "svg": svg}
        columns.append({"name": table.name, "sentence": table.sentence, "parts": [part]})
    return {"maps": columns, "scale": [round(0.1 * k, 1) for k in range(11)]}


def _latent_browser(section: LatentBrowser, drawing: Drawing, prefix: str, data: View) -> View:
    return {
        "corpus": Markup(script_json(data["corpus"])),
        "saes": [
            {"name": pages.name, "data": Markup(script_json(found))}
            for pages, found in zip(section.saes, data["saes"], strict=True)
        ],
    }


BUILDERS: dict[str, Callable[[Any, Drawing, str, View], View]] = {
    "prose": _prose,
    "metrics_table": _metrics_table,
    "training_curves": _training_curves,
    "histogram": _histogram,
    "cosine_maps": _cosine_maps,
    "firing_table": _firing_table,
    "latent_browser": _latent_browser,
}


def view_of(figure: Any, drawing: Drawing, prefix: str, data: View) -> View:
    """What the template shows of one section.

    **Arguments:**
    - `figure`: a section that draws something itself, so not a group of claims.
    - `drawing`: what it shares with its neighbours.
    - `prefix`: begins the ids of everything in it.
    - `data`: its JSON, from which the browser of latents takes its data.

    **Raises:** `ConfigError` for a section that holds others, such as a group of claims.
    """
    if figure.kind not in BUILDERS:
        raise ConfigError(
            f"a claim's figures must be text, tables or drawings, received '{figure.title}' of the "
            f"kind {figure.kind}. Give each claim a place of its own in a group."
        )
    return heading(figure) | BUILDERS[figure.kind](figure, drawing, prefix, data)


def heading(section: Any) -> View:
    """What every section has."""
    return {
        "kind": section.kind,
        "title": section.title,
        "sentence": getattr(section, "sentence", ""),
    }


def trained_names(sections: Iterable[Any]) -> tuple[str, ...]:
    """The SAEs that have a colour, in the order in which they appear."""
    names: list[str] = []
    for section in sections:
        if isinstance(section, MetricsTable):
            if section.ranked or any(column.charted for column in section.columns):
                names += [row.name for row in section.rows if row.kind == "trained"]
        elif isinstance(section, TrainingCurves):
            names += [band.name for curve in section.curves for band in curve.bands]
        elif isinstance(section, Histogram):
            names += [bins.name for bins in section.series]
    return tuple(dict.fromkeys(names))


def _cell_tooltips(values: Any, latents: Any, features: Any) -> dict[str, str]:
    rows, columns = values.shape
    if rows * columns > plots.maps.MOST_SQUARES:
        return {}
    return {
        f"cell-{i}-{j}": (
            f"latent {latents[i] if latents else i} · feature {features[j] if features else j}: "
            f"{_number(float(values[i, j]), 3)}"
        )
        for i in range(rows)
        for j in range(columns)
    }


def _number(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return "—"
    if 0 < abs(value) < 0.5 * 10.0**-digits:
        return style.compact(float(f"{value:.1e}"))
    return f"{value:,.{digits}f}".replace("-", "−")


def _last(values: Any) -> float | None:
    known = [float(v) for v in values if math.isfinite(v)]
    return known[-1] if known else None
