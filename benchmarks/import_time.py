"""How long `import latent_assay` takes, as a multiple of `import torch`, in one run.

    python benchmarks/import_time.py [--out FILE]

Each import runs in a fresh process, in turn, so that a drift of the machine touches both.
"""

import argparse
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch

REPETITIONS = 5
LIMIT = 1.3


def seconds(module: str) -> float:
    program = (
        f"import time; start = time.perf_counter(); import {module}; "
        "print(time.perf_counter() - start)"
    )
    return float(subprocess.check_output([sys.executable, "-c", program], text=True))


def table() -> str:
    rows: dict[str, list[float]] = {"torch": [], "latent_assay": []}
    for module in rows:
        seconds(module)  # once unmeasured, so that files are in the page cache
    for _ in range(REPETITIONS):
        for module, times in rows.items():
            times.append(seconds(module))
    ratio = median(rows["latent_assay"]) / median(rows["torch"])
    lines = [
        "# Import time",
        "",
        f"`python benchmarks/import_time.py`, {REPETITIONS} fresh processes each, in turn; "
        f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}.",
        "",
        "| import | median s | min s | max s |",
        "|---|---|---|---|",
        *(
            f"| `{module}` | {median(times):.2f} | {min(times):.2f} | {max(times):.2f} |"
            for module, times in rows.items()
        ),
        "",
        f"Ratio of medians: **{ratio:.2f}** (target: at most {LIMIT}).",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the table")
    arguments = parser.parse_args()
    text = table()
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
