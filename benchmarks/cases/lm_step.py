"""A whole training step at LM size, as a multiple of one encoder product."""

from benchmarks.bench import Bench, facts, label, series
from benchmarks.cases.lm_sizes import RECIPES, settings
from benchmarks.contest import Contender
from benchmarks.table import Row, Section, Target

MOST = {"topk": 1.8, "batchtopk": 1.8, "matryoshka_batchtopk": 2.2}
"""Encoder products that a step may cost."""


def measure(bench: Bench) -> Section:
    """Ours and SAELens' step for each recipe; sparsify's for TopK, the only one it has."""
    rows: list[Row] = []
    said = {}
    for recipe, name in RECIPES.items():
        told = settings(recipe, seconds=bench.seconds)
        peers = {"sae-lens": "benchmarks.peers.saelens_step"}
        if recipe == "topk":
            peers["sparsify"] = "benchmarks.peers.sparsify_step"
        contenders = [Contender(name="ours", module="benchmarks.ours.step", settings=told)]
        contenders += [
            Contender(name=peer, side=peer, module=module, settings=told)
            for peer, module in peers.items()
        ]
        outcomes = bench.contest(contenders)
        ours = outcomes["ours"]
        rows += [
            Row(
                name=name,
                unit="ms per step",
                more_is_better=False,
                ours=series(ours, "ms"),
                peer=series(outcomes[peer], "ms"),
                peer_name=label(peer, outcomes[peer]),
                floor=series(ours, "product_ms"),
                targets=(Target(of="floor", at_most=MOST[recipe]),) if peer == "sae-lens" else (),
                missing=ours.missing or outcomes[peer].missing,
            )
            for peer in peers
        ]
        rows.append(_few_dead(bench, recipe, name))
        said[recipe] = facts(outcomes)
    return Section(
        case="lm_step",
        title="LM size: d_in 384, 8,192 latents, k 32, batch 2,048, float32",
        note=(
            "Everything from encoding to Adam, AuxK on a twentieth of the latents included; ours "
            "also with a hundredth, as AuxK keeps few latents dead. The products of AuxK with a "
            "twentieth cost a quarter of an encoder product by themselves. The floor "
            "is one encoder product, measured between our steps. Of SAELens' own switches "
            "(compiled or not, sparse or dense) the fastest is used; sparsify runs its default "
            "optimiser, which keeps less state than Adam."
        ),
        rows=rows,
        facts=said,
    )


def _few_dead(bench: Bench, recipe: str, name: str) -> Row:
    """Our step where a hundredth of the latents is dead."""
    told = settings(recipe, seconds=bench.seconds, dead_share=0.01)
    outcome = bench.contest([Contender(name="ours", module="benchmarks.ours.step", settings=told)])[
        "ours"
    ]
    return Row(
        name=f"{name}, a hundredth dead",
        unit="ms per step",
        more_is_better=False,
        ours=series(outcome, "ms"),
        floor=series(outcome, "product_ms"),
        targets=(Target(of="floor", at_most=MOST[recipe]),),
        missing=outcome.missing,
    )
