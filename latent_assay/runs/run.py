"""Train every SAE of a configuration, one folder for each, and write the report."""

from dataclasses import dataclass
from pathlib import Path

from latent_assay import formats
from latent_assay.atomic import plain, write_json
from latent_assay.errors import ConfigError
from latent_assay.runs.building import about, build
from latent_assay.runs.config import RunConfig, training_config
from latent_assay.runs.extension_runs import extend_all
from latent_assay.runs.folder import (
    CONFIG_FILE,
    sae_folder,
    slug,
    stored_config,
    training_folder,
)
from latent_assay.runs.reporting import write_report
from latent_assay.runs.sources import prepare
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
    try:
        extend_all(config, folder, prepared, fresh=fresh, progress=progress)
    except KeyboardInterrupt:
        return Outcome(folder=folder, report=None, interrupted=True)
    return Outcome(folder=folder, report=write_report(folder, progress=progress), interrupted=False)


def _claim(folder: Path, config: RunConfig, fresh: bool) -> None:
    """Write the configuration into the folder, unless another one is there."""
    for kind, plans in (("SAEs", config.saes), ("extensions", config.extensions)):
        slugs = [slug(plan.name) for plan in plans]
        if len(set(slugs)) < len(slugs):
            raise ConfigError(
                f"names of {kind} become folders, and two of them would share one: "
                f"{', '.join(slugs)}. Choose names that differ in letters or digits."
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
