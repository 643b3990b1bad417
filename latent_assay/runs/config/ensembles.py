"""Which SAEs of a run are trained as members of one.

Settings of a grid that differ only in what a recipe takes for each member (seeds, learning rates,
k, coefficients) become one ensemble: a member trained in company equals the same member trained
alone, and costs less. Widths stay apart, as narrow members would be padded to the widest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from latent_assay.runs.config.plans import SAEPlan, per_member

_APART = {"width"}


@dataclass(frozen=True, kw_only=True)
class EnsemblePlan:
    """SAEs that are trained as members of one."""

    name: str
    """Its name on the disk."""
    plans: tuple[SAEPlan, ...]
    """The SAEs, each with one member or several."""

    @property
    def first(self) -> SAEPlan:
        """The first of them, whose settings apart from members' own are those of all."""
        return self.plans[0]

    @property
    def together(self) -> SAEPlan:
        """All of them as one SAE of many members."""
        return replace(self.first, name=self.name, options=self.options)

    @property
    def hook_point(self) -> str | None:
        """Which of the model's hook points all of them read."""
        return self.first.hook_point

    @property
    def members(self) -> tuple[range, ...]:
        """Which members of the ensemble each SAE is."""
        found, start = [], 0
        for plan in self.plans:
            found.append(range(start, start + plan.members))
            start += plan.members
        return tuple(found)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the recipe for all members together."""
        if len(self.plans) == 1:
            return dict(self.first.options)
        each = per_member(self.first.recipe)
        options = dict(self.first.options)
        for name, value in options.items():
            if name in each and (name not in _APART or isinstance(value, list | tuple)):
                options[name] = [
                    value for plan in self.plans for value in _values(plan, plan.options[name])
                ]
            elif name == "beta":
                options[name] = [row for plan in self.plans for row in _rows(plan)]
        return options


def ensembles(plans: Iterable[SAEPlan], most: int | None) -> tuple[EnsemblePlan, ...]:
    """Divide SAEs into ensembles, in their order.

    **Arguments:**
    - `plans`: the SAEs; those that are of no grid stay alone.
    - `most`: the most members of an ensemble of several SAEs.
    """
    groups: dict[str, list[SAEPlan]] = {}
    for plan in plans:
        groups.setdefault(_key(plan), []).append(plan)
    found = []
    for group in groups.values():
        for part in _parts(group, most):
            name = part[0].name
            if len(part) > 1:
                name += f" and {len(part) - 1} more"
            found.append(EnsemblePlan(name=name, plans=tuple(part)))
    return tuple(found)


def _key(plan: SAEPlan) -> str:
    """Equal for SAEs that can be members of one ensemble."""
    if not plan.grid:
        return f"alone {plan.name}"
    own = (per_member(plan.recipe) | {"beta"}) - _APART
    shared = {name: value for name, value in plan.options.items() if name not in own}
    given = sorted(set(plan.options) & own)
    return repr(
        (
            plan.grid, plan.recipe, plan.hook_point, plan.init, plan.init_noise, plan.mean_bias,
            sorted(shared.items()), given,
        )
    )  # fmt: skip


def _parts(group: Sequence[SAEPlan], most: int | None) -> Iterable[list[SAEPlan]]:
    part: list[SAEPlan] = []
    members = 0
    for plan in group:
        if part and most is not None and members + plan.members > most:
            yield part
            part, members = [], 0
        part.append(plan)
        members += plan.members
    if part:
        yield part


def _values(plan: SAEPlan, value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * plan.members


def _rows(plan: SAEPlan) -> list[list[float]]:
    """Matryoshka coefficients, a row for each member."""
    beta = plan.options["beta"]
    if not isinstance(beta, list | tuple):
        beta = [beta] * len(plan.options["levels"])
    if beta and isinstance(beta[0], list | tuple):
        return [list(row) for row in beta]
    return [list(beta)] * plan.members
