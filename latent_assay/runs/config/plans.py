"""How to train, and which SAEs."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from latent_assay.errors import ConfigError, did_you_mean
from latent_assay.recipes import RECIPES
from latent_assay.runs.config.tables import DERIVED, keys, known, read_table
from latent_assay.training import TrainingConfig

Init = Literal["tied_random", "kaiming", "features"]

_NOT_IN_FILES = {"d_in", "init", "b_dec", "dtype", "others"}


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How every SAE of the run is trained, where its recipe leaves it open."""

    steps: int = 10_000
    """Optimiser steps."""
    batch_size: int = 2_048
    """Activations per step."""
    betas: tuple[float, float] | None = None
    """Adam's decay rates, if not the recipe's own."""
    lr_warm_up_steps: int = 0
    """Steps over which the learning rate rises."""
    lr_decay_steps: int = 0
    """Steps at the end over which it falls to zero."""
    log_every: int = 100
    """Steps between two records."""
    checkpoint_every: int | None = 1_000
    """Steps between two checkpoints."""
    autocast: bool = False
    """Whether to compute in bfloat16 where that is safe."""
    members: int | None = None
    """The most SAEs of a grid that are trained as members of one; None for no limit."""


@dataclass(frozen=True, kw_only=True)
class SAEPlan:
    """One SAE, or one ensemble of them."""

    name: str
    """Its name in the report and on the disk."""
    recipe: str
    """Its name in `latent_assay.recipes`."""
    about: str = ""
    """A sentence for the report."""
    hook_point: str | None = None
    """Which of the model's hook points it reads; None if there is only one."""
    init: Init | None = None
    """Initial weights; None is the recipe's own. `features` needs a world."""
    init_noise: float = 0.0
    """Noise on initial features."""
    mean_bias: bool | None = None
    """Whether `b_dec` begins at the mean activation; None: on models and files, not in worlds."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the recipe."""
    grid: str = field(default="", metadata=DERIVED)
    """The grid that it is from; empty for an SAE that stands alone in the file."""
    axes: dict[str, Any] = field(default_factory=dict, metadata=DERIVED)
    """Where it stands in that grid: axis → value."""

    @property
    def members(self) -> int:
        """How many SAEs it is: the length of the options with a value for each member."""
        lengths = [
            len(self.options[name])
            for name in per_member(self.recipe)
            if isinstance(self.options.get(name), list | tuple)
        ]
        beta = self.options.get("beta")
        if isinstance(beta, list | tuple) and beta and isinstance(beta[0], list | tuple):
            lengths.append(len(beta))
        return max(lengths, default=1)


def per_member(recipe: str) -> set[str]:
    """The arguments of a recipe that take one value, or a list with one for each member."""
    return {
        name
        for name, parameter in _parameters(recipe).items()
        if name not in ("beta", "levels") and "Sequence" in str(parameter.annotation)
    }


def takes(recipe: str) -> set[str]:
    """The arguments of a recipe that a file can give."""
    return set(_parameters(recipe)) - _NOT_IN_FILES


def _parameters(recipe: str) -> Mapping[str, inspect.Parameter]:
    parameters = dict(inspect.signature(RECIPES[recipe]).parameters)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        parameters |= inspect.signature(RECIPES["matryoshka_batchtopk"]).parameters
    return parameters


def check_recipe(recipe: Any, place: str) -> None:
    """Raise `ConfigError` for a recipe that there is not."""
    if recipe not in RECIPES:
        raise ConfigError(
            f"{place} needs a `recipe`, one of {', '.join(RECIPES)}; found {recipe!r}."
            f"{did_you_mean(str(recipe), RECIPES)}"
        )


def read_plan(content: Any, place: str) -> SAEPlan:
    """One [[sae]] table.

    **Raises:** `ConfigError` for anything unknown, missing or of the wrong type.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place} must be a table, found {content!r}.")
    recipe = content.get("recipe")
    check_recipe(recipe, place)
    options = {name: value for name, value in content.items() if name not in keys(SAEPlan)}
    known(options, takes(str(recipe)), f"{place}, recipe `{recipe}`,")
    return cast(SAEPlan, read_table(SAEPlan, content, place))


def training_config(published: TrainingConfig, plan: TrainingPlan) -> TrainingConfig:
    """A recipe's published settings with those of the run in their place."""
    return replace(
        published,
        steps=plan.steps,
        betas=published.betas if plan.betas is None else plan.betas,
        lr_warm_up_steps=plan.lr_warm_up_steps,
        lr_decay_steps=plan.lr_decay_steps,
        log_every=plan.log_every,
        checkpoint_every=plan.checkpoint_every,
        autocast=plan.autocast,
    )
