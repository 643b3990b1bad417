"""Four features, fifty dimensions, four latents: overhead is everything."""

from benchmarks.bench import Bench
from benchmarks.cases.toy import Entry, rows
from benchmarks.table import Section

BATCH = 1024
PATTERNS = 12
"""What can occur with four features of which one needs another: 3 x 2 x 2."""


def measure(bench: Bench) -> Section:
    """Constant magnitudes, for which counts of patterns are enough, and random ones."""
    common = {"recipe": "relu_l1", "l1": 1e-3, "d_in": 50, "width": 4, "batch": BATCH}
    constant, constant_facts = rows(
        bench,
        "constant magnitudes",
        common | {"world": "tiny, constant magnitudes"},
        PATTERNS,
        [
            Entry(members=1),
            Entry(members=64, at_least=80),
            Entry(members=64, own_batches=True),
            Entry(members=1024, at_least=200),
            Entry(members=1024, own_batches=True),
        ],
    )
    varying, varying_facts = rows(
        bench,
        "random magnitudes",
        common | {"world": "tiny, random magnitudes"},
        BATCH,
        [
            Entry(members=1),
            Entry(members=64, at_least=12),
            Entry(members=64, own_batches=True),
        ],
    )
    return Section(
        case="tiny_world",
        title="Tiny world: 4 features, 50 dimensions, 4 latents, batch 1,024, ReLU with L1",
        note=(
            "SAE-samples per second, drawing the data included: members × batch × steps / time. "
            "With constant magnitudes ours draws how often each of the 12 patterns occurs in a "
            "batch, which has the same distribution as drawing samples. The floor is the five "
            "plain matrix products of forward and backward and one pass of torch's fused Adam, "
            "alone: no data, no loss, no clipping. A cleverer form of the products may beat it."
        ),
        rows=[*constant, *varying],
        facts=constant_facts | varying_facts,
    )
