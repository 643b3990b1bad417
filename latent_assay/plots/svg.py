"""Figures as inline SVG that follows the theme of the page around it."""

import io
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from latent_assay.plots import style

if TYPE_CHECKING:
    import matplotlib.figure

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
# What matplotlib writes into `style=` and a browser reads just as well from an attribute. Fonts
# are left to the page; a style attribute would be refused by its content security policy.
PRESENTATION = {
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray",
    "stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "opacity", "font-size",
    "font-weight", "text-anchor",
}  # fmt: skip


def inline_svg(
    figure: "matplotlib.figure.Figure",
    *,
    prefix: str,
    label: str,
    tooltips: Mapping[str, str] | None = None,
) -> str:
    """The figure as an `<svg>` element to be placed inside an HTML page.

    Text stays text; colours of `latent_assay.plots.style` become custom properties of the page,
    as in `fill="var(--ink)"`; there are no style attributes, no scripts, no dates, and the same
    figure gives the same markup every time.

    **Arguments:**
    - `figure`: a figure drawn by this package.
    - `prefix`: begins every id, so that figures of one page do not collide.
    - `label`: what a screen reader says in place of the figure.
    - `tooltips`: an artist's gid → the text that appears when the pointer rests on it.
    """
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with (
        rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}),
        warnings.catch_warnings(),
    ):
        # the browser has fonts for what matplotlib's own font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    _rewrite(root, prefix, dict(tooltips or {}))
    for name in ("width", "height"):
        root.set(name, root.get(name, "").removesuffix("pt"))
    root.attrib.pop("version", None)
    root.set("role", "img")
    root.set("aria-label", style.plain(label))
    root.set("stroke-linejoin", "round")
    ElementTree.register_namespace("", SVG.strip("{}"))
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    # inside HTML the namespaces are implied, and `href` needs none
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text, count=4)
    return re.sub(r">\s+<", "><", re.sub(r"\b\w+:href=", "href=", text))


def _rewrite(root: ElementTree.Element, prefix: str, tooltips: dict[str, str]) -> None:
    variables = style.css_variables()
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)
    for element in root.iter():
        for name, value in _declarations(element.attrib.pop("style", "")):
            element.set(name, _themed(value, variables))
        element.attrib.pop("transform-origin", None)
        if "d" in element.attrib:
            path = " ".join(element.get("d", "").split())
            element.set("d", re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}", path))
        gid = element.attrib.get("id")
        if gid in tooltips:
            title = ElementTree.Element(f"{SVG}title")
            title.text = style.plain(tooltips[gid])
            element.insert(0, title)
    _rename(root, prefix)


def _rename(root: ElementTree.Element, prefix: str) -> None:
    """Prefix the ids that something refers to and drop the others."""
    used = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == HREF and value.startswith("#"):
                used.add(value[1:])
                element.set(name, f"#{prefix}-{value[1:]}")
            elif reference := re.fullmatch(r"url\(#(.+)\)", value):
                used.add(reference[1])
                element.set(name, f"url(#{prefix}-{reference[1]})")
    for element in root.iter():
        gid = element.attrib.pop("id", None)
        if gid in used:
            element.set("id", f"{prefix}-{gid}")


def _declarations(text: str) -> list[tuple[str, str]]:
    pairs = [part.split(":", 1) for part in text.split(";") if ":" in part]
    found = [(name.strip(), value.strip()) for name, value in pairs]
    shorthand = dict(found).get("font")  # matplotlib before 3.10
    if shorthand is not None:
        size = re.search(r"([\d.]+)px", shorthand)
        weight = re.search(r"\b(bold|[1-9]00)\b", shorthand.split("px")[0])
        found += [("font-size", f"{size[1]}px")] if size else []
        found += [("font-weight", weight[1])] if weight else []
    return [(name, value) for name, value in found if name in PRESENTATION]


def _themed(value: str, variables: dict[str, str]) -> str:
    name = variables.get(value.lower())
    return f"var({name})" if name else value
