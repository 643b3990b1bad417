"""What one file says about a run: where activations come from, and which SAEs to train on them.

A file is TOML (or the same content as JSON). Exactly one of the tables `world`, `model` and
`activations` says where activations come from:

    title = "BatchTopK on a small model"

    [model]
    name = "bundled:all-MiniLM-L6-v2"
    hook_point = "blocks.2.hook_resid_post"
    tokens = 100_000

    [training]
    steps = 1_000
    batch_size = 2_048

    [[sae]]
    name = "BatchTopK"
    recipe = "batchtopk"
    width = 4_096
    k = 32
"""

import inspect
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from latent_assay.errors import ConfigError, did_you_mean
from latent_assay.recipes import RECIPES
from latent_assay.training import TrainingConfig

Init = Literal["tied_random", "kaiming", "features"]


@dataclass(frozen=True, kw_only=True)
class WorldSource:
    """A world whose true features are known."""

    preset: str
    """Its name in `latent_assay.worlds.presets`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the preset."""
    samples: int = 100_000
    """How many samples to measure on."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A language model that reads text."""

    name: str
    """A folder, a name on the hub, or `bundled:all-MiniLM-L6-v2`."""
    hook_point: str
    """Module path or TransformerLens name."""
    text: str = "cpython"
    """A file, a folder, a data set, or `cpython` for CPython's own documentation."""
    column: str | None = None
    """Column of a data set that holds the text."""
    split: str | None = None
    """Split of a data set."""
    tokens: int = 100_000
    """How many tokens to read."""
    context_size: int = 128
    """Tokens that the model reads at once."""
    held_out: float = 0.1
    """Share of the activations that is kept for measuring."""
    measured: int = 50_000
    """How many of them are measured on, at most."""
    browsed: int = 150_000
    """How many tokens, from the beginning, the pages of latents take their contexts from."""
    normalise: bool = True
    """Train on activations scaled to a mean length of √d_in; saved SAEs take raw ones."""
    device: str = "cpu"
    """Where the model runs."""


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """Activations of your own."""

    path: str
    """A `.npy` or safetensors file with one activation per row."""
    tensor: str | None = None
    """Which tensor of a safetensors file."""
    held_out: float = 0.1
    """Share that is kept for measuring."""
    measured: int = 50_000
    """How many of them are measured on, at most."""
    normalise: bool = True
    """Train on activations scaled to a mean length of √d_in; saved SAEs take raw ones."""


Source = WorldSource | ModelSource | FileSource


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


@dataclass(frozen=True, kw_only=True)
class SAEPlan:
    """One SAE, or one ensemble of them."""

    name: str
    """Its name in the report and on the disk."""
    recipe: str
    """Its name in `latent_assay.recipes`."""
    about: str = ""
    """A sentence for the report."""
    init: Init | None = None
    """Initial weights; None is the recipe's own. `features` needs a world."""
    init_noise: float = 0.0
    """Noise on initial features."""
    mean_bias: bool | None = None
    """Whether `b_dec` begins at the mean activation; None: on models and files, not in worlds."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the recipe."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run."""

    title: str
    """The report's heading."""
    summary: str = ""
    """What the reader should know first."""
    seed: int = 0
    """Seed of the data's order or sampling."""
    device: str = "cpu"
    """Where SAEs are trained."""
    source: Source
    """Where activations come from."""
    training: TrainingPlan = TrainingPlan()
    """How to train."""
    saes: tuple[SAEPlan, ...]
    """What to train."""

    def to_json(self) -> dict[str, Any]:
        """The same content as a JSON object, readable by `read_config`."""
        content = asdict(self)
        source = content.pop("source")
        plans = content.pop("saes")
        table = _TABLES[type(self.source)]
        return {**content, table: _flat(source), "sae": [_flat(plan) for plan in plans]}


def _flat(table: dict[str, Any]) -> dict[str, Any]:
    """A table with its options beside its own keys, as they stand in a file."""
    options = table.pop("options", {})
    return table | options


_TABLES: dict[type, str] = {WorldSource: "world", ModelSource: "model", FileSource: "activations"}


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = Path(__file__).parent / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_config(source: str | Path) -> RunConfig:
    """Read a configuration file, or one that comes with the package by its name.

    **Raises:** `ConfigError` naming the file, the place in it, and what was expected there.
    """
    path = shipped_configs().get(str(source), Path(source).expanduser())
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(
            f"cannot read the configuration '{source}' ({reason}); expected a TOML file or one of "
            f"{', '.join(shipped_configs())}.{did_you_mean(str(source), shipped_configs())}"
        ) from error
    try:
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ConfigError(
            f"'{source}' is not valid {kind}: {error}. Correct that place."
        ) from error
    try:
        return parse_config(content)
    except ConfigError as error:
        raise ConfigError(f"in '{source}': {error}") from error


def parse_config(content: Mapping[str, Any]) -> RunConfig:
    """Check a configuration's content and make it a `RunConfig`.

    **Raises:** `ConfigError` for anything unknown, missing, of the wrong type or out of range.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"a configuration must be a table, found {type(content).__name__}.")
    top = {each.name for each in fields(RunConfig)} - {"source", "saes"}
    _known(content, top | {"sae", *_TABLES.values()}, "the configuration")
    sources = [table for table in _TABLES.values() if table in content]
    if len(sources) != 1:
        raise ConfigError(
            "expected exactly one of the tables [world], [model] and [activations] to say where "
            f"activations come from, found {' and '.join(sources) or 'none'}."
        )
    plans = content.get("sae")
    if not isinstance(plans, list) or not plans:
        raise ConfigError("expected at least one [[sae]] table with a `name` and a `recipe`.")
    saes = tuple(_plan(each, number) for number, each in enumerate(plans, start=1))
    names = [each.name for each in saes]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"every [[sae]] needs a name of its own; {repeated[0]!r} occurs twice.")
    config = _checked(
        RunConfig,
        {name: content[name] for name in top & set(content)}
        | {
            "source": _source(sources[0], content[sources[0]]),
            "saes": saes,
            "training": _table(TrainingPlan, content.get("training", {}), "[training]"),
        },
        "the configuration",
    )
    for plan in config.saes:
        training_config(TrainingConfig(), config.training)
        if plan.init == "features" and not isinstance(config.source, WorldSource):
            raise ConfigError(
                f"[[sae]] {plan.name!r} begins at the true features, but only a [world] knows them."
            )
    return config


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
    )


def _source(table: str, content: Any) -> Source:
    kind = next(kind for kind, name in _TABLES.items() if name == table)
    if kind is not WorldSource:
        return cast(Source, _table(kind, content, f"[{table}]"))
    own = {each.name for each in fields(WorldSource)} - {"options"}
    if not isinstance(content, Mapping):
        raise ConfigError(f"[{table}] must be a table, found {content!r}.")
    options = {name: value for name, value in content.items() if name not in own}
    world = {name: content[name] for name in own & set(content)}
    return cast(Source, _table(WorldSource, world | {"options": options}, f"[{table}]"))


def _plan(content: Any, number: int) -> SAEPlan:
    place = f"[[sae]] number {number}"
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place} must be a table, found {content!r}.")
    own = {each.name for each in fields(SAEPlan)} - {"options"}
    recipe = content.get("recipe")
    if recipe not in RECIPES:
        raise ConfigError(
            f"{place} needs a `recipe`, one of {', '.join(RECIPES)}; found {recipe!r}."
            f"{did_you_mean(str(recipe), RECIPES)}"
        )
    options = {name: value for name, value in content.items() if name not in own}
    parameters = dict(inspect.signature(RECIPES[recipe]).parameters)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        parameters |= inspect.signature(RECIPES["matryoshka_batchtopk"]).parameters
    takes = set(parameters) - {"d_in", "init", "b_dec", "dtype", "others"}
    _known(options, takes, f"{place}, recipe `{recipe}`,")
    plan = {name: content[name] for name in own & set(content)}
    return cast(SAEPlan, _table(SAEPlan, plan | {"options": options}, place))


def _table(kind: type, content: Any, place: str) -> Any:
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place} must be a table, found {content!r}.")
    _known(content, {each.name for each in fields(kind)}, place)
    return _checked(kind, dict(content), place)


def _known(content: Mapping[str, Any], known: set[str], place: str) -> None:
    if unknown := sorted(set(content) - known):
        raise ConfigError(
            f"{place} knows no `{unknown[0]}`; it takes {', '.join(sorted(known))}."
            f"{did_you_mean(unknown[0], known)}"
        )


def _checked(kind: type, content: dict[str, Any], place: str) -> Any:
    """Let pydantic check the types of a dataclass's fields."""
    from pydantic import TypeAdapter, ValidationError

    try:
        if kind is RunConfig:  # its tables have been checked and are objects already
            return TypeAdapter(kind).validate_python(content)
        # as JSON, because strictly checked Python values may not be lists or tables
        return TypeAdapter(kind).validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise ConfigError(
            f"{place}: `{where}` is wrong: {first['msg'].lower()}, found {first.get('input')!r}."
        ) from error
