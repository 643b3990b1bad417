"""Extending SAEs over a grid: each setting is trained, stored as a whole, and not done twice."""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from latent_assay.batch import Batch
from latent_assay.diagnosis import ExtensionConfig, outcomes_by_n
from latent_assay.recipes import Recipe
from latent_assay.runs.building import about, build
from latent_assay.runs.config import RunConfig, training_config
from latent_assay.runs.config.extension import ExtensionPlan, Setting
from latent_assay.runs.folder import extension_folder, slug
from latent_assay.runs.sources import Data, Prepared
from latent_assay.runs.stored_outcome import has_outcome, write_outcome
from latent_assay.worlds import Sample

_PHASES = ("first", "both", "again")


def extend_all(
    config: RunConfig,
    folder: str | Path,
    prepared: Prepared,
    *,
    fresh: bool = False,
    progress: bool = True,
) -> None:
    """Train, extend and measure every setting of every [[extension]] of a run.

    A setting whose outcome is stored is not touched again, and one that was interrupted goes on
    from its last checkpoint; checkpoints are removed once the outcome is stored.

    **Arguments:**
    - `config`: the run.
    - `folder`: its folder.
    - `prepared`: its activations.
    - `fresh`: begin anew whatever is there.
    - `progress`: whether to show bars.

    **Raises:** `KeyboardInterrupt` if Ctrl-C ends a phase, once its checkpoint is saved; else as
    `diagnosis.outcomes_by_n`.
    """
    folder = Path(folder)
    for plan in config.extensions:
        if fresh:
            shutil.rmtree(extension_folder(folder, plan.name), ignore_errors=True)
        for group in together(plan):
            places = [outcome_folder(folder, plan, each) for each in group]
            if not all(map(has_outcome, places)):
                _extend(group, plan, config, folder, prepared.at(group[0].hook_point), progress)


def together(plan: ExtensionPlan) -> list[list[Setting]]:
    """Settings that differ only in the number of new latents, which share one control."""
    groups: dict[str, list[Setting]] = {}
    for each in plan.settings:
        groups.setdefault(_key(each), []).append(each)
    return list(groups.values())


def outcome_folder(folder: Path, plan: ExtensionPlan, setting: Setting) -> Path:
    """Where the outcome of a setting is."""
    return extension_folder(folder, plan.name) / slug(_key(setting)) / f"n_{setting.n}"


def _key(setting: Setting) -> str:
    """What tells a setting from those that it does not share its control with."""
    axes = {axis: value for axis, value in setting.axes.items() if axis != "n"}
    return " ".join(f"{axis} {value}" for axis, value in axes.items()) or setting.plan.recipe


def _extend(
    group: Sequence[Setting],
    plan: ExtensionPlan,
    config: RunConfig,
    folder: Path,
    data: Data,
    progress: bool,
) -> None:
    setting = group[0]
    first_steps = setting.first_steps or config.training.steps
    steps = setting.steps or config.training.steps
    place = outcome_folder(folder, plan, setting).parent
    outcomes = outcomes_by_n(
        recipe_of(setting, data, config, longest=max(first_steps, steps)),
        int(setting.plan.options["width"]),
        _batches(data, config.training.batch_size),
        [each.n for each in group],
        seeds=plan.seeds,
        config=ExtensionConfig(
            first_steps=first_steps,
            steps=steps,
            norm=setting.norm,
            penalty_floor=math.inf if setting.penalty_floor is None else setting.penalty_floor,
            baselines=plan.baselines,
            seed=config.seed,
        ),
        held_out=lambda: _scaled(data),
        folder=place,
        progress=progress,
    )
    for each in group:
        write_outcome(
            outcomes[each.n],
            outcome_folder(folder, plan, each),
            scale=data.scale,
            about=about(each.plan, config) | {"extension": plan.name, "setting": each.axes},
        )
    for phase in _PHASES:  # the log stays
        shutil.rmtree(place / phase / "checkpoint", ignore_errors=True)


def recipe_of(
    setting: Setting, data: Data, config: RunConfig, *, longest: int
) -> Callable[[Sequence[int], Sequence[int]], Recipe]:
    """What makes the SAEs of a setting, for any widths and seeds of its members.

    **Arguments:**
    - `setting`: the setting.
    - `data`: what they read.
    - `config`: the run.
    - `longest`: steps of the longer phase.
    """
    options = setting.plan.options

    def make(widths: Sequence[int], seeds: Sequence[int]) -> Recipe:
        own = options | {"width": list(widths), "seeds": list(seeds)}
        if "levels" in options:  # new latents belong to the outermost level
            own |= {"width": max(widths), "levels": [*options["levels"][:-1], max(widths)]}
        recipe = build(replace(setting.plan, options=own), data, config)
        plan = replace(config.training, steps=longest)
        return recipe._replace(config=training_config(recipe.config, plan))

    return make


def _batches(data: Data, batch_size: int) -> Callable[[int], Iterator[Batch]]:
    return lambda seed: data.stream(batch_size, seed)


def _scaled(data: Data) -> Iterator[Tensor]:
    """Held-out activations as they are in training."""
    for batch in data.held_out():
        yield data.scale * (batch.x if isinstance(batch, Sample) else batch)
