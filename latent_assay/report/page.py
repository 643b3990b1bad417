"""The report as one HTML page: no network, no server, nothing executed but its own script.

Everything that came from data reaches the page through autoescaping, through SVG text, or as
JSON that the script shows by `textContent`. A content security policy backs that up: the page
may run the one script and the one style sheet whose hashes it names, and may load nothing.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from latent_assay.report.claim import ClaimGroup, ClaimOverview, Figure, figures_of
from latent_assay.report.claim_views import group_view, overview_view
from latent_assay.report.diagnosis import DiagnosisExplorer, VerdictOverview
from latent_assay.report.diagnosis import views as diagnosis_views
from latent_assay.report.strict_json import plain
from latent_assay.report.views import Drawing, View, heading, trained_names, view_of

Section = Figure | ClaimGroup | ClaimOverview | VerdictOverview | DiagnosisExplorer

# which scripts a page needs, in the order in which they run; the first before the page is drawn
_ALWAYS = ("theme", "page")
_SCRIPTS = {
    "latent_browser": ("dom", "latents"),
    "diagnoses": (
        "dom",
        *(f"diagnosis/{name}" for name in ("data", "charts", "family", "latent", "explorer")),
    ),
}
_STYLES = ("report.css", "diagnosis/diagnosis.css")


def render(
    *,
    title: str,
    summary: str,
    created: str,
    provenance: Mapping[str, Any],
    sections: Sequence[Section],
    content: Mapping[str, Any],
) -> str:
    """The page as HTML text.

    **Arguments:**
    - `title`, `summary`, `created`, `provenance`, `sections`: as the fields of `Report`.
    - `content`: the report's JSON, from which the browser of latents takes its data.
    """
    drawing = Drawing(order=trained_names(s for s in sections if isinstance(s, Figure)))
    groups = [section for section in sections if isinstance(section, ClaimGroup)]
    anchors = {claim.id: claim.anchor for group in groups for claim in group.claims}
    views = [
        {"id": _slug(number, section.title)} | _view(section, drawing, f"f{number}", data, anchors)
        for number, (section, data) in enumerate(zip(sections, content["sections"], strict=True), 1)
    ]
    kinds = {figure.kind for figure in figures_of(sections)}
    files = resources.files("latent_assay.report")
    css = "".join(files.joinpath(name).read_text(encoding="utf-8") for name in _STYLES)
    names = dict.fromkeys(
        [*_ALWAYS, *(n for kind in _SCRIPTS if kind in kinds for n in _SCRIPTS[kind])]
    )
    scripts = {name: files.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in names}
    allowed = " ".join(f"'{_hash(script)}'" for script in scripts.values())
    policy = (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src {allowed}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=PackageLoader("latent_assay", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        title=title,
        paragraphs=[p for p in summary.split("\n\n") if p.strip()],
        created=created,
        facts=_flat({k: v for k, v in provenance.items() if not isinstance(v, Mapping)}),
        groups=[(k, _flat(v)) for k, v in provenance.items() if isinstance(v, Mapping)],
        sections=views,
        has_maps="cosine_maps" in kinds,
        has_claims=bool(groups),
        policy=policy,
        # the package's own files, so nothing to escape
        css=Markup(css),
        scripts={name: Markup(script) for name, script in scripts.items()},
    )
    return plain(page) + "\n"


def _view(
    section: Section, drawing: Drawing, prefix: str, data: View, anchors: Mapping[str, str]
) -> View:
    if isinstance(section, ClaimOverview):
        return heading(section) | overview_view(section)
    if isinstance(section, ClaimGroup):
        return heading(section) | group_view(section, prefix, data, anchors)
    if isinstance(section, VerdictOverview):
        return heading(section) | diagnosis_views.overview_view(section)
    if isinstance(section, DiagnosisExplorer):
        return heading(section) | diagnosis_views.explorer_view(section, data)
    return view_of(section, drawing, prefix, data)


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in mapping.items():
        if isinstance(value, list | tuple):
            if any(isinstance(item, Mapping) for item in value):
                value = {str(i): item for i, item in enumerate(value)}
            else:
                value = ", ".join(map(str, value))
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key} › ")
        else:
            found.append((f"{prefix}{key}", "—" if value is None else str(value)))
    return found


def _slug(number: int, title: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f"s{number}-{words}" if words else f"s{number}"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
