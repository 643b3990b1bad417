"""What the template shows of a diagnosis."""

from typing import Any

from markupsafe import Markup

from latent_assay.report.diagnosis.explorer import DiagnosisExplorer
from latent_assay.report.diagnosis.overview import Piece, SAEVerdicts, VerdictOverview
from latent_assay.report.strict_json import script_json

View = dict[str, Any]


def overview_view(section: VerdictOverview) -> View:
    """A card for each SAE."""
    return {
        "page": section.page,
        "cards": [_card(sae, i, section) for i, sae in enumerate(section.saes)],
    }


def _card(sae: SAEVerdicts, index: int, section: VerdictOverview) -> View:
    clean = sae.lines[0]
    left = 0.0
    bar = []
    for line in sae.lines:
        if line.count:
            bar.append({"verdict": line.verdict, "x": 1000 * left, "width": 1000 * line.share})
        left += line.share
    return {
        "index": index,
        "name": sae.name,
        "basis": sae.basis,
        "width": sae.width,
        "clean": clean.count,
        "clean_share": share(clean.share),
        "bar": bar,
        "bar_label": ", ".join(
            f"{line.label} {share(line.share)}" for line in sae.lines if line.count
        ),
        "lines": [
            {
                "verdict": line.verdict,
                "label": line.label,
                "definition": line.definition,
                "count": line.count,
                "share": share(line.share),
                "wrong": "" if line.wrong is None or not line.count else share(line.wrong),
                "beside": line.beside,
            }
            for line in sae.lines
            if line.count or line.beside
        ],
        "absent": [line.label for line in sae.lines if not line.count and not line.beside],
        "advice": [
            {"text": _parts(each.text), "count": each.count, "share": share(each.share)}
            for each in sae.advice
        ],
        "named": [
            {
                "latent": each.latent,
                "name": each.name,
                "verdict": each.verdict,
                "label": each.label,
                "probability": share(each.probability),
                "sentence": each.sentence,
                "context": [_piece(piece) for piece in each.context],
                "about": each.about,
                "link": f"{section.page}#sae={index}&latent={each.latent}",
            }
            for each in sae.named
        ],
        "truth": sae.truth,
    }


def _piece(piece: Piece) -> View:
    # the space before a word stays outside the shading, so that it may end a line
    text = piece.text.lstrip() or piece.text
    # a style attribute would need leave from the page's policy; a class does not
    level = max(piece.level, piece.other)
    kind = "" if level <= 0 else ("own" if piece.level >= piece.other else "other")
    return {
        "gap": piece.text[: len(piece.text) - len(text)],
        "text": text,
        "kind": kind,
        "step": round(4 * min(1.0, level)),
        "peak": piece.peak,
    }


def _parts(text: str) -> list[View]:
    """Text with names of the package, which stand between backticks, apart."""
    pieces = text.split("`")
    return [{"text": each, "code": i % 2 == 1} for i, each in enumerate(pieces) if each]


def explorer_view(section: DiagnosisExplorer, data: View) -> View:
    """The data of each SAE apart, so that one is read only when it is opened."""
    shared = {k: data[k] for k in ("verdicts", "columns", "roles", "advice", "corpus")}
    return {
        "saes": [
            {"name": sae.name, "data": Markup(script_json(found))}
            for sae, found in zip(section.saes, data["saes"], strict=True)
        ],
        "shared": Markup(script_json(shared)),
        "has_text": section.corpus is not None,
        "has_truth": any("truth" in sae.arrays for sae in section.saes),
        "verdicts": [
            {"name": name, "label": name.replace("_", " "), "definition": text}
            for name, text in section.verdicts.items()
        ],
    }


def share(value: float) -> str:
    """A share as a percentage that keeps a digit or two where it is small.

    >>> [share(v) for v in (0.0, 0.00042, 0.0213, 0.5, 1.0)]
    ['0%', '0.04%', '2.1%', '50%', '100%']
    """
    percent = 100 * value
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f}%"
    return f"{percent:.1g}%" if percent < 0.95 else f"{percent:.2g}%"
