"""The peak of memory in a step of LM size."""

from benchmarks.bench import Bench, facts, label, series
from benchmarks.cases.lm_sizes import RECIPES, settings
from benchmarks.contest import Contender
from benchmarks.table import Row, Section, Series


def measure(bench: Bench) -> Section:
    """A fresh process for every repetition: a peak can be reached only once."""
    rows = []
    said = {}
    for recipe, name in RECIPES.items():
        told = settings(recipe, seconds=0.0, product=False, variant="plain")
        outcomes = bench.contest(
            [
                Contender(name="ours", module="benchmarks.ours.step", settings=told),
                Contender(
                    name="sae-lens",
                    side="sae-lens",
                    module="benchmarks.peers.saelens_step",
                    settings=told,
                ),
            ],
            fresh=True,
            repetitions=min(bench.repetitions, 2),
        )
        ours, peer = outcomes["ours"], outcomes["sae-lens"]
        # weights, gradients and two moments; and the pre-activations
        parameters = 2 * told["width"] * told["d_in"]
        floor = 4 * (4 * parameters + told["batch"] * told["width"]) / 1e6
        rows.append(
            Row(
                name=name,
                unit="MB",
                more_is_better=False,
                ours=series(ours, "peak_mb"),
                peer=series(peer, "peak_mb"),
                peer_name=label("sae-lens", peer),
                floor=Series((floor,)),
                missing=ours.missing or peer.missing,
            )
        )
        said[recipe] = facts(outcomes)
    return Section(
        case="memory",
        title="Peak of memory, LM size",
        note=(
            "What the peak of the process lies above its size after all imports, in fresh "
            "processes (two repetitions: it hardly varies), SAELens not compiled. The floor "
            "is computed: weights, gradients and Adam's two moments, and one matrix of "
            "pre-activations, in float32."
        ),
        rows=rows,
        facts=said,
    )
