"""How long a diagnosis takes, and how much memory."""

from benchmarks.bench import Bench, facts, series
from benchmarks.contest import Contender
from benchmarks.table import Row, Section

SIZES = {
    "weights alone, 65,536 latents × 2,304": {"width": 65_536, "d_in": 2_304, "samples": 0},
    "1,000,000 activations, 8,192 latents × 384": {
        "width": 8_192,
        "d_in": 384,
        "samples": 1_000_000,
    },
}
"""What is diagnosed."""


def measure(bench: Bench) -> Section:
    """Seconds and gibibytes of each size."""
    rows, said = [], {}
    for name, size in SIZES.items():
        outcomes = bench.contest(
            [Contender(name="ours", module="benchmarks.ours.diagnosis", settings=dict(size))]
        )
        ours = outcomes["ours"]
        rows += [
            Row(
                name=f"{name}: {what}",
                unit=unit,
                more_is_better=False,
                ours=series(ours, key),
                missing=ours.missing,
            )
            for what, unit, key in (("time", "s", "seconds"), ("memory", "GiB", "peak_gib"))
        ]
        said[name] = facts(outcomes)
    return Section(
        case="diagnosis",
        title="Diagnosis of an SAE",
        note=(
            "`diagnose` on a TopK SAE of random directions, L0 32. Wanted: at most 60 s and 8 GiB "
            "for the weights alone, at most 180 s with activations, on two cores. Memory is the "
            "process's greatest, SAE and activations included."
        ),
        rows=rows,
        facts=said,
    )
