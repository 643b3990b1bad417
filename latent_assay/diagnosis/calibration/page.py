"""The figures of a calibration for people: a page, and the tables of the documentation."""

import re
from collections.abc import Mapping
from typing import Any

from latent_assay.errors import FormatError
from latent_assay.report import Cell, Column, MetricsTable, Prose, Report, Row

BEGIN, END = "<!-- figures: made by `assay calibrate` -->", "<!-- end of figures -->"
"""Between these lines of a page of the documentation stand the figures."""

_MEASURED = (
    ("precision", "precision", "higher", "Share of the latents with this verdict that truly have"
     " the failure."),
    ("recall", "recall", "higher", "Share of the latents that truly have the failure to which the"
     " verdict was given."),
    ("calibration_error", "calibration error", "lower", "Expected difference between the"
     " probability of the verdict and how often it is true."),
)  # fmt: skip


def calibration_report(figures: Mapping[str, Any]) -> Report:
    """The figures as a page.

    **Arguments:**
    - `figures`: what `calibrate` found.
    """
    n = int(figures["effort"]["seeds_held_out"])
    measured = (
        Column(key=key, label=label, direction=direction, definition=text)  # type: ignore[arg-type]
        for key, label, direction, text in _MEASURED
    )
    counted = (
        Column(key=key, label=key, direction="none", digits=0, definition=text)
        for key, text in (
            ("support", "Latents that truly have the failure."),
            ("grey", "Latents that count neither for nor against it."),
        )
    )
    columns = (*measured, *counted)
    tables = [
        MetricsTable(
            title=title,
            columns=columns,
            rows=tuple(
                Row(name=_word(name), kind="trained", cells=_cells(each, n))
                for name, each in content["verdicts"].items()
                if each["support"]
            ),
            sentence=text,
            ranked=False,
        )
        for title, content, text in (
            ("With activations", figures, "Worlds held out, mean ± sd over their draws."),
            ("By the weights alone", figures["weights_only"], "The same SAEs, by their weights."),
        )
    ]
    return Report(
        title="How far verdicts can be trusted",
        summary=summary(figures),
        provenance={
            "effort": figures["effort"],
            "worlds": figures["worlds"],
            "seconds": figures["seconds"],
        },
        sections=(
            *tables,
            Prose(title="By world", tone="verbatim", paragraphs=(_worlds(figures),)),
        ),
    )


def summary(figures: Mapping[str, Any]) -> str:
    """The result in three sentences."""
    head, oracle = figures["headline"], figures["oracle"]
    return (
        f"On {figures['latents']:,} latents of SAEs in worlds that nothing was fitted on, "
        f"{_share(head['precision'])} of the verdicts that name a failure are true, and "
        f"{_share(head['clean_recall'])} of the clean latents are called clean. "
        f"Of {oracle['latents']:,} latents of SAEs that know the true features, "
        f"{_share(oracle['false_verdicts'])} get a verdict that names a failure: all of those are "
        f"false. {_share(head['undecided'])} of the former and "
        f"{_share(oracle['undecided'])} of the latter stay undecided."
    )


def told(figures: Mapping[str, Any]) -> str:
    """The figures as lines of text, for a terminal."""
    lines = [
        f"{'verdict':<14} {'precision':>13} {'recall':>13} {'calibration error':>18} "
        f"{'support':>8} {'grey':>6}"
    ]
    for name, each in figures["verdicts"].items():
        lines.append(
            f"{_word(name):<14} {_plus_minus(each, 'precision'):>13} "
            f"{_plus_minus(each, 'recall'):>13} {_plus_minus(each, 'calibration_error'):>18} "
            f"{each['support']:>8} {each['grey']:>6}"
        )
    return "\n".join([*lines, "", summary(figures)])


def markdown(figures: Mapping[str, Any]) -> str:
    """The figures as the tables of the documentation, between their marks."""
    draws = int(figures["effort"]["seeds_held_out"])
    spread = (
        f"means ± sd over {draws} draws of each world"
        if draws > 1
        else ("one draw of each world, so no sd is known")
    )
    parts = [BEGIN, "", summary(figures), "", f"The figures are {spread}.", ""]
    for title, content in (
        ("With activations", figures),
        ("By the weights alone", figures["weights_only"]),
    ):
        parts += [
            f"**{title}**",
            "",
            "| verdict | precision | recall | calibration error | among the doubtful | support | "
            "grey |",
            "|---|---|---|---|---|---|---|",
        ]
        parts += [
            f"| {_word(name)} | {_plus_minus(each, 'precision')} | {_plus_minus(each, 'recall')} | "
            f"{_plus_minus(each, 'calibration_error')} | {_number(each['doubtful'])} | "
            f"{each['support']} | {each['grey']} |"
            for name, each in content["verdicts"].items()
        ]
        parts.append("")
    for label, key in (
        ("world held out", "worlds"),
        ("kind of SAE", "kinds"),
        ("recipe", "recipes"),
    ):
        names = list(figures["verdicts"]["hedged"][key])
        chosen = ("absorbed", "absorbing", "hedged", "duplicate", "dead")
        parts += [
            f"**By {label}**: precision / recall (support)",
            "",
            f"| {label} | " + " | ".join(_word(each) for each in chosen) + " |",
            "|---" * (len(chosen) + 1) + "|",
        ]
        for name in names:
            cells = [figures["verdicts"][verdict][key][name] for verdict in chosen]
            parts.append(
                f"| {name} | "
                + " | ".join(
                    f"{_number(c['precision'])} / {_number(c['recall'])} ({c['support']})"
                    if c["support"] or c["found"]
                    else "–"
                    for c in cells
                )
                + " |"
            )
        parts.append("")
    return "\n".join([*parts, END])


def spliced(page: str, section: str, source: str = "the page") -> str:
    """A page of the documentation with its figures replaced.

    **Raises:** `FormatError` if the page lacks the lines between which they stand.
    """
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise FormatError(
            f"{source} must hold the lines '{BEGIN}' and '{END}' once, one below the other, to "
            "say where the figures stand. Add them."
        )
    return pattern.sub(lambda _: section, page)


def _cells(each: Mapping[str, Any], n: int) -> dict[str, Cell]:
    cells = {
        key: Cell(mean=each[key], sd=each[f"{key}_sd"], n=n if each[f"{key}_sd"] is not None else 1)
        for key, *_ in _MEASURED
        if each[key] is not None
    }
    return cells | {key: Cell(mean=float(each[key])) for key in ("support", "grey")}


def _worlds(figures: Mapping[str, Any]) -> str:
    lines = [f"{'world':<12} {'verdict':<14} {'precision':>10} {'recall':>8} {'support':>8}"]
    for name in figures["worlds"]["held_out"]:
        for verdict, each in figures["verdicts"].items():
            cell = each["worlds"].get(name)
            if cell is not None and cell["support"]:
                lines.append(
                    f"{name:<12} {_word(verdict):<14} {_number(cell['precision']):>10} "
                    f"{_number(cell['recall']):>8} {cell['support']:>8}"
                )
    return "\n".join(lines)


def _word(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f}%"


def _plus_minus(each: Mapping[str, Any], key: str) -> str:
    sd = each[f"{key}_sd"]
    return _number(each[key]) + ("" if sd is None or each[key] is None else f" ± {sd:.2f}")
