"""What is to be extended, and how: the hedging degree of SAEs of one recipe over a grid.

    [[extension]]
    name = "BatchTopK"
    recipe = "batchtopk"
    k = 16
    seeds = [0, 1, 2]
    n = 16
    first_steps = 700
    steps = 700
    [extension.over]
    width = [32, 64, 128, 256]
    [extension.case]
    at = { width = 64 }

The first axis of `over` is the horizontal one of the report's curves; every combination of the
others is a curve.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, cast

from latent_assay.errors import ConfigError, did_you_mean
from latent_assay.runs.config.plans import Init, SAEPlan, check_recipe, read_plan, takes
from latent_assay.runs.config.tables import keys, known, read_table

_AXES_OF_PLAN = frozenset({"n", "hook_point", "first_steps", "steps", "norm", "penalty_floor"})
_OF_AN_SAE = ("recipe", "hook_point", "init", "init_noise", "mean_bias", "seeds")


@dataclass(frozen=True, kw_only=True)
class CasePlan:
    """The case study of one setting: an [extension.case] table."""

    at: dict[str, Any] = field(default_factory=dict)
    """Axis → value, where it is ambiguous; the first setting that has them."""
    member: int = 0
    """Which member of its ensemble."""
    cases: int = 6
    """New latents, those first to which most was given."""
    top: int = 4
    """Old latents for each."""
    contexts: int = 5
    """Contexts of each latent."""
    rows: int = 50_000
    """Activations, from the beginning of the text, among which contexts are looked for."""


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
    seeds: tuple[int, ...] = (0, 1, 2)
    """A member for each."""
    n: int = 64
    """Latents that an SAE is extended by."""
    first_steps: int | None = None
    """Steps of the first phase; None for those of [training]."""
    steps: int | None = None
    """Steps of the second; None for those of [training]."""
    norm: float | None = None
    """Length of new rows; None: 1 where decoder rows are held at length one, otherwise 0.1."""
    penalty_floor: float | None = None
    """The least sparsity penalty in the second phase, where it warms up again; None for no second
    warm-up."""
    baselines: int = 50
    """Random subspaces for the metric."""
    init: Init | None = None
    """As of an SAE."""
    init_noise: float = 0.0
    """As of an SAE."""
    mean_bias: bool | None = None
    """As of an SAE."""
    case: CasePlan | None = None
    """The setting of which a case study is made; None for none."""
    over: dict[str, list[Any]] = field(default_factory=dict)
    """Axis → its values: `width`, another argument of the recipe, `n`, `hook_point`, or a field of
    this table that says how training goes."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the recipe."""

    @property
    def settings(self) -> "tuple[Setting, ...]":
        """Every combination of the values in `over`, in order."""
        return tuple(_settings(self))

    @property
    def axis(self) -> str | None:
        """The horizontal axis; None where there is one setting only."""
        return next(iter(self.over), None)

    @property
    def hook_points(self) -> tuple[str | None, ...]:
        """All that are read."""
        return tuple(dict.fromkeys(each.hook_point for each in self.settings))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A point of the grid."""

    axes: dict[str, Any]
    """Axis → value."""
    plan: SAEPlan
    """The SAEs that are extended, one member for each seed."""
    n: int
    """As of the table, like the rest."""
    first_steps: int | None
    """Steps of the first phase."""
    steps: int | None
    """Steps of the second."""
    norm: float | None
    """Length of new rows."""
    penalty_floor: float | None
    """The least sparsity penalty in the second phase."""

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return self.plan.name

    @property
    def hook_point(self) -> str | None:
        """Where its activations are read."""
        return self.plan.hook_point


def read_extension(content: Any, place: str) -> ExtensionPlan:
    """One [[extension]] table.

    **Raises:** `ConfigError` for anything unknown, missing or of the wrong type, in any setting.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place} must be a table, found {content!r}.")
    recipe = content.get("recipe")
    check_recipe(recipe, place)
    own = takes(str(recipe)) - {"seeds"}
    options = {name: value for name, value in content.items() if name not in keys(ExtensionPlan)}
    known(options, own, f"{place}, recipe `{recipe}`,")
    if isinstance(content.get("case"), Mapping):
        known(content["case"], keys(CasePlan), f"{place}, [extension.case]")
    plan = cast(ExtensionPlan, read_table(ExtensionPlan, content, place))
    for axis, values in plan.over.items():
        valid = own | _AXES_OF_PLAN
        if axis not in valid:
            raise ConfigError(
                f"{place} cannot go over `{axis}`; it goes over {', '.join(sorted(valid))}."
                f"{did_you_mean(axis, valid)}"
            )
        if axis in content:
            raise ConfigError(
                f"{place} sets `{axis}` and goes over it too; leave it in one of the two places."
            )
        if not values or any(value in values[:i] for i, value in enumerate(values)):
            raise ConfigError(
                f"{place}: the axis `{axis}` needs different values, at least one, got {values}."
            )
    if not plan.seeds:
        raise ConfigError(f"{place} needs at least one seed, got none.")
    for each in _settings(plan, place):
        _check(each, place)
    if plan.case is not None:
        case_setting(plan, place)
    return plan


def case_setting(plan: ExtensionPlan, place: str = "[[extension]]") -> Setting:
    """The setting of which a case study is wanted.

    **Raises:** `ConfigError` if there is none, or no such member.
    """
    assert plan.case is not None
    wanted = plan.case.at
    found = [
        each
        for each in plan.settings
        if all(each.axes.get(axis) == value for axis, value in wanted.items())
    ]
    if not found:
        raise ConfigError(
            f"{place} wants a case study at {wanted}, but no setting has these values; it goes "
            f"over {plan.over}."
        )
    if not 0 <= plan.case.member < len(plan.seeds):
        raise ConfigError(
            f"{place} wants a case study of member {plan.case.member}; expected 0 to "
            f"{len(plan.seeds) - 1}."
        )
    return found[0]


def _settings(plan: ExtensionPlan, place: str = "[[extension]]") -> Iterator[Setting]:
    for point in product(*plan.over.values()):
        axes = dict(zip(plan.over, point, strict=True))
        of_plan = {name: axes.get(name, getattr(plan, name)) for name in _AXES_OF_PLAN}
        name = " ".join(f"{axis} {_word(value)}" for axis, value in axes.items()) or plan.recipe
        table = {key: axes.get(key, getattr(plan, key)) for key in _OF_AN_SAE}
        table |= {key: value for key, value in axes.items() if key not in _AXES_OF_PLAN}
        table = {key: value for key, value in (plan.options | table).items() if value is not None}
        sae = read_plan(table | {"name": name}, f"{place} at {name}")
        del of_plan["hook_point"]
        yield Setting(axes=axes, plan=sae, **of_plan)


def _check(setting: Setting, place: str) -> None:
    for name in ("n", "first_steps", "steps"):
        value = getattr(setting, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and (not whole or value < 1):
            raise ConfigError(f"{place}: `{name}` must be a number from 1 up, got {value!r}.")
    if setting.norm is not None and not setting.norm > 0:
        raise ConfigError(f"{place}: `norm` must be positive, got {setting.norm}.")
    if setting.penalty_floor is not None and not setting.penalty_floor >= 0:
        raise ConfigError(
            f"{place}: `penalty_floor` must not be negative, got {setting.penalty_floor}."
        )
    per_seed = setting.plan.members
    if per_seed != len(setting.plan.options["seeds"]):
        raise ConfigError(
            f"{place}: an argument of the recipe has {per_seed} values; here members are seeds, so "
            "give one value for all of them, or go over the values in [extension.over]."
        )


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "-".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
