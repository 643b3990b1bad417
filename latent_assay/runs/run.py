"""Train every SAE of a configuration, one folder for each, and write the report."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from latent_assay import formats
from latent_assay.atomic import plain, write_json
from latent_assay.errors import ConfigError
from latent_assay.initialisation import Initialisation, from_features, kaiming, tied_random
from latent_assay.recipes import RECIPES, Recipe
from latent_assay.runs.config import RunConfig, SAEPlan, training_config
from latent_assay.runs.folder import (
    CONFIG_FILE,
    sae_folder,
    slug,
    stored_config,
    training_folder,
)
from latent_assay.runs.reporting import write_report
from latent_assay.runs.sources import Data, prepare
from latent_assay.training import fit


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run left behind."""

    folder: Path
    """Its folder."""
    report: Path | None
    """The report; None if the run was interrupted."""
    interrupted: bool
    """Whether Ctrl-C ended it; the same command continues it."""


def train(
    config: RunConfig, folder: str | Path, *, fresh: bool = False, progress: bool = True
) -> Outcome:
    """Train every SAE of a configuration and write the report.

    Whatever is already there is used: activations, finished SAEs, checkpoints. The same command
    therefore continues a run that was interrupted, and a finished one is only reported anew.

    **Arguments:**
    - `config`: what to do.
    - `folder`: where everything goes.
    - `fresh`: train anew even where checkpoints are; activations are kept.
    - `progress`: whether to show bars.

    **Raises:** `ConfigError` if the folder holds a run with another configuration.
    """
    folder = Path(folder)
    _claim(folder, config, fresh)
    prepared = prepare(config, folder, harvest=True, progress=progress)
    for ensemble in config.ensembles:
        place = training_folder(folder, ensemble.name)
        data = prepared.at(ensemble.hook_point)
        sae, objective, published = build(ensemble.together, data, config)
        history = fit(
            sae,
            objective,
            data.stream(config.training.batch_size, config.seed),
            training_config(published, config.training),
            folder=place,
            resume=not fresh,
            progress=progress,
        )
        if history.interrupted:
            return Outcome(folder=folder, report=None, interrupted=True)
        for plan, members in zip(ensemble.plans, ensemble.members, strict=True):
            own = sae.take(members).rescaled(data.scale)
            formats.save(own, sae_folder(folder, plan.name), about(plan, config))
    return Outcome(folder=folder, report=write_report(folder, progress=progress), interrupted=False)


def build(plan: SAEPlan, data: Data, config: RunConfig) -> Recipe:
    """An SAE at its initial weights, its objective and its published training settings."""
    options: dict[str, Any] = dict(plan.options)
    if plan.init is not None:
        options["init"] = _initialisation(plan, data)
    mean_bias = data.is_finite if plan.mean_bias is None else plan.mean_bias
    if mean_bias and plan.recipe not in ("linear", "wsae"):
        options["b_dec"] = data.scale * data.excerpt(50_000).mean(0)
    if "gamma" in options:
        options["gamma"] = torch.as_tensor(options["gamma"], dtype=torch.float32)
    try:
        recipe = RECIPES[plan.recipe](d_in=data.d_in, **options)
    except TypeError as error:
        raise ConfigError(f"[[sae]] {plan.name!r} cannot be made: {error}.") from error
    recipe.sae.to(config.device)
    return recipe


def about(plan: SAEPlan, config: RunConfig) -> dict[str, Any]:
    """What a saved SAE says of its origin."""
    source = config.source
    hook_point = plan.hook_point or config.hook_points[0]
    return plain(
        {
            "name": plan.name,
            "recipe": plan.recipe,
            "options": plan.options,
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "training_steps": config.training.steps,
            "training_samples": config.training.steps * config.training.batch_size,
            "model_name": getattr(source, "name", None),
            "hook_name": hook_point,
            "context_size": getattr(source, "context_size", None),
            "dataset_path": getattr(source, "text", None),
            "world": getattr(source, "preset", None),
        }
    )


def _initialisation(plan: SAEPlan, data: Data) -> Initialisation:
    if plan.init == "kaiming":
        return kaiming()
    if plan.init == "features" and data.features is not None:
        return from_features(data.features, plan.init_noise)
    return tied_random()


def _claim(folder: Path, config: RunConfig, fresh: bool) -> None:
    """Write the configuration into the folder, unless another one is there."""
    slugs = [slug(plan.name) for plan in config.saes]
    if len(set(slugs)) < len(slugs):
        raise ConfigError(
            f"names of SAEs become folders, and two of them would share one: {', '.join(slugs)}. "
            "Choose names that differ in letters or digits."
        )
    path = folder / CONFIG_FILE
    content = plain(config.to_json())
    if path.is_file() and not fresh:
        before = stored_config(folder)
        if plain(before.to_json()) != content:
            raise ConfigError(
                f"'{folder}' holds a run with another configuration; choose another folder with "
                "--out, or start anew in this one with --fresh."
            )
        return
    write_json(path, content)
