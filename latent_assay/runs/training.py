"""Train the SAEs of a run: ensemble by ensemble, or all at once on a stream that is read once."""

from pathlib import Path

from latent_assay import formats
from latent_assay.distributed import Ranks
from latent_assay.runs.building import about, build
from latent_assay.runs.config import EnsemblePlan, RunConfig, training_config
from latent_assay.runs.data import Data
from latent_assay.runs.folder import sae_folder, slug, training_folder
from latent_assay.runs.live_source import LockstepStream
from latent_assay.runs.sources import Prepared
from latent_assay.sae import SAE
from latent_assay.training import Trainee, fit, fit_together


def train_saes(
    config: RunConfig,
    folder: Path,
    prepared: Prepared,
    *,
    resume: bool = True,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> bool:
    """Train every SAE of a run, and save each into a folder of its own.

    **Arguments:**
    - `config`: the run.
    - `folder`: its folder.
    - `prepared`: its activations.
    - `resume`, `progress`, `ranks`: as of `fit`; the first rank alone saves.

    **Returns:** whether that was finished; False if Ctrl-C ended it, with everything kept.
    """
    if not config.saes:
        return True
    shared = prepared.together(config.training.batch_size, config.seed)
    if shared is not None:
        return _all_at_once(
            config, folder, prepared, shared, resume=resume, progress=progress, ranks=ranks
        )
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
            ranks=ranks,
        )
        if history.interrupted:
            return False
        if ranks is None or ranks.first:
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
    ranks: Ranks | None,
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
            ranks=ranks,
        )
    finally:
        stream.live.close()
    if any(history.interrupted for history in histories.values()):
        return False
    for name, ensemble in ensembles.items() if ranks is None or ranks.first else ():
        _save(ensemble, trainees[name][0], prepared.at(ensemble.hook_point), config, folder)
    return True


def _save(ensemble: EnsemblePlan, sae: SAE, data: Data, config: RunConfig, folder: Path) -> None:
    """Each SAE of an ensemble into a folder of its own."""
    for plan, members in zip(ensemble.plans, ensemble.members, strict=True):
        own = sae.take(members).rescaled(data.scale)
        formats.save(own, sae_folder(folder, plan.name), about(plan, config))
