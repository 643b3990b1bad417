"""The worker's end of the pipe: set up once, then measure whenever the harness asks.

Runs inside peers' environments too, so it needs nothing but Python's own library. One line of JSON
on stdin holds the settings; each further line asks for one repetition. Answers are lines of JSON,
after a prefix.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Batch = TypeVar("Batch")

PREFIX = "measured: "
"""Begins every answer: what a library prints while it is imported is none."""


class Harness:
    """Who asks for the measurements."""

    def __init__(self) -> None:
        # libraries print what they like; the pipe is ours alone
        self._pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.settings: dict[str, Any] = json.loads(sys.stdin.readline())

    def ready(self, **facts: Any) -> None:
        """Set-up and warm-up are over. The facts go into the results."""
        self._send({"facts": facts})

    def wait(self) -> bool:
        """Wait for the next repetition; False when there are no more."""
        return sys.stdin.readline().strip() == "measure"

    def report(self, **values: float) -> None:
        """The numbers of one repetition."""
        self._send({"values": values})

    def _send(self, message: dict[str, Any]) -> None:
        self._pipe.write(PREFIX + json.dumps(message) + "\n")
        self._pipe.flush()


def timed_batches(
    harness: Harness,
    batches: Iterator[Batch],
    *,
    warm_up: int,
    seconds: float,
    synchronise: Callable[[], None] = lambda: None,
    facts: Callable[[], dict[str, Any]] = dict,
    before: Callable[[], dict[str, float]] = dict,
    after: Callable[[], dict[str, float]] = dict,
) -> Iterator[Batch]:
    """The batches of one long training run, which stands still between two repetitions.

    A trainer that asks for its next batch has finished a step: so the clock runs from batch to
    batch, and no trainer need be taken apart to be timed.

    **Arguments:**
    - `warm_up`: steps before the first repetition.
    - `seconds`: how long a repetition should last; it has at least two steps.
    - `synchronise`: waits for the device.
    - `facts`: asked for after the warm-up.
    - `before`, `after`: further numbers of a repetition.
    """
    for _ in range(warm_up):
        yield next(batches)
    synchronise()
    start = time.perf_counter()
    for _ in range(2):
        yield next(batches)
    synchronise()
    steps = max(2, math.ceil(2 * seconds / (time.perf_counter() - start)))
    harness.ready(steps_per_repetition=steps, **facts())
    while harness.wait():
        values = before()
        synchronise()
        start = time.perf_counter()
        for _ in range(steps):
            yield next(batches)
        synchronise()
        values["ms"] = 1e3 * (time.perf_counter() - start) / steps
        harness.report(**values, **after())


def calibrated(run: Callable[[int], None], *, first: int, seconds: float) -> int:
    """How many steps `run` must be told to make, so as to last about so many seconds."""
    run(first)
    start = time.perf_counter()
    run(first)
    return max(first, math.ceil(first * seconds / (time.perf_counter() - start)))


def fastest(variants: dict[str, Callable[[], None]]) -> str:
    """The name of the variant whose second run takes the least time."""

    def timed(run: Callable[[], None]) -> Callable[[], float]:
        def seconds() -> float:
            run()
            start = time.perf_counter()
            run()
            return time.perf_counter() - start

        return seconds

    return least({name: timed(run) for name, run in variants.items()})


def least(variants: dict[str, Callable[[], float]]) -> str:
    """The name of the variant that returns the least number of seconds.

    One that fails is no candidate, unless all do.
    """
    times: dict[str, float] = {}
    failure: Exception | None = None
    for name, seconds in variants.items():
        try:
            times[name] = seconds()
        except Exception as error:
            print(f"variant {name}: {error}", file=sys.stderr)
            failure = error
    if failure is not None and not times:
        raise failure
    return min(times, key=lambda name: times[name])


def memory_mb() -> tuple[float, float]:
    """Memory of this process in MB: now, and at its peak."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        now, peak = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
        return now, peak
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
    return peak, peak
