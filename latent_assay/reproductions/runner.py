"""Run entries, as many at once as there are cores, and write what came out."""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from tqdm.auto import tqdm

from latent_assay.atomic import write_json, write_text
from latent_assay.report import Report
from latent_assay.reproductions.entry import Entry, Result
from latent_assay.reproductions.markdown import markdown
from latent_assay.reproductions.page import sections_of, summary_of
from latent_assay.reproductions.registry import ENTRIES


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a round of reproductions left behind."""

    results: dict[str, Result]
    """By id, in the order of the entries."""
    seconds: float
    """How long it took."""
    report: Path
    """The page."""

    @property
    def passed(self) -> int:
        """How many entries passed."""
        return sum(result.passed for result in self.results.values())


def reproduce(
    entries: Sequence[Entry],
    folder: str | Path,
    *,
    quick: bool = False,
    processes: int | None = None,
    progress: bool = True,
) -> Outcome:
    """Test claims and write a report, `reproductions.json` and `reproductions.md`.

    An entry that raises an error counts as failed, with the error as its note; the others go on.

    **Arguments:**
    - `entries`: what to test; your own as well as those of `ENTRIES`.
    - `folder`: where the report goes.
    - `quick`: population training where worlds are finite, and fewer steps.
    - `processes`: how many entries run at once; as many as there are cores if None.
    - `progress`: whether to show a bar.
    """
    folder = Path(folder)
    start = time.monotonic()
    found: dict[str, Result] = {}
    with tqdm(total=len(entries), unit="claim", disable=not progress) as bar:
        for name, result in _run(entries, quick, processes):
            found[name] = result
            bar.set_postfix_str(f"{name}: {'pass' if result.passed else 'FAIL'}", refresh=False)
            bar.update()
    results = {entry.id: found[entry.id] for entry in entries}
    seconds = time.monotonic() - start
    pairs = [(entry, results[entry.id]) for entry in entries]
    write_json(folder / "reproductions.json", [entry.to_json(result) for entry, result in pairs])
    write_text(folder / "reproductions.md", markdown(pairs, quick=quick))
    report = Report(
        title="What the papers say, and what we measured",
        summary=summary_of(pairs),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        provenance={
            "torch": torch.__version__,
            "quick": quick,
            "entries": len(results),
            "passed": sum(result.passed for result in results.values()),
        },
        sections=sections_of(pairs),
    )
    return Outcome(results=results, seconds=seconds, report=report.write(folder))


def _run(
    entries: Sequence[Entry], quick: bool, processes: int | None
) -> Iterator[tuple[str, Result]]:
    # another process knows an entry by its id, so only registered ones can go there
    away = [entry for entry in entries if ENTRIES.get(entry.id) is entry]
    workers = min(processes or os.cpu_count() or 1, len(away))
    if workers <= 1:
        away = []
    for entry in entries:
        if entry not in away:
            yield entry.id, _result(entry, quick)
    if not away:
        return
    # spawned rather than forked: torch's threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        waiting = {pool.submit(_by_id, entry.id, quick): entry.id for entry in away}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _one_thread() -> None:
    # toy SAEs are too small to share between cores; one process per core is faster
    torch.set_num_threads(1)


def _by_id(name: str, quick: bool) -> Result:
    return _result(ENTRIES[name], quick)


def _result(entry: Entry, quick: bool) -> Result:
    try:
        return entry.run(quick)
    except Exception as error:
        return Result(
            checks=(), note=f"The reproduction broke off: {type(error).__name__}: {error}"
        )
