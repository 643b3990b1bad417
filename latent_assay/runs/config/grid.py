"""Many SAEs from one table: the cross product of its axes.

    [[grid]]
    recipe = "batchtopk"
    lr = 3e-4
    seeds = [0, 1, 2]
    [grid.over]
    width = [1024, 2048]
    k = [16, 32, 64]

makes six settings of three members each. A value may be a table that sets several options at once,
as where the levels of a matryoshka SAE follow its width:

    [grid.over]
    width = [{ width = 64, levels = [16, 64] }, { width = 256, levels = [64, 256] }]
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, cast

from latent_assay.errors import ConfigError, did_you_mean
from latent_assay.runs.config.plans import (
    Init,
    SAEPlan,
    check_recipe,
    read_plan,
    takes,
)
from latent_assay.runs.config.tables import read_table

LABELS = {
    "balance_matryoshka": "balance matryoshka",
    "batchtopk": "BatchTopK",
    "jumprelu": "JumpReLU",
    "linear": "linear",
    "matryoshka": "matryoshka",
    "matryoshka_batchtopk": "matryoshka BatchTopK",
    "relu_l1": "ReLU",
    "tied": "tied",
    "tied_orthogonal": "tied orthogonal",
    "topk": "TopK",
    "wsae": "WSAE",
}
"""What a recipe is called in names that a grid makes; any other by its own name."""

_MOST = 10_000
_AXES_OF_PLAN = ("recipe", "hook_point", "init", "init_noise", "mean_bias")


@dataclass(frozen=True, kw_only=True)
class GridPlan:
    """A table of SAEs: every combination of the values in `over`."""

    name: str | None = None
    """What the names of its SAEs begin with; None for the recipe's."""
    recipe: str | None = None
    """Its name in `latent_assay.recipes`, unless `over` has several."""
    about: str = ""
    """A sentence for the report."""
    hook_point: str | None = None
    """As of an SAE."""
    init: Init | None = None
    """As of an SAE."""
    init_noise: float = 0.0
    """As of an SAE."""
    mean_bias: bool | None = None
    """As of an SAE."""
    over: dict[str, list[Any]]
    """Axis → its values; a value that is a table sets several options at once."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the recipe that all have in common."""


def read_grid(content: Any, place: str) -> tuple[GridPlan, tuple[SAEPlan, ...]]:
    """One [[grid]] table, and the SAEs that it makes.

    **Raises:** `ConfigError` for an axis without values, one that is set beside `over` too, two
    settings of one name, and whatever is wrong with an SAE that it makes.
    """
    grid = cast(GridPlan, read_table(GridPlan, content, place))
    if not grid.over:
        raise ConfigError(
            f"{place} has nothing to go over; give its axes in [grid.over], as `k = [16, 32]`, or "
            "write [[sae]] for a single one."
        )
    for axis, values in grid.over.items():
        if not values:
            raise ConfigError(f"{place}: the axis `{axis}` has no values; give at least one.")
        if axis == "seeds":
            raise ConfigError(
                f"{place}: seeds are members of each SAE, not an axis; write `seeds` beside "
                "[grid.over]."
            )
        if axis in content:
            raise ConfigError(
                f"{place} sets `{axis}` and goes over it too; leave it in one of the two places."
            )
    _check_axes(grid, place)
    total = 1
    for values in grid.over.values():
        total *= len(values)
    if total > _MOST:
        raise ConfigError(f"{place} makes {total:,} settings; expected at most {_MOST:,}.")
    plans = tuple(_settings(grid, content, place))
    names = [each.name for each in plans]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"{place} makes two SAEs called {repeated[0]!r}; a value occurs twice, or tables of an "
            "axis need a `name` each to tell them apart."
        )
    return grid, plans


def _check_axes(grid: GridPlan, place: str) -> None:
    """Name an axis that no recipe of the grid takes, unless its values are tables."""
    named: list[Any] = [] if grid.recipe is None else [grid.recipe]
    for axis, values in grid.over.items():
        named += [
            each["recipe"] for each in values if isinstance(each, Mapping) and "recipe" in each
        ]
        named += [each for each in values if axis == "recipe" and not isinstance(each, Mapping)]
    for recipe in named or [None]:
        check_recipe(recipe, place)
    valid = {*_AXES_OF_PLAN}.union(*(takes(recipe) for recipe in named))
    for axis, values in grid.over.items():
        if axis not in valid and not all(isinstance(each, Mapping) for each in values):
            raise ConfigError(
                f"{place} cannot go over `{axis}`; it goes over {', '.join(sorted(valid))}, or "
                f"over tables that set several of them.{did_you_mean(axis, valid)}"
            )


def _settings(grid: GridPlan, content: Mapping[str, Any], place: str) -> Iterator[SAEPlan]:
    shared = {key: value for key, value in content.items() if key not in ("over", "name")}
    for point in product(*grid.over.values()):
        table = dict(shared)
        axes: dict[str, Any] = {}
        words: dict[str, str] = {}
        for axis, value in zip(grid.over, point, strict=True):
            sets = dict(value) if isinstance(value, Mapping) else {axis: value}
            label = sets.pop("name", None)
            first = next(iter(sets), axis)
            axes[axis] = sets.get(axis, label if label is not None else sets.get(first))
            words[axis] = word(first, sets.get(first)) if label is None else str(label)
            if both := sorted(set(sets) & set(table)):
                raise ConfigError(
                    f"{place} sets `{both[0]}` twice for one SAE, the second time by its axis "
                    f"`{axis}`; leave it in one place."
                )
            table |= sets
        recipe = table.get("recipe")
        check_recipe(recipe, place)
        begin = grid.name
        if begin is None:
            begin = words.pop("recipe", LABELS.get(str(recipe), str(recipe)))
        name = " ".join([begin, *words.values()])
        made = read_plan(table | {"name": name}, f"{place}, {name!r}")
        yield replace(made, grid=title(grid), axes=axes)


def title(grid: GridPlan) -> str:
    """What a grid is called: by its name, or else by its recipe."""
    recipe = str(grid.recipe)
    return grid.name or ("grid" if grid.recipe is None else LABELS.get(recipe, recipe))


def word(axis: str, value: Any) -> str:
    """An axis and its value in a name: `width 64`, but a recipe or hook point for itself."""
    if axis == "recipe":
        return LABELS.get(str(value), str(value))
    if axis == "hook_point":
        return f"at {value}"
    if isinstance(value, bool):
        return axis if value else f"no {axis}"
    if isinstance(value, list | tuple):
        return f"{axis} {'-'.join(map(_number, value))}"
    return f"{axis} {_number(value)}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
