"""Training is one loop, in plain sight.

`fit` takes an SAE, an objective, an iterator of batches and a config. It knows neither worlds nor
language models. `fit_together` does the same for several SAEs on one stream. Inside the loop
nothing waits for the device except where numbers are logged.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from latent_assay import checkpoint
from latent_assay.batch import Batch
from latent_assay.distributed import RankLost, Ranks
from latent_assay.errors import ConfigError
from latent_assay.history import History
from latent_assay.losses import Objective
from latent_assay.sae import SAE
from latent_assay.tracking import JsonLines, Tracker
from latent_assay.training.config import TrainingConfig
from latent_assay.training.crew import Crew, Shared
from latent_assay.training.process import deferred_interrupt, restored_threads
from latent_assay.training.run import Run

Trainee = tuple[SAE, Objective, TrainingConfig]
"""What a recipe returns: an SAE, what it is to minimise, and how."""


def fit(
    sae: SAE,
    objective: Objective,
    batches: Iterable[Batch],
    config: TrainingConfig | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = True,
    trackers: Sequence[Tracker] = (),
    progress: bool = True,
    ranks: Ranks | None = None,
) -> History:
    """Train an SAE in place, all its members at once.

    A member trained in company equals the same member trained alone: objectives are summed over
    members, gradients are clipped and learning rates set for each.

    Ctrl-C ends the step that is running, saves, and returns what there is (`history.interrupted`).
    With a `folder`, checkpoints are written atomically; calling `fit` again with the same settings
    continues from the last one, to the same weights as an uninterrupted run, provided that
    `batches` has `state_dict` and `load_state_dict` or yields the same batches again.

    **Arguments:**
    - `sae`: changed in place; left in evaluation mode.
    - `objective`: what to minimise.
    - `batches`: `[batch, d_in]` for all members or `[member, batch, d_in]` with one for each, or a
      `WeightedBatch`.
    - `config`: how to train.
    - `folder`: where checkpoints and `log.jsonl` go; None keeps everything in memory.
    - `resume`: False starts anew in a folder that holds a checkpoint.
    - `trackers`: further places for the logged numbers.
    - `progress`: whether to show a bar with the rate and the time left.
    - `ranks`: the processes that divide the latents between them; every one of them must call this
      with the same arguments. The result equals that of one process up to the rounding of sums.
      The first alone writes to `folder` (which all must be able to read) and to `trackers`; a
      checkpoint can be continued on any number of ranks. At the end `sae` is whole on each of them.

    **Returns:** the logged numbers.

    **Raises:** `TrainingDiverged` when input, loss or gradient of a member is not finite, at the
    next record (until then the member stands still, so that `sae` and the checkpoint hold its last
    good state); `DataError` when batches run out or are none; `ConfigError` when the folder holds a
    run with other settings; `FormatError` when its checkpoint is damaged; `StorageError` when a
    checkpoint cannot be written; `RankLost` when another process was lost, with its rank and the
    last good checkpoint.
    """
    config = config or TrainingConfig()
    objective.check(sae.members)
    crew = Crew({"": Run(sae, objective, batches, config, ranks)}, _path(folder))
    _train(crew, config, [sae], resume, trackers, progress, ranks)
    return crew.histories[""]


def fit_together(
    trainees: Mapping[str, Trainee],
    batches: Iterable[Batch | Mapping[str, Batch]],
    *,
    reads: Mapping[str, str] | None = None,
    folder: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> dict[str, History]:
    """Train several SAEs in place on one stream: step by step, each on the same batch.

    What cannot be members of one, for their widths, recipes or inputs differ, is trained so at the
    cost of reading the activations once. Each ends as `fit` would leave it, alone on the same
    stream. Otherwise as `fit`; all are saved together, as of the same step.

    **Arguments:**
    - `trainees`: name → (SAE, objective, config), as a recipe returns it. The configs must agree
      in the number of steps and in when to log and to save.
    - `batches`: as of `fit`; or mappings with a batch for each key, as `LiveStream` gives them.
    - `reads`: name → which of a mapping's batches it reads.
    - `folder`: where the checkpoint goes; each log goes to `NAME/log.jsonl` in it.
    - `resume`, `progress`, `ranks`: as of `fit`.

    **Returns:** the logged numbers by name.

    **Raises:** as `fit`; `ConfigError` also if configs do not agree, or there is no SAE.
    """
    shared = Shared(batches)
    config = _common(trainees)
    runs = {}
    for name, (sae, objective, own) in trainees.items():
        objective.check(sae.members)
        view = shared.view(None if reads is None else reads[name])
        runs[name] = Run(sae, objective, view, own, ranks, alone=len(trainees) == 1)
    crew = Crew(runs, _path(folder))
    _train(crew, config, [sae for sae, _, _ in trainees.values()], resume, (), progress, ranks)
    return crew.histories


def _train(
    crew: Crew,
    config: TrainingConfig,
    saes: Sequence[SAE],
    resume: bool,
    trackers: Sequence[Tracker],
    progress: bool,
    ranks: Ranks | None,
) -> None:
    part, folder = crew.part, crew.folder
    crew.begin(resume=resume)
    logs: dict[str, list[Tracker]] = {name: list(trackers) for name in crew.runs}
    if folder is not None and part.writes:
        for name, own in logs.items():
            path = folder / name / "log.jsonl"
            checkpoint.trim_log(path, before=crew.step)
            own.append(JsonLines(path))
    for sae in (*saes, *(run.sae for run in crew.runs.values())):
        sae.train()
    shown = progress and part.writes
    bar = tqdm(total=config.steps, initial=crew.step, unit="step", disable=not shown)
    try:
        waiting = deferred_interrupt(also_terminate=ranks is not None)
        with waiting as interrupt, restored_threads():
            while crew.step < config.steps and not part.stops(interrupt.is_set(), crew.step):
                due = (crew.step + 1) % config.log_every == 0 or crew.step + 1 == config.steps
                records = crew.advance(measure=due)
                bar.update()
                if records:
                    for name, record in records.items():
                        run = crew.runs[name]
                        run.history.append(run.step, run.samples, record)
                        for log in logs[name] if part.writes else ():
                            log.write(run.history.records[-1])
                    bar.set_postfix(_glance(records.values()), refresh=False)
                    crew.stop_if_diverged()
                every = config.checkpoint_every
                if folder is not None and every and crew.step % every == 0:
                    crew.stop_if_diverged()
                    if crew.step < config.steps:  # the last state is saved below
                        crew.save()
            for history in crew.histories.values():
                history.interrupted = crew.step < config.steps
        crew.stop_if_diverged()
        crew.save()
        crew.finish()
    except RankLost as lost:
        message = f"{lost} {_last_good(folder, crew.lead)}"
        raise RankLost(message, ranks=lost.ranks, how=lost.how) from lost
    finally:
        bar.close()
        for log in (each for group in logs.values() for each in group):
            log.close()
        for sae in saes:
            sae.eval()


def _path(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder)


def _common(trainees: Mapping[str, Trainee]) -> TrainingConfig:
    """A config with what all have in common."""
    if not trainees:
        raise ConfigError("there is no SAE to train; give at least one.")
    for name in trainees:
        if not name or name == checkpoint.NAME or Path(name).name != name:
            raise ConfigError(
                f"an SAE cannot be called {name!r} here, as its name becomes a folder; choose a "
                f"plain word other than {checkpoint.NAME!r}."
            )
    configs = {name: config for name, (_, _, config) in trainees.items()}
    for field in ("steps", "log_every", "checkpoint_every"):
        values = {name: getattr(config, field) for name, config in configs.items()}
        if len(set(values.values())) > 1:
            raise ConfigError(
                f"SAEs that are trained together need one `{field}`, got {values}. Give all the "
                "same."
            )
    return next(iter(configs.values()))


def _last_good(folder: Path | None, run: Run) -> str:
    if folder is None:
        return "There is no checkpoint, as no folder was given; start again."
    if run.saved is None:
        return f"There is no checkpoint in '{folder}' yet; the same command starts again."
    return (
        f"The last good checkpoint, of step {run.saved}, is in '{folder}'; the same command goes "
        "on from there, on as many ranks as you like."
    )


def _glance(records: Iterable[dict[str, list[float]]]) -> dict[str, str]:
    found = list(records)

    def mean(name: str) -> float:
        values = [value for record in found for value in record[name] if math.isfinite(value)]
        return sum(values) / len(values) if values else math.nan

    return {"fvu": f"{mean('fvu'):.3g}", "L0": f"{mean('l0'):.3g}", "dead": f"{mean('dead'):.3g}"}
