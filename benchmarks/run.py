"""Measure everything, ours and the peers' in turn, and print the table.

    python -m benchmarks.run [--only CASE ...] [--repetitions N] [--out FOLDER]

`make bench` runs all of it and writes benchmarks/results/bench.md and bench.json. Peers are
installed from PyPI when first needed.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.cases import (
    diagnosis,
    fifty_features,
    gpu,
    growth,
    imports,
    install_size,
    lm_step,
    memory,
    sampling,
    tiny_world,
)
from benchmarks.environments import CORE, REQUIREMENTS, Environments
from benchmarks.machine import machine, versions
from benchmarks.table import Report, Section

CASES: dict[str, Callable[[Bench], Section]] = {
    "tiny_world": tiny_world.measure,
    "fifty_features": fifty_features.measure,
    "lm_step": lm_step.measure,
    "growth": growth.measure,
    "memory": memory.measure,
    "sampling": sampling.measure,
    "diagnosis": diagnosis.measure,
    "imports": imports.measure,
    "install_size": install_size.measure,
    "gpu": gpu.measure,
}
"""Every case by its name."""


def arguments(words: list[str], names: list[str]) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if len(names) > 1:
        parser.add_argument("--only", nargs="+", choices=names, metavar="CASE", help=str(names))
    parser.add_argument("--repetitions", type=int, default=5, help="of everything (default 5)")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="how long one repetition lasts (default 1)"
    )
    parser.add_argument("--out", type=Path, help="folder for bench.md and bench.json")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="an interpreter that has the peer already: " + ", ".join([*REQUIREMENTS, CORE]),
    )
    found = parser.parse_args(words)
    if found.repetitions < 1 or found.seconds <= 0:
        parser.error("repetitions and seconds must be positive")
    if not all("=" in each for each in found.peer):
        parser.error("--peer wants NAME=PYTHON, such as sae-lens=.venv/bin/python")
    return found


def run(words: list[str], cases: dict[str, Callable[[Bench], Section]], command: str) -> Report:
    """Measure cases, print the page, and write it where the command line says."""
    told = arguments(words, list(cases))
    given = dict(each.split("=", 1) for each in told.peer)
    bench = Bench(
        environments=Environments({side: Path(python) for side, python in given.items()}),
        repetitions=told.repetitions,
        seconds=told.seconds,
    )
    before = machine()
    sections, failed = [], []
    for name in getattr(told, "only", None) or cases:
        start = time.perf_counter()
        try:
            sections.append(cases[name](bench))
        except Exception:  # what the others measured shall not be lost
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    # arguments that hold names of this machine stay out
    quoted = [each for each in words if not any(sign in each for sign in "/\\=")]
    if "--out" in quoted:
        quoted.remove("--out")
    report = Report(
        machine=before,
        versions=versions(),
        repetitions=told.repetitions,
        command=" ".join([command, *(each for each in quoted if each != "--peer")]),
        sections=sections,
        failed=failed,
    )
    print(report.markdown())
    if told.out:
        told.out.mkdir(parents=True, exist_ok=True)
        (told.out / "bench.md").write_text(report.markdown(), encoding="utf-8")
        (told.out / "bench.json").write_text(report.as_json() + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    sys.exit(1 if run(sys.argv[1:], CASES, "python -m benchmarks.run").failed else 0)
