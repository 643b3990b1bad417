"""How long an import takes; one repetition per process."""

import importlib
import time

from benchmarks.worker import Harness


def main() -> None:
    harness = Harness()
    harness.ready()
    while harness.wait():
        start = time.perf_counter()
        importlib.import_module(harness.settings["module"])
        harness.report(seconds=time.perf_counter() - start)


if __name__ == "__main__":
    main()
