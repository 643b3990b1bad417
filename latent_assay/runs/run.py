"""Train what a configuration says, one folder for each SAE, and write the report."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from latent_assay.activations import LanguageModel
from latent_assay.atomic import plain, write_json
from latent_assay.distributed import Ranks
from latent_assay.errors import ConfigError
from latent_assay.runs.config import ModelSource, RunConfig
from latent_assay.runs.extension_runs import extend_all, outcome_folder
from latent_assay.runs.folder import CONFIG_FILE, sae_folder, slug, stored_config
from latent_assay.runs.model_data import language_model
from latent_assay.runs.planning import RunPlan, plan_run
from latent_assay.runs.reporting import write_report
from latent_assay.runs.sources import prepare
from latent_assay.runs.stored_outcome import has_outcome
from latent_assay.runs.training import train_saes

_FOR_THE_READER = {"title", "summary", "browse"}
"""What may change in a run's configuration, as only its report depends on it."""


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
    config: RunConfig,
    folder: str | Path,
    *,
    fresh: bool = False,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> Outcome:
    """Train every SAE of a configuration and write the report.

    Whatever is already there is used: activations, finished SAEs, checkpoints. The same command
    therefore continues a run that was interrupted, and a finished one is only reported anew.

    **Arguments:**
    - `config`: what to do.
    - `folder`: where everything goes.
    - `fresh`: train anew even where checkpoints are; activations are kept.
    - `progress`: whether to show what the run takes, before it starts, and bars.
    - `ranks`: processes that divide the latents of each SAE, and the harvest, between them; every
      one of them must call this with the same arguments, and a folder that all can see.

    **Raises:** `ConfigError` if the folder holds a run with another configuration, memory does not
    suffice, or extensions are asked of several processes; `StorageError` if the disk does not
    suffice.
    """
    folder = Path(folder)
    first = ranks is None or ranks.first
    progress = progress and first
    if ranks is not None and config.extensions:
        raise ConfigError(
            "an [[extension]] is made in one process; start this configuration without torchrun."
        )
    if first:
        _claim(folder, config, fresh)
    model = language_model(config.source) if isinstance(config.source, ModelSource) else None
    plan = None
    if first and not is_trained(config, folder):
        number = 1 if ranks is None else ranks.number
        plan = plan_of(config, folder, model=model, ranks=number)
        if progress:
            tqdm.write("\n".join(plan.lines()), file=sys.stderr)
        plan.check()
    if ranks is not None:
        ranks.meet()  # nobody harvests before the first has looked at what is there
    prepared = prepare(
        config,
        folder,
        harvest=True,
        progress=progress,
        ranks=ranks,
        model=model,
        plan=None if plan is None else plan.harvest,
    )
    if not train_saes(config, folder, prepared, resume=not fresh, progress=progress, ranks=ranks):
        return Outcome(folder=folder, report=None, interrupted=True)
    try:
        extend_all(config, folder, prepared, fresh=fresh, progress=progress)
    except KeyboardInterrupt:
        return Outcome(folder=folder, report=None, interrupted=True)
    report = write_report(folder, progress=progress) if first else folder / "report.html"
    if ranks is not None:
        ranks.meet()
    return Outcome(folder=folder, report=report, interrupted=False)


def plan_of(
    config: RunConfig, folder: Path, *, model: LanguageModel | None = None, ranks: int = 1
) -> RunPlan:
    """What a run takes; nothing is started, but activations that are not a model's are opened.

    **Arguments:**
    - `config`: the run.
    - `folder`: where everything would go.
    - `model`: the run's model, if it is loaded already.
    - `ranks`: the number of processes.
    """
    widths: dict[str | None, int]
    if isinstance(config.source, ModelSource):
        model = model or language_model(config.source)
        widths = {name: model.d_in(name) for name in config.source.names}
    else:
        data = prepare(config, folder, harvest=True, progress=False).data
        widths = {name: each.d_in for name, each in data.items()}
    return plan_run(config, folder, widths, model=model, ranks=ranks)


def is_trained(config: RunConfig, folder: Path) -> bool:
    """Whether every SAE, and the outcome of every extension, lies in its folder already."""
    extended = (
        outcome_folder(folder, plan, each) for plan in config.extensions for each in plan.settings
    )
    return all(sae_folder(folder, plan.name).is_dir() for plan in config.saes) and all(
        map(has_outcome, extended)
    )


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
        before = plain(stored_config(folder).to_json())
        names = dict.fromkeys([*content, *before])
        differ = [name for name in names if before.get(name) != content.get(name)]
        if {*differ} - _FOR_THE_READER:
            raise ConfigError(
                f"'{folder}' holds a run with another configuration (`{differ[0]}` differs); "
                "choose another folder with --out, or start anew in this one with --fresh."
            )
        if not differ:
            return
    write_json(path, content)
