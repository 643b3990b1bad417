"""A whole run in one file: TOML, or the same content as JSON."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

from latent_assay.errors import ConfigError, did_you_mean
from latent_assay.runs.config.ensembles import EnsemblePlan, ensembles
from latent_assay.runs.config.extension import ExtensionPlan, read_extension
from latent_assay.runs.config.grid import GridPlan, read_grid
from latent_assay.runs.config.overrides import LISTS, override
from latent_assay.runs.config.plans import SAEPlan, TrainingPlan, read_plan, training_config
from latent_assay.runs.config.source import (
    SOURCES,
    ModelSource,
    Source,
    WorldSource,
    table_of,
)
from latent_assay.runs.config.tables import checked, known, read_table, write_table
from latent_assay.training import TrainingConfig


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
    browse: tuple[str, ...] | None = None
    """SAEs whose latents the report lets one browse; None for the first few."""
    source: Source
    """Where activations come from."""
    training: TrainingPlan = field(default_factory=TrainingPlan)
    """How to train."""
    saes: tuple[SAEPlan, ...] = ()
    """What to train: every SAE, those that grids make among them."""
    grids: tuple[GridPlan, ...] = ()
    """The grids that some of them are from."""
    extensions: tuple[ExtensionPlan, ...] = ()
    """What to extend."""

    @property
    def ensembles(self) -> tuple[EnsemblePlan, ...]:
        """What is trained together."""
        return ensembles(self.saes, self.training.members)

    @property
    def hook_points(self) -> tuple[str | None, ...]:
        """Where activations are read; one None if the source is no model."""
        return self.source.names if isinstance(self.source, ModelSource) else (None,)

    def to_json(self) -> dict[str, Any]:
        """The same content as a JSON object, readable by `read_config`."""
        content: dict[str, Any] = {
            "title": self.title,
            "summary": self.summary,
            "seed": self.seed,
            "device": self.device,
            "training": write_table(self.training),
            table_of(self.source): write_table(self.source),
        }
        if self.browse is not None:
            content["browse"] = list(self.browse)
        tables = {
            "sae": [each for each in self.saes if not each.grid],
            "grid": self.grids,
            "extension": self.extensions,
        }
        return content | {
            name: [write_table(each) for each in group] for name, group in tables.items() if group
        }


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = Path(__file__).parent.parent / "presets"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_config(source: str | Path, settings: Iterable[str] = ()) -> RunConfig:
    """Read a configuration file, or one that comes with the package by its name.

    **Arguments:**
    - `source`: a file or a name.
    - `settings`: values in place of the file's, such as "training.steps=20"; see `override`.

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
        chosen = list(settings)
        return parse_config(override(content, chosen) if chosen else content)
    except ConfigError as error:
        raise ConfigError(f"in '{source}': {error}") from error


def parse_config(content: Mapping[str, Any]) -> RunConfig:
    """Check a configuration's content and make it a `RunConfig`.

    **Raises:** `ConfigError` for anything unknown, missing, of the wrong type or out of range.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"a configuration must be a table, found {type(content).__name__}.")
    top = {each.name for each in fields(RunConfig)} - {"source", "saes", "grids", "extensions"}
    known(content, top | {*LISTS, *SOURCES}, "the configuration")
    saes = [read_plan(each, place) for each, place in _tables(content, "sae")]
    grids, extensions = [], []
    for each, place in _tables(content, "grid"):
        grid, made = read_grid(each, place)
        grids.append(grid)
        saes += _in_a_grid_of_its_own(made, saes)
    extensions = [read_extension(each, place) for each, place in _tables(content, "extension")]
    if not saes and not extensions:
        raise ConfigError(
            "expected at least one [[sae]] table with a `name` and a `recipe`, a [[grid]] of them, "
            "or an [[extension]]."
        )
    config = checked(
        RunConfig,
        {name: content[name] for name in top & set(content)}
        | {
            "source": _source(content),
            "saes": tuple(saes),
            "grids": tuple(grids),
            "extensions": tuple(extensions),
            "training": read_table(TrainingPlan, content.get("training", {}), "[training]"),
        },
        "the configuration",
        objects=True,
    )
    return _consistent(cast(RunConfig, config))


def _tables(content: Mapping[str, Any], name: str) -> list[tuple[Any, str]]:
    """The tables of a list, each with its place in messages."""
    tables = content.get(name, [])
    if not isinstance(tables, list):
        raise ConfigError(
            f"`{name}` must be a list of tables, [[{name}]] each, found {type(tables).__name__}."
        )
    return [(each, f"[[{name}]] number {number}") for number, each in enumerate(tables, start=1)]


def _source(content: Mapping[str, Any]) -> Source:
    sources = [table for table in SOURCES if table in content]
    if len(sources) != 1:
        raise ConfigError(
            f"expected exactly one of the tables {_listed(SOURCES)} to say where "
            f"activations come from, found {' and '.join(sources) or 'none'}."
        )
    return cast(Source, read_table(SOURCES[sources[0]], content[sources[0]], f"[{sources[0]}]"))


def _listed(tables: Mapping[str, Any]) -> str:
    *most, last = (f"[{each}]" for each in tables)
    return f"{', '.join(most)} and {last}"


def _in_a_grid_of_its_own(made: tuple[SAEPlan, ...], before: list[SAEPlan]) -> list[SAEPlan]:
    """SAEs of a grid whose name may be that of an earlier one, as of the same recipe."""
    grid = made[0].grid
    taken = {each.grid for each in before}
    names = (name for number in range(1, len(taken) + 3) if (name := _numbered(grid, number)))
    free = next(name for name in names if name not in taken)
    return [replace(each, grid=free) for each in made]


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} ({number})"


def _consistent(config: RunConfig) -> RunConfig:
    """Refuse what no table can see by itself."""
    training_config(TrainingConfig(), config.training)
    names = [each.name for each in config.saes]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"every [[sae]] needs a name of its own; {repeated[0]!r} occurs twice.")
    for wanted in config.browse or ():
        if wanted not in names:
            raise ConfigError(
                f"`browse` names {wanted!r}, which is no SAE of this run; there are "
                f"{', '.join(names)}.{did_you_mean(wanted, names)}"
            )
    every = [each.plan for extension in config.extensions for each in extension.settings]
    for plan in (*config.saes, *every):
        if plan.init == "features" and not isinstance(config.source, WorldSource):
            raise ConfigError(
                f"[[sae]] {plan.name!r} begins at the true features, but only a [world] knows them."
            )
        _check_hook_point(plan, config)
    names = [each.name for each in config.extensions]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"every [[extension]] needs a name of its own; {repeated[0]!r} occurs twice."
        )
    return config


def _check_hook_point(plan: SAEPlan, config: RunConfig) -> None:
    points = [each for each in config.hook_points if each is not None]
    if plan.hook_point is None:
        if len(points) > 1:
            raise ConfigError(
                f"{plan.name!r} does not say which `hook_point` it reads, one of "
                f"{', '.join(points)}."
            )
    elif plan.hook_point not in points:
        raise ConfigError(
            f"{plan.name!r} reads the hook point `{plan.hook_point}`, but [model] has "
            f"{', '.join(points) or 'none'}.{did_you_mean(plan.hook_point, points)}"
        )
