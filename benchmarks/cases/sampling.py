"""Sampling of a world of 16,384 features."""

from benchmarks.bench import Bench, facts, label, series
from benchmarks.contest import Contender, Outcome
from benchmarks.table import Row, Section, Target

WORLDS = ("independent", "hierarchy", "low-rank copula", "hierarchy and low-rank copula")
"""The worlds of `benchmarks.world_sampling`; `benchmarks.peers.saelens_sampling` has their like."""


def measure(bench: Bench) -> Section:
    """Each world, ours and theirs."""
    rows = []
    said = {}
    for world in WORLDS:
        told = {"world": world, "batch": 1024, "seconds": bench.seconds}
        outcomes = bench.contest(
            [
                Contender(name="ours", module="benchmarks.ours.sampling", settings=told),
                Contender(
                    name="sae-lens",
                    side="sae-lens",
                    module="benchmarks.peers.saelens_sampling",
                    settings=told,
                ),
            ]
        )
        ours, peer = outcomes["ours"], outcomes["sae-lens"]
        rows.append(
            Row(
                name=world + _l0(ours, peer),
                unit="vectors/s",
                more_is_better=True,
                ours=series(ours, "samples_per_second"),
                peer=series(peer, "samples_per_second"),
                peer_name=label("sae-lens", peer),
                floor=series(ours, "floor") if world == "low-rank copula" else None,
                targets=(Target(of="ratio", at_least=10),),
                missing=ours.missing or peer.missing,
            )
        )
        said[world] = facts(outcomes)
    return Section(
        case="sampling",
        title="Sampling a world: 16,384 features, 768 dimensions",
        note=(
            "Activations per second, as training reads them. Rates as in SynthSAEBench (they fall "
            "with the square root of the rank from .4 to .0005). L0 is how many features fire per "
            "sample, in our world and in theirs. Of SAELens' dense and sparse tensors the faster "
            "are used. The floor of the copula alone is the product with its factor, one "
            "comparison for every feature, and the sum of the directions that fire: no random "
            "number of the features' own. Below a hierarchy the copula is drawn for the roots and "
            "where parents fire."
        ),
        rows=rows,
        facts=said,
    )


def _l0(ours: Outcome, peer: Outcome) -> str:
    known = [f"{each.facts['l0']:.3g}" for each in (ours, peer) if "l0" in each.facts]
    return f" (L0 {' and '.join(known)})" if known else ""
