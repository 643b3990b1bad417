"""The sizes of a step on a small language model's activations."""

from typing import Any

LEVELS = {1: [8192], 2: [2048, 8192], 3: [512, 2048, 8192], 5: [512, 1024, 2048, 4096, 8192]}
"""Widths of nested levels, by their number."""

STEP: dict[str, Any] = {
    "d_in": 384,
    "width": 8192,
    "k": 32,
    "batch": 2048,
    # so small that dead latents stay dead, and every step costs the same
    "lr": 1e-7,
    "dead_after": 4 * 2048,
    "dead_share": 0.05,
    # twelve of our steps find the dead latents; SAELens is told of them at the start
    "warm_up": 12,
    "peer_warm_up": 5,
}
"""The step that targets speak of: a twentieth of the latents is dead."""

RECIPES = {
    "topk": "TopK",
    "batchtopk": "BatchTopK",
    "matryoshka_batchtopk": "matryoshka BatchTopK, 5 levels",
}
"""Recipes and what a table calls them."""


def settings(recipe: str, **others: Any) -> dict[str, Any]:
    """The step with a recipe, changed where wanted."""
    return STEP | {"recipe": recipe, "levels": LEVELS[5]} | others
