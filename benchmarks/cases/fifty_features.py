"""Fifty features, a hundred dimensions, fifty latents, BatchTopK."""

from benchmarks.bench import Bench
from benchmarks.cases.toy import Entry, rows
from benchmarks.table import Section

BATCH = 1024


def measure(bench: Bench) -> Section:
    """Independent features, and features coupled by a Gaussian copula."""
    common = {"recipe": "batchtopk", "k": 11, "d_in": 100, "width": 50, "batch": BATCH}
    independent, some = rows(
        bench,
        "independent features",
        common | {"world": "fifty, independent"},
        BATCH,
        [
            Entry(members=1),
            Entry(members=8, at_least=5),
            Entry(members=8, own_batches=True),
        ],
    )
    correlated, others = rows(
        bench,
        "correlated features",
        common | {"world": "fifty, correlated"},
        BATCH,
        [Entry(members=8)],
    )
    return Section(
        case="fifty_features",
        title="50 features, 100 dimensions, 50 latents, batch 1,024, BatchTopK with k = 11",
        note=(
            "SAE-samples per second, drawing the data included. The floor is the five plain "
            "matrix products of forward and backward and one pass of torch's fused Adam, alone."
        ),
        rows=[*independent, *correlated],
        facts=some | others,
    )
