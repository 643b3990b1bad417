"""Train every SAE of a configuration, one folder for each, and write the report."""

from dataclasses import dataclass
from pathlib import Path

from latent_assay import formats
from latent_assay.atomic import plain, write_json
from latent_assay.errors import ConfigError
from latent_assay.runs.building import about, build
from latent_assay.runs.config import EnsemblePlan, RunConfig, training_config
from latent_assay.runs.data import Data
from latent_assay.runs.extension_runs import extend_all
from latent_assay.runs.folder import (
    CONFIG_FILE,
    sae_folder,
    slug,
    stored_config,
    training_folder,
)
from latent_assay.runs.live_source import LockstepStream
from latent_assay.runs.reporting import write_report
from latent_assay.runs.sources import Prepared, prepare
from latent_assay.sae import SAE
from latent_assay.training import Trainee, fit, fit_together


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
    if not _trained(config, folder, prepared, resume=not fresh, progress=progress):
        return Outcome(folder=folder, report=None, interrupted=True)
    try:
        extend_all(config, folder, prepared, fresh=fresh, progress=progress)
    except KeyboardInterrupt:
        return Outcome(folder=folder, report=None, interrupted=True)
    return Outcome(folder=folder, report=write_report(folder, progress=progress), interrupted=False)


def _trained(
    config: RunConfig, folder: Path, prepared: Prepared, *, resume: bool, progress: bool
) -> bool:
    """Train and save every SAE; False if that was interrupted."""
    shared = prepared.together(config.training.batch_size, config.seed)
    if shared is not None:
        return _all_at_once(config, folder, prepared, shared, resume=resume, progress=progress)
    for ensemble in config.ensembles:
        data = prepared.at(ensemble.hook_point)
        sae, objective, published = build(ensemble.together, data, config)
        history = fit(
            sae,
            objective,
            data.stream(config.training.batch_size, config.seed),
            training_config(published, config.training),
            folder=training_folder(folder, ensemble.name),
            resume=resume,
            progress=progress,
        )
        if history.interrupted:
            return False
        _save(ensemble, sae, data, config, folder)
    return True


def _all_at_once(
    config: RunConfig,
    folder: Path,
    prepared: Prepared,
    stream: LockstepStream,
    *,
    resume: bool,
    progress: bool,
) -> bool:
    """Train on a stream that is read but once, all ensembles on the same batches."""
    ensembles = {slug(each.name): each for each in config.ensembles}
    trainees: dict[str, Trainee] = {}
    reads: dict[str, str] = {}
    for name, ensemble in ensembles.items():
        data = prepared.at(ensemble.hook_point)
        sae, objective, published = build(ensemble.together, data, config)
        trainees[name] = sae, objective, training_config(published, config.training)
        reads[name] = str(ensemble.hook_point or config.hook_points[0])
    try:
        histories = fit_together(
            trainees,
            stream,
            reads=reads,
            folder=training_folder(folder, ""),
            resume=resume,
            progress=progress,
        )
    finally:
        stream.live.close()
    if any(history.interrupted for history in histories.values()):
        return False
    for name, ensemble in ensembles.items():
        _save(ensemble, trainees[name][0], prepared.at(ensemble.hook_point), config, folder)
    return True


def _save(ensemble: EnsemblePlan, sae: SAE, data: Data, config: RunConfig, folder: Path) -> None:
    """Each SAE of an ensemble into a folder of its own."""
    for plan, members in zip(ensemble.plans, ensemble.members, strict=True):
        own = sae.take(members).rescaled(data.scale)
        formats.save(own, sae_folder(folder, plan.name), about(plan, config))


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
