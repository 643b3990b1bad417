"""Training is one loop, in plain sight.

`fit` takes an SAE, an objective, an iterator of batches and a config. It knows neither worlds nor
language models. Inside the loop nothing waits for the device except where numbers are logged.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from latent_assay import checkpoint
from latent_assay.batch import Batch
from latent_assay.distributed import RankLost, Ranks
from latent_assay.history import History
from latent_assay.losses import Objective
from latent_assay.sae import SAE
from latent_assay.tracking import JsonLines, Tracker
from latent_assay.training.config import TrainingConfig
from latent_assay.training.process import deferred_interrupt, restored_threads
from latent_assay.training.run import Run


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
    run = Run(sae, objective, batches, config, ranks)
    writes = run.part.writes
    folder = Path(folder) if folder is not None else None
    if folder is not None:
        if writes:
            checkpoint.prepare(folder, resume=resume)
        if run.part.agree(checkpoint.exists(folder)):
            run.restore(folder)
    logs: list[Tracker] = list(trackers)
    if folder is not None and writes:
        checkpoint.trim_log(folder / "log.jsonl", before=run.step)
        logs.append(JsonLines(folder / "log.jsonl"))
    sae.train()
    run.sae.train()
    shown = progress and writes
    bar = tqdm(total=config.steps, initial=run.step, unit="step", disable=not shown)
    try:
        waiting = deferred_interrupt(also_terminate=ranks is not None)
        with waiting as interrupt, restored_threads():
            while run.step < config.steps and not run.part.stops(interrupt.is_set(), run.step):
                due = (run.step + 1) % config.log_every == 0 or run.step + 1 == config.steps
                record = run.advance(measure=due)
                bar.update()
                if record is not None:
                    run.history.append(run.step, run.samples, record)
                    for log in logs if writes else ():
                        log.write(run.history.records[-1])
                    bar.set_postfix(_glance(record), refresh=False)
                    run.stop_if_diverged(folder)
                every = config.checkpoint_every
                if folder is not None and every and run.step % every == 0:
                    run.stop_if_diverged(folder)
                    if run.step < config.steps:  # the last state is saved below
                        run.save(folder)
            run.history.interrupted = run.step < config.steps
        run.stop_if_diverged(folder)
        if folder is not None:
            run.save(folder)
        run.part.finish()
    except RankLost as lost:
        message = f"{lost} {_last_good(folder, run)}"
        raise RankLost(message, ranks=lost.ranks, how=lost.how) from lost
    finally:
        bar.close()
        for log in logs:
            log.close()
        sae.eval()
    return run.history


def _last_good(folder: Path | None, run: Run) -> str:
    if folder is None:
        return "There is no checkpoint, as no folder was given; start again."
    if run.saved is None:
        return f"There is no checkpoint in '{folder}' yet; the same command starts again."
    return (
        f"The last good checkpoint, of step {run.saved}, is in '{folder}'; the same command goes "
        "on from there, on as many ranks as you like."
    )


def _glance(record: dict[str, list[float]]) -> dict[str, str]:
    def mean(name: str) -> float:
        values = [value for value in record[name] if math.isfinite(value)]
        return sum(values) / len(values) if values else math.nan

    return {"fvu": f"{mean('fvu'):.3g}", "L0": f"{mean('l0'):.3g}", "dead": f"{mean('dead'):.3g}"}
