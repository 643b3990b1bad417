"""How the time of our step grows with every size."""

from typing import Any

from benchmarks.bench import Bench, facts, series
from benchmarks.cases.lm_sizes import LEVELS, settings
from benchmarks.contest import Contender
from benchmarks.table import Row, Section

SWEEPS: dict[str, list[dict[str, Any]]] = {
    "width": [{"width": width} for width in (2048, 4096, 8192, 16_384, 32_768)],
    "k": [{"k": k} for k in (8, 16, 32, 64, 128)],
    "d_in": [{"d_in": d_in} for d_in in (192, 384, 768, 1536)],
    "members": [{"members": members, "width": 2048} for members in (1, 2, 4, 8)],
    "levels": [{"recipe": "matryoshka_batchtopk", "levels": levels} for levels in LEVELS.values()],
}
"""What varies, around the step of LM size."""


def measure(bench: Bench) -> Section:
    """One row for each point of each sweep."""
    rows = []
    said: dict[str, Any] = {}
    for points in SWEEPS.values():
        for point in points:
            name = ", ".join(
                f"{key} {len(value) if key == 'levels' else value:,}"
                for key, value in point.items()
                if key != "recipe"
            )
            # without dead latents: what a step costs, not what reviving costs
            told = settings("batchtopk", seconds=bench.seconds / 2, dead_share=0.0)
            told |= {"dead_after": 10**9, "warm_up": 3} | point
            outcomes = bench.contest(
                [Contender(name=name, module="benchmarks.ours.step", settings=told)]
            )
            outcome = outcomes[name]
            rows.append(
                Row(
                    name=name,
                    unit="ms per step",
                    more_is_better=False,
                    ours=series(outcome, "ms"),
                    floor=series(outcome, "product_ms"),
                    missing=outcome.missing,
                )
            )
            said |= facts(outcomes)
    return Section(
        case="growth",
        title="How our step grows",
        note=(
            "Around d_in 384, 8,192 latents, k 32, batch 2,048, one member, BatchTopK (matryoshka "
            "BatchTopK for levels), no dead latents. The floor is the encoder product of all "
            "members together."
        ),
        rows=rows,
        facts=said,
    )
