"""The rows that need a GPU, alone.

    python -m benchmarks.gpu [--repetitions N] [--out FOLDER] [--peer NAME=PYTHON ...]

Peers are installed from PyPI when first needed; where there is no network, name interpreters that
have them: --peer sae-lens=/path/to/python --peer sparsify=/path/to/python.
"""

import sys

from benchmarks.cases import gpu
from benchmarks.run import run

if __name__ == "__main__":
    report = run(sys.argv[1:], {"gpu": gpu.measure}, "python -m benchmarks.gpu")
    sys.exit(1 if report.failed else 0)
