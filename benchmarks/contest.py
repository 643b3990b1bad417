"""Contenders measured in turn, each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT, Environments, Unavailable
from benchmarks.worker import PREFIX

PATIENCE = 900.0
"""Seconds that a worker may take for set-up or for one repetition."""

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Who is measured, and how."""

    name: str
    """What it is called among its rivals."""
    module: str
    """The worker to run, such as `benchmarks.ours.step`."""
    side: str = "ours"
    """Whose interpreter runs it: "ours", or a peer."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What the worker is told."""


@dataclass(kw_only=True)
class Outcome:
    """What came of a contender."""

    values: dict[str, list[float]] = field(default_factory=dict)
    """Each number that the worker reported, one entry per repetition."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the worker said of itself: versions, threads, variants chosen."""
    missing: str = ""
    """Why there is nothing, or nothing whole; empty if all went well."""


class WorkerFailed(Exception):
    """A worker died or fell silent."""


class Worker:
    """A running worker: one process, asked for one repetition at a time."""

    def __init__(self, python: Path, contender: Contender):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [python, "-m", contender.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            text=True,
        )
        self.facts: dict[str, Any] = self._ask(json.dumps(contender.settings))["facts"]

    def measure(self) -> dict[str, float]:
        """One repetition."""
        return self._ask("measure")["values"]

    def close(self) -> None:
        """Let the worker end; kill one that does not."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _ask(self, line: str) -> dict[str, Any]:
        watchdog = threading.Timer(PATIENCE, self._process.kill)
        watchdog.start()
        try:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            for answer in self._process.stdout:
                if answer.startswith(PREFIX):
                    return json.loads(answer.removeprefix(PREFIX))
        except BrokenPipeError:
            pass
        finally:
            watchdog.cancel()
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace")
        self.close()
        raise WorkerFailed(words[-3000:])


def contest(
    contenders: Sequence[Contender],
    environments: Environments,
    *,
    repetitions: int,
    fresh: bool = False,
    discard: int = 0,
) -> dict[str, Outcome]:
    """Measure contenders in turn, so that a drift of the machine touches all of them.

    **Arguments:**
    - `repetitions`: how often each is measured.
    - `fresh`: a new process for every repetition, for what can be measured only once.
    - `discard`: rounds before the first that counts.

    **Returns:** what came of each, by name. A contender that fails is left out of later rounds.
    """
    outcomes = {each.name: Outcome() for each in contenders}
    workers: dict[str, Worker] = {}

    def worker(contender: Contender) -> Worker:
        python = environments.python(contender.side)
        found = Worker(python, contender)
        outcomes[contender.name].facts = found.facts
        return found

    def attempt(contender: Contender, counts: bool) -> None:
        outcome = outcomes[contender.name]
        try:
            if contender.name not in workers:
                workers[contender.name] = worker(contender)
            if counts:
                for key, value in workers[contender.name].measure().items():
                    outcome.values.setdefault(key, []).append(value)
        except Unavailable as error:
            outcome.missing = f"not measured: {error}"
        except WorkerFailed as error:
            print(f"{contender.name} failed:\n{error}", file=sys.stderr)
            outcome.missing = "not measured: it failed"
            workers.pop(contender.name, None)

    try:
        if not fresh:  # every set-up before the first measurement: no two at the same time
            for contender in contenders:
                attempt(contender, counts=False)
        for turn in range(discard + repetitions):
            for contender in contenders:
                if outcomes[contender.name].missing:
                    continue
                attempt(contender, counts=True)
                if fresh and contender.name in workers:
                    workers.pop(contender.name).close()
            if turn < discard:
                for outcome in outcomes.values():
                    outcome.values.clear()
    finally:
        for each in workers.values():
            each.close()
    return outcomes
