r"""Maps of cosines: which latent points along which true feature.

Each row is a latent, each column a true feature; blue is a positive cosine, red-brown a
negative one, and strength is opacity, so that a cosine of 0 is the page itself. A clean latent
has one strong square in its row. A hedging latent has several weaker ones. In absorption the
parent's encoder row carries *negative* squares at its children, whose decoder rows carry the
parent.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from latent_assay.errors import DataError, ShapeError
from latent_assay.plots import style

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

MOST_SQUARES = 900  # more cells than this are drawn as a picture
MOST_NUMBERED = 14  # columns


def diagonal_order(cosines: Float[np.ndarray, "latent feature"]) -> Int[np.ndarray, " latent"]:
    r"""The order of latents that brings a map as near to a diagonal as it can be.

    Latents are assigned to features one to one so that $\sum_i |\cos(d_{\pi(i)}, f_i)|$ is
    greatest (Hungarian algorithm) and listed by their feature; the others follow, by the
    feature nearest to each.

    **Arguments:**
    - `cosines`: usually those of the decoder.

    **Returns:** a permutation; row `i` of the ordered map is latent `order[i]`.

    >>> diagonal_order(np.array([[0.0, 1.0], [0.9, 0.1]]))
    array([1, 0])
    """
    strength = np.nan_to_num(np.abs(cosines))
    latents, features = linear_sum_assignment(strength, maximize=True)
    matched = latents[np.argsort(features)]
    rest = np.setdiff1d(np.arange(len(strength)), matched)
    if len(rest) and strength.shape[1]:
        rest = rest[np.lexsort((-strength[rest].max(1), strength[rest].argmax(1)))]
    return np.concatenate([matched, rest]).astype(np.int64)


def cosine_map(
    cosines: Float[np.ndarray, "latent feature"],
    *,
    latents: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
) -> "matplotlib.figure.Figure":
    """One map, without a title. Numbers stand in the cells when there are few.

    In the figure, the cell of row i and column j has the gid `cell-i-j`.

    **Arguments:**
    - `cosines`: values in [-1, 1]; NaN leaves a cell empty.
    - `latents`, `features`: names of rows and columns; their indices by default.

    **Raises:** `DataError` for values outside [-1, 1]; `ShapeError` if names and values differ
    in number.
    """
    return _single_map(cosines, latents, features, low=-1.0)


def firing_map(
    probabilities: Float[np.ndarray, "latent feature"],
    *,
    latents: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
) -> "matplotlib.figure.Figure":
    """Like `cosine_map`, for probabilities: how often each latent fires when a feature does.

    **Raises:** as `cosine_map`, with the range [0, 1].
    """
    return _single_map(probabilities, latents, features, low=0.0)


def cosine_maps(
    decoders: Mapping[str, Float[np.ndarray, "latent feature"]],
    encoders: Mapping[str, Float[np.ndarray, "latent feature"]] | None = None,
    *,
    features: Sequence[str] | None = None,
) -> "matplotlib.figure.Figure":
    """Maps of several SAEs side by side: encoders in the upper row, decoders in the lower.

    **Arguments:**
    - `decoders`: an SAE's name → cosines of its decoder with the true features.
    - `encoders`: the same for encoders; a tied SAE may be left out, and then its upper place
      stays empty. `None` draws only decoders.
    - `features`: names of the columns; their indices by default.

    **Raises:** `DataError` for no SAE or values outside [-1, 1]; `ShapeError` if names and
    values differ in number.
    """
    if not decoders:
        raise DataError("expected at least one SAE to draw, received none. Pass {name: cosines}.")
    rows = [("encoder", encoders)] if encoders else []
    rows.append(("decoder", decoders))
    width, height = np.max([_map_size(values) for values in decoders.values()], axis=0)
    columns = len(decoders)
    figure, axes = style.new_figure(
        width * columns, (height + 24) * len(rows), rows=len(rows), columns=columns
    )
    for i, (part, maps) in enumerate(rows):
        for j, name in enumerate(decoders):
            panel = axes[i * columns + j]
            if name not in maps:
                panel.set_visible(False)
                continue
            _draw(panel, _checked(maps[name], None, features, -1.0), None, features)
            style.heading(panel, f"{name} · {part}")
    return figure


def _single_map(
    values: np.ndarray,
    latents: Sequence[str] | None,
    features: Sequence[str] | None,
    *,
    low: float,
) -> "matplotlib.figure.Figure":
    values = _checked(values, latents, features, low)
    figure, (panel,) = style.new_figure(*_map_size(values, latents, features))
    _draw(panel, values, latents, features)
    return figure


def _checked(
    values: np.ndarray, latents: Sequence[str] | None, features: Sequence[str] | None, low: float
) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ShapeError(
            f"a map needs values of the shape [latent, feature], received {list(values.shape)}. "
            "Choose one member first."
        )
    for names, size, what in (
        (latents, len(values), "latent"),
        (features, values.shape[1], "feature"),
    ):
        if names is not None and len(names) != size:
            raise ShapeError(
                f"the map has {size} {what}s but {len(names)} names for them. Name each one."
            )
    known = values[np.isfinite(values)]
    if len(known) and (known.min() < low - 1e-4 or known.max() > 1 + 1e-4):
        raise DataError(
            f"a map shows values in [{low:g}, 1], received values from {known.min():g} to "
            f"{known.max():g}. Divide by the lengths of both vectors."
        )
    return np.clip(values, low, 1.0)


def _map_size(
    values: np.ndarray,
    latents: Sequence[str] | None = None,
    features: Sequence[str] | None = None,
) -> tuple[float, float]:
    rows, columns = np.shape(values)
    if columns <= MOST_NUMBERED:
        cell = min(38.0, max(30.0, 180.0 / columns))
    else:
        cell = max(5.0, min(16.0, 420.0 / columns))
    tall = min(cell, 26.0) if rows * columns <= MOST_SQUARES else max(3.0, min(cell, 420.0 / rows))
    left = 24 + 6.2 * min(24, max((len(name) for name in latents or ["00"]), default=2))
    longest = max((len(name) for name in features or ["0"]), default=1)
    below = 34 + (4.8 * min(24, longest) if longest > 3 else 0)
    return left + cell * columns, below + tall * rows


def _draw(
    panel: "matplotlib.axes.Axes",
    values: np.ndarray,
    latents: Sequence[str] | None,
    features: Sequence[str] | None,
) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = values.shape
    panel.spines["bottom"].set_visible(False)
    panel.set_xlim(0, columns)
    panel.set_ylim(rows, 0)
    panel.add_patch(Rectangle((0, 0), columns, rows, facecolor=style.PANEL, linewidth=0))
    if values.size > MOST_SQUARES:
        _draw_picture(panel, values)
    else:
        _draw_squares(panel, values)
    _name_axis(panel, "y", rows, latents, "latent")
    _name_axis(panel, "x", columns, features, "feature")


def _draw_squares(panel: "matplotlib.axes.Axes", values: np.ndarray) -> None:
    from matplotlib.patches import Rectangle

    rows, columns = values.shape
    numbered = columns <= MOST_NUMBERED and rows <= 40
    for (i, j), value in np.ndenumerate(values):
        if not math.isfinite(value):
            continue
        colour = style.POSITIVE if value >= 0 else style.NEGATIVE
        square = Rectangle((j, i), 1, 1, facecolor=colour, alpha=abs(value), linewidth=0)
        square.set_gid(f"cell-{i}-{j}")
        square.set_in_layout(False)
        panel.add_patch(square)
        if numbered:
            strong = abs(value) >= style.STRONG
            faint = style.MUTED if abs(value) < 0.1 else style.FAINT_TEXT
            panel.text(
                j + 0.5, i + 0.5, _cell_number(value), ha="center", va="center_baseline",
                fontsize=10, color=style.STRONG_TEXT if strong else faint, in_layout=False,
            )  # fmt: skip
    gap = 2.0 if columns <= MOST_NUMBERED else 1.0
    panel.hlines(range(rows + 1), 0, columns, color=style.PAPER, linewidth=gap)
    panel.vlines(range(columns + 1), 0, rows, color=style.PAPER, linewidth=gap)


def _draw_picture(panel: "matplotlib.axes.Axes", values: np.ndarray) -> None:
    from matplotlib.colors import to_rgb

    rows, columns = values.shape
    picture = np.empty((rows, columns, 4))
    sign = (values >= 0)[..., None]
    picture[..., :3] = np.where(
        sign, to_rgb(style.PICTURE_POSITIVE), to_rgb(style.PICTURE_NEGATIVE)
    )
    picture[..., 3] = np.nan_to_num(np.abs(values))
    panel.imshow(
        picture, extent=(0, columns, rows, 0), aspect="auto", interpolation="none", zorder=2
    )


def _name_axis(
    panel: "matplotlib.axes.Axes", axis: str, size: int, names: Sequence[str] | None, label: str
) -> None:
    most = 20 if axis == "x" else 26
    every = 1
    if size > (most if names is None else 40):
        every = 5 * math.ceil(size / 50)
    places = list(range(0, size, every))
    texts = [style.shortened(names[i]) if names is not None else str(i) for i in places]
    centres = [place + 0.5 for place in places]
    if axis == "x":
        steep = max(map(len, texts)) > 3
        panel.set_xticks(centres, texts)
        for tick in panel.get_xticklabels():
            tick.set(parse_math=False, fontsize=10)
            if steep:
                tick.set(rotation=45, ha="right", rotation_mode="anchor")
        if names is None:
            panel.set_xlabel(label)
    else:
        panel.set_yticks(centres, texts)
        for tick in panel.get_yticklabels():
            tick.set(parse_math=False, fontsize=10)
        if names is None:
            panel.set_ylabel(label)


def _cell_number(value: float) -> str:
    """Two decimals without the leading zero: `.98`, `−.31`, `1`, `0`."""
    text = f"{abs(value):.2f}"
    if text in ("0.00", "1.00"):
        text = text[0]
    sign = "−" if value < 0 and text != "0" else ""
    return sign + text.removeprefix("0") if text != "0" else "0"
