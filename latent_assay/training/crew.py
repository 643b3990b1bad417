"""Runs that go step by step together, on the same batches, and are saved together."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from latent_assay import checkpoint
from latent_assay.batch import Batch
from latent_assay.errors import DataError, TrainingDiverged
from latent_assay.history import History
from latent_assay.training.part import Part
from latent_assay.training.run import Run


class Crew:
    """Runs in lockstep; all have the same number of steps.

    **Arguments:**
    - `runs`: the runs by name. A single one may be called "": its checkpoint and log then lie in
      `folder` itself.
    - `folder`: where checkpoints go; None keeps everything in memory.
    """

    def __init__(self, runs: Mapping[str, Run], folder: Path | None):
        self.runs = dict(runs)
        self.folder = folder

    @property
    def lead(self) -> Run:
        """One of them, to be asked what is the same for all."""
        return next(iter(self.runs.values()))

    @property
    def part(self) -> Part:
        """What this process shares with others."""
        return self.lead.part

    @property
    def step(self) -> int:
        """How many steps have been made."""
        return self.lead.step

    @property
    def histories(self) -> dict[str, History]:
        """What was logged."""
        return {name: run.history for name, run in self.runs.items()}

    def begin(self, *, resume: bool) -> None:
        """Go on from the last checkpoint, if there is one and it is wanted."""
        if self.folder is None:
            return
        if self.part.writes:
            checkpoint.prepare(self.folder, resume=resume)
        if self.part.agree(checkpoint.exists(self.folder)):
            for name, run in self.runs.items():
                run.restore(self.folder, name)
            steps = {name: run.step for name, run in self.runs.items()}
            if len(set(steps.values())) > 1:
                raise DataError(
                    f"the checkpoints in '{self.folder}' are of different steps ({steps}); "
                    "expected one step, as they are written together. Remove the folder to train "
                    "anew."
                )

    def advance(self, *, measure: bool) -> dict[str, dict[str, list[float]]]:
        """One step of each; with `measure`, the numbers of its batch by run."""
        records = {name: run.advance(measure=measure) for name, run in self.runs.items()}
        return {name: record for name, record in records.items() if record is not None}

    def save(self) -> None:
        """Write a checkpoint of all of them, in place of the last one."""
        if self.folder is None:
            return
        writes = self.part.writes
        with checkpoint.replaced(self.folder) if writes else nullcontext() as draft:
            for name, run in self.runs.items():
                found = run.checkpoint()
                if draft is not None:
                    checkpoint.write(draft / name, *found)

    def stop_if_diverged(self) -> None:
        """Raise `TrainingDiverged` if any step since the start was refused, with all saved."""
        for run in self.runs.values():
            run.part.check()
        failures = {name: run.divergence() for name, run in self.runs.items()}
        for name, failure in failures.items():
            if failure is None:
                continue
            self.save()
            self.finish()
            whose = f"{name}: " if name else ""
            where = (
                "" if self.folder is None else f" The last good state is saved in '{self.folder}'."
            )
            raise TrainingDiverged(f"{whose}{failure}{where}")

    def finish(self) -> None:
        """Bring what was trained into the SAEs and objectives that were given."""
        for run in self.runs.values():
            run.part.finish()


class Shared:
    """One stream that several runs read in lockstep.

    **Arguments:**
    - `batches`: the stream; each item is a batch for all, or a mapping with one for each key.
    """

    def __init__(self, batches: Iterable[Any]):
        self.batches = batches
        self._iterator: Iterator[Any] | None = None
        self._current: Any = None
        self._taken = 0
        self._skip = 0

    def view(self, key: str | None) -> "View":
        """The stream as one of the runs reads it.

        **Arguments:**
        - `key`: which batch of each mapping; None if items are batches.
        """
        return View(self, key)

    def item(self, number: int) -> Any:
        """The item of a number, which must be that of the last one or the next.

        **Raises:** `StopIteration` at the stream's end.
        """
        if self._iterator is None:
            self._iterator = iter(self.batches)
            for _ in range(self._skip):
                next(self._iterator, None)
        if number > self._taken:
            self._current = next(self._iterator)
            self._taken = number
        return self._current

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is, or how many items it gave if it cannot tell."""
        state_dict = getattr(self.batches, "state_dict", None)
        if callable(state_dict):
            return dict(state_dict())
        return {"items": self._skip + self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stream stopped."""
        load = getattr(self.batches, "load_state_dict", None)
        if callable(load):
            load(state)
        else:
            self._skip = int(state["items"])


class View(Iterator[Batch]):
    """A `Shared` stream as one run reads it; made by `Shared.view`."""

    def __init__(self, shared: Shared, key: str | None):
        self._shared = shared
        self._key = key
        self._taken = 0

    def __next__(self) -> Batch:
        """The next batch."""
        item = self._shared.item(self._taken + 1)
        self._taken += 1
        if self._key is None:
            if isinstance(item, Mapping):
                raise DataError(
                    f"the stream gives a batch for each of {', '.join(map(str, item))}; say in "
                    "`reads` which of them each SAE reads."
                )
            return item
        if not isinstance(item, Mapping) or self._key not in item:
            found = ", ".join(map(str, item)) if isinstance(item, Mapping) else "one batch for all"
            raise DataError(f"the stream gives no `{self._key}`, but {found}.")
        return item[self._key]

    def state_dict(self) -> dict[str, Any]:
        """As `Shared.state_dict`."""
        return self._shared.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Shared.load_state_dict`."""
        self._shared.load_state_dict(state)
