"""What is to be extended, and how: the hedging degree of SAEs of one recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from latent_assay.errors import ConfigError
from latent_assay.runs.config.plans import check_recipe, takes
from latent_assay.runs.config.tables import keys, known, read_table


@dataclass(frozen=True, kw_only=True)
class ExtensionPlan:
    """SAEs that are trained, and then trained on with and without new latents."""

    name: str
    """Its heading in the report and its folder."""
    recipe: str
    """Its name in `latent_assay.recipes`."""
    about: str = ""
    """A sentence for the report."""
    hook_point: str | None = None
    """Which of the model's hook points it reads; None if there is only one."""
    n: int = 64
    """Latents that an SAE is extended by."""
    first_steps: int | None = None
    """Steps of the first phase; None for those of [training]."""
    steps: int | None = None
    """Steps of the second; None for those of [training]."""
    penalty_floor: float | None = None
    """The least sparsity penalty in the second phase, where it warms up again."""
    baselines: int = 50
    """Random subspaces for the metric."""
    over: dict[str, list[Any]] = field(default_factory=dict)
    """Axis → its values: `width`, another argument of the recipe, `n`, or `hook_point`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the recipe."""


def read_extension(content: Any, place: str) -> ExtensionPlan:
    """One [[extension]] table.

    **Raises:** `ConfigError` for anything unknown, missing or of the wrong type.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place} must be a table, found {content!r}.")
    recipe = content.get("recipe")
    check_recipe(recipe, place)
    options = {name: value for name, value in content.items() if name not in keys(ExtensionPlan)}
    known(options, takes(str(recipe)), f"{place}, recipe `{recipe}`,")
    return cast(ExtensionPlan, read_table(ExtensionPlan, content, place))
