"""A world in words."""

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.worlds.directions import largest_interference
from latent_assay.worlds.firing import Firing
from latent_assay.worlds.magnitudes import Magnitudes

# Beyond this the pairs of features take longer than one waits for a printed line.
MANY_FEATURES = 4096
# Lines of hierarchy that are shown.
TREE_LINES = 24


def portrait(
    directions: Float[Tensor, "feature d_in"],
    firing: Firing,
    magnitudes: Magnitudes,
    bias: Float[Tensor, " d_in"] | None,
) -> str:
    """Several lines that say what a world is made of."""
    n, d_in = directions.shape
    dtype = str(directions.dtype).removeprefix("torch.")
    lines = [
        f"World of {n} feature{'' if n == 1 else 's'} in {d_in} dimension"
        f"{'' if d_in == 1 else 's'} ({dtype}, {directions.device})",
        f"  directions  {_directions(directions)}",
        f"  firing      {firing.summary}",
        f"  rates       {_rates(firing)}",
        f"  magnitudes  {magnitudes.summary}",
        f"  bias        {'none' if bias is None else f'length {bias.double().norm().item():.3g}'}",
    ]
    if firing.forest.links:
        lines += ["  hierarchy", *(f"    {line}" for line in tree(firing))]
    return "\n".join(lines)


def tree(firing: Firing) -> list[str]:
    """The parents and children of a law as a tree, roots without children left out."""
    forest, rates = firing.forest, firing.marginals
    lines: list[str] = []

    def label(feature: int) -> str:
        return f"{feature}" if rates is None else f"{feature} (rate {rates[feature].item():.3g})"

    # depth first by a stack of its own: a forest may be deeper than Python recurses
    stack = [(root, "", "") for root in reversed(forest.roots) if forest.children[root]]
    while stack:
        feature, before, below = stack.pop()
        lines.append(before + label(feature))
        children = forest.children[feature]
        for child in reversed(children):
            last = child == children[-1]
            branch, trunk = ("└─ ", "   ") if last else ("├─ ", "│  ")
            stack.append((child, below + branch, below + trunk))
    hidden = len(lines) - TREE_LINES
    return lines if hidden <= 0 else [*lines[:TREE_LINES], f"... and {hidden} more"]


def _directions(directions: Float[Tensor, "feature d_in"]) -> str:
    lengths = directions.double().norm(dim=1)
    shortest, longest = lengths.min().item(), lengths.max().item()
    unit = abs(shortest - 1) < 1e-3 and abs(longest - 1) < 1e-3
    length = "unit length" if unit else f"lengths {shortest:.3g} to {longest:.3g}"
    if directions.shape[0] > MANY_FEATURES:
        return f"{length}; interference not computed for so many features"
    cosine, pair = largest_interference(directions)
    between = "" if pair is None or cosine < 1e-6 else f" between features {pair[0]} and {pair[1]}"
    return f"{length}; largest interference {cosine if between else 0:.3g}{between}"


def _rates(firing: Firing) -> str:
    rates = firing.marginals
    if rates is None:
        return "not known exactly; measure them with `statistics`"
    lowest, highest, l0 = (each.item() for each in (rates.min(), rates.max(), torch.sum(rates)))
    return f"{lowest:.3g} to {highest:.3g}; true L0 {l0:.4g}"
