"""What the template shows of claims: an overview, and every claim with its figures."""

import re
from collections.abc import Mapping
from typing import Any

from latent_assay.report.claim import Claim, ClaimGroup, ClaimOverview, Figure
from latent_assay.report.content import CosineMaps, FiringTable, Histogram, Prose, TrainingCurves
from latent_assay.report.metrics_table import MetricsTable
from latent_assay.report.views import Drawing, View, trained_names, view_of

# What fits beside the numbers, in CSS pixels: two curves below each other, two rows of maps, a
# table that need not be scrolled. Whatever is larger stands below, over the full width.
COLUMN = 505
GAP = 24
MOST_CURVES = 2
MOST_ROWS_OF_MAPS = 2
CHARACTER = 7
LONG = 24  # characters, from which on an expectation may take a second line


def overview_view(section: ClaimOverview) -> View:
    """The tally, what failed, and the list by source."""
    claims = section.claims
    return {
        "total": len(claims),
        "passed": sum(claim.passed for claim in claims),
        "readings": sum(len(claim.readings) for claim in claims),
        "readings_passed": sum(r.passed for claim in claims for r in claim.readings),
        "failed": [_brief(claim) for claim in claims if not claim.passed],
        "groups": [
            {
                "title": group.title,
                "passed": group.passed,
                "total": len(group.claims),
                "claims": [_brief(claim) for claim in group.claims],
            }
            for group in section.groups
        ],
    }


def group_view(section: ClaimGroup, prefix: str, data: View, anchors: Mapping[str, str]) -> View:
    """Every claim of one source, and how many of them hold.

    **Arguments:**
    - `section`: the group.
    - `prefix`: begins the ids of its figures.
    - `data`: its JSON.
    - `anchors`: the fragment for each id of the page; where a text names an id, it becomes a link.
    """
    return {
        "passed": section.passed,
        "total": len(section.claims),
        "claims": [
            _claim(claim, f"{prefix}c{i}", found, anchors)
            for i, (claim, found) in enumerate(zip(section.claims, data["claims"], strict=True))
        ],
    }


def _brief(claim: Claim) -> View:
    members = f"{claim.members} member{'' if claim.members == 1 else 's'}"
    return {
        "id": claim.id,
        "title": claim.title,
        "anchor": claim.anchor,
        "passed": claim.passed,
        "verdict": claim.verdict,
        "members": members,
        "readings": len(claim.readings),
        "readings_passed": sum(reading.passed for reading in claim.readings),
    }


def _claim(claim: Claim, prefix: str, data: View, anchors: Mapping[str, str]) -> View:
    # colours are those of the claim alone: two SAEs in a figure should look as unlike as can be
    drawing = Drawing(order=trained_names(claim.figures))
    others = {name: anchor for name, anchor in anchors.items() if name != claim.id}
    places: dict[str, list[View]] = {"beside": [], "below": []}
    for i, (figure, found) in enumerate(zip(claim.figures, data["figures"], strict=True)):
        name = f"{prefix}f{i}"
        view = {"id": name} | view_of(figure, drawing, name, found)
        beside = _fits(figure, view)
        places["beside" if beside else "below"].append(view)
    return (
        _brief(claim)
        | places
        | {
            "claim": _linked(claim.claim, others),
            "setup": _linked(claim.setup, others),
            "errors": _linked(claim.errors, others),
            "note": _linked(claim.note, others),
            "rows": [
                {
                    "name": r.name,
                    "found": r.found,
                    "wanted": r.wanted,
                    "long": len(r.wanted) > LONG,
                    "passed": r.passed,
                }
                for r in claim.readings
            ],
        }
    )


def _linked(text: str, anchors: Mapping[str, str]) -> list[tuple[str, str]]:
    """The text in pieces, each with the fragment it leads to, if it is the id of a claim."""
    names = "|".join(map(re.escape, sorted(anchors, key=len, reverse=True)))
    if not names or not text:
        return [(text, "")] if text else []
    pieces = re.split(rf"(?<![\w-])({names})(?![\w-])", text)
    return [(piece, anchors[piece] if i % 2 else "") for i, piece in enumerate(pieces) if piece]


def _fits(figure: Figure, view: View) -> bool:
    """Whether a figure is small enough to stand beside the numbers."""
    if isinstance(figure, Prose | Histogram):
        return True
    if isinstance(figure, TrainingCurves):
        return len(figure.curves) <= MOST_CURVES
    if isinstance(figure, MetricsTable):
        return _table_width(figure) <= COLUMN
    if isinstance(figure, CosineMaps | FiringTable):
        widths = [_map_width(m) for m in view["maps"]]
        across = max(1, (COLUMN + GAP) // (max(widths, default=1) + GAP))
        return max(widths, default=0) <= COLUMN and len(widths) <= across * MOST_ROWS_OF_MAPS
    return False


def _table_width(table: MetricsTable) -> int:
    cells = [max(len(c.label) + len(c.unit), 2 * c.digits + 7) + 2 for c in table.columns]
    names = max((len(row.name) for row in table.rows), default=0)
    return CHARACTER * (sum(cells) + names)


def _map_width(view: dict[str, Any]) -> int:
    """The width of the widest drawing of one SAE."""
    found = [re.search(r'\bwidth="([\d.]+)', part["svg"] or "") for part in view["parts"]]
    return max((round(float(match[1])) for match in found if match), default=0)
