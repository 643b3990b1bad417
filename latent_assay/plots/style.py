"""Colours, line patterns and the bare axes that every figure starts from.

The colours are those of the report's light theme. Each has a name there (`css_variables`), by
which `inline_svg` lets one drawing follow a light and a dark page.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsFloat

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# Told apart under protanopia, deuteranopia and tritanopia, and at 3:1 or more against the page.
SERIES = ("#1f66b0", "#c2410c", "#12876b", "#b8458c", "#b18a00", "#5c636e")
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5.0, 1.5),
    (1.5, 1.2),
    (6.0, 1.5, 1.5, 1.5),
    (3.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    (9.0, 2.0),
)
INK, MUTED, RULE, PANEL, PAPER = "#1d1f23", "#5b626d", "#dedfda", "#f3f3ef", "#fdfdfc"
ORACLE = "#8a6100"
POSITIVE, NEGATIVE = "#0f4f96", "#943210"
# not quite black: matplotlib leaves pure black out of its SVG, as the default
FAINT_TEXT, STRONG_TEXT = "#010101", "#ffffff"
# Above this strength a cell is so saturated that its number must change colour to stay readable.
STRONG = 0.75
# A picture cannot follow the theme, so its hues lie between those of the two themes.
PICTURE_POSITIVE, PICTURE_NEGATIVE = "#2f75bb", "#bb5628"

PIXELS_PER_INCH = 72  # one SVG unit: sizes below are the pixels that a page shows
TEXT = 11.0


def css_variables() -> dict[str, str]:
    """The report's custom property for each colour, as in `{"#1d1f23": "--ink"}`."""
    names = {colour: f"--series-{i}" for i, colour in enumerate(SERIES, start=1)}
    return names | {
        INK: "--ink",
        MUTED: "--muted",
        RULE: "--rule",
        PANEL: "--panel",
        PAPER: "--paper",
        ORACLE: "--oracle",
        POSITIVE: "--positive",
        NEGATIVE: "--negative",
        FAINT_TEXT: "--on-faint",
        STRONG_TEXT: "--on-strong",
    }


def series_colours(count: int) -> list[str]:
    """A colour for each of `count` series; they repeat, with another line pattern, after six."""
    return [SERIES[i % len(SERIES)] for i in range(count)]


def line_pattern(index: int) -> tuple[float, tuple[float, ...]]:
    """The dashes of the series at `index`, so that colour is never the only difference."""
    return 0.0, DASHES[(index + index // len(SERIES)) % len(DASHES)]


def new_figure(
    width: SupportsFloat, height: SupportsFloat, *, rows: int = 1, columns: int = 1
) -> "tuple[matplotlib.figure.Figure, list[matplotlib.axes.Axes]]":
    """A transparent figure of `rows` × `columns` bare axes, sized in CSS pixels."""
    from matplotlib.figure import Figure

    size = (float(width) / PIXELS_PER_INCH, float(height) / PIXELS_PER_INCH)
    figure = Figure(figsize=size, dpi=2 * PIXELS_PER_INCH, layout="constrained")
    figure.patch.set_alpha(0.0)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = [panel for row in grid for panel in row]
    for panel in axes:
        _bare(panel)
    return figure, axes


def quiet_grid(panel: "matplotlib.axes.Axes", axis: str) -> None:
    """Thin lines across one axis, behind the data."""
    panel.grid(visible=True, axis=axis, color=RULE, linewidth=0.8)  # type: ignore[arg-type]
    panel.set_axisbelow(True)


def heading(panel: "matplotlib.axes.Axes", text: str) -> None:
    """A panel's title, set flush left; `$` is a dollar sign, not mathematics."""
    panel.set_title(
        plain(text), loc="left", fontsize=TEXT + 1, color=INK, fontweight="bold", parse_math=False
    )


def plain(text: str) -> str:
    """Text without the characters that XML cannot hold.

    >>> plain("a\\x00b")
    'a�b'
    """
    return "".join(
        "\ufffd" if (ord(c) < 32 and c not in "\t\n\r") or 0xD800 <= ord(c) <= 0xDFFF else c
        for c in text
    ).translate({0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD})


def shortened(text: str, most: int = 24) -> str:
    """A name that leaves room for the data.

    >>> shortened("a name of many words", 12)
    'a name of m…'
    """
    text = plain(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def compact(value: SupportsFloat, _position: int | None = None) -> str:
    """A tick label that stays short.

    >>> [compact(v) for v in (0, 0.25, 12_000, 3e6, 1e-5, -0.5)]
    ['0', '0.25', '12k', '3M', '10⁻⁵', '−0.5']
    """
    value = float(value)
    size = abs(value)
    if size == 0:
        return "0"
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            text = f"{value / limit:.4g}{suffix}"
            break
    else:
        text = f"{value:.4g}" if size >= 1e-3 else _power(value)
    return text.replace("-", "−")


def _power(value: float) -> str:
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    mantissa = abs(value) / 10.0**exponent
    sign = "-" if value < 0 else ""
    power = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return sign + (power if abs(mantissa - 1) < 1e-6 else f"{mantissa:.3g}·{power}")


def _bare(panel: "matplotlib.axes.Axes") -> None:
    panel.patch.set_alpha(0.0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(MUTED)
    panel.spines["bottom"].set_linewidth(0.8)
    panel.tick_params(length=0, labelsize=TEXT, labelcolor=MUTED, pad=5)
    panel.xaxis.label.set(color=MUTED, fontsize=TEXT, parse_math=False)
    panel.yaxis.label.set(color=MUTED, fontsize=TEXT, parse_math=False)


def legend_entries(names: Sequence[str]) -> list[str]:
    """Names as a legend may show them; matplotlib hides entries that begin with `_`."""
    return [f"\u200b{plain(name)}" if name.startswith("_") else plain(name) for name in names]
