"""Results as a page of the documentation."""

from collections.abc import Sequence

from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.page import sources_of, summary_of, title_of


def markdown(pairs: Sequence[tuple[Entry, Result]], *, quick: bool) -> str:
    """A section per source, an entry per claim, a row per number."""
    command = "assay reproduce --quick" if quick else "assay reproduce"
    lines = [
        "# Reproductions",
        "",
        f"Written by `{command}`; do not edit. {summary_of(pairs)}",
        "",
        "Every number is the mean over members (seeds) ± their standard deviation; closed forms "
        "have one member. The page that the command writes shows the figures beside the numbers.",
    ]
    for source in sources_of(pairs):
        own = [(entry, result) for entry, result in pairs if entry.source == source]
        lines += ["", f"## {title_of(source)}"]
        for entry, result in own:
            mark = "✓" if result.passed else "✗"
            lines += ["", f"### {mark} `{entry.id}` — {entry.title}", "", entry.claim, ""]
            lines += [f"*Set-up.* {entry.setup}"]
            if entry.errors:
                lines += ["", f"*In the source.* {entry.errors}"]
            lines += ["", "| measured | expected | found | |", "|---|---|---|---|"]
            lines += [_row(check) for check in result.checks]
            if result.note:
                lines += ["", f"*Note.* {result.note}"]
    return "\n".join(lines) + "\n"


def _row(check: Check) -> str:
    spread = "" if check.sd is None else f" ± {check.sd:.2g}"
    found = f"{check.measured:.4g}{spread}"
    if check.expected == "holds":
        found = "holds" if check.passed else "does not hold"
    cells = (check.name, check.expected, found, "✓" if check.passed else "✗")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
