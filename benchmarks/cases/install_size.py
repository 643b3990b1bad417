"""How much an installation weighs."""

from benchmarks.bench import Bench
from benchmarks.environments import CORE, Unavailable, sizes_mb
from benchmarks.table import Row, Section, Series

NOT_COUNTED = {"pip"}
"""What a virtual environment brings by itself."""


def measure(bench: Bench) -> Section:
    """Our core without extras, and SAELens; with torch and without."""
    weights: dict[str, dict[str, float]] = {}
    missing = ""
    for side in (CORE, "sae-lens"):
        try:
            found = sizes_mb(bench.environments.site_packages(side))
        except Unavailable as error:
            missing = f"not measured: {error}"
        else:
            weights[side] = {k: v for k, v in found.items() if k.lower() not in NOT_COUNTED}

    def row(name: str, unit: str, value: dict[str, float]) -> Row:
        both = {side: Series((number,)) for side, number in value.items()}
        return Row(
            name=name,
            unit=unit,
            more_is_better=False,
            ours=both.get(CORE),
            peer=both.get("sae-lens"),
            peer_name="sae-lens",
            missing=missing,
        )

    without = {side: {k: v for k, v in w.items() if k != "torch"} for side, w in weights.items()}
    return Section(
        case="install_size",
        title="Size of an installation",
        note=(
            "Files that the installed distributions list, in environments of their own: the "
            "package without extras. pip is not counted."
        ),
        rows=[
            row("without torch", "MB", {side: sum(w.values()) for side, w in without.items()}),
            row("with torch", "MB", {side: sum(w.values()) for side, w in weights.items()}),
            row("distributions", "number", {side: float(len(w)) for side, w in weights.items()}),
        ],
        facts={side: sorted(w) for side, w in weights.items()},
    )
