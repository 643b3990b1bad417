"""Ensembles of small SAEs on a toy world against SAELens, which trains one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import Bench, facts, label, series
from benchmarks.contest import Contender
from benchmarks.table import Row, Target

PEER = "sae-lens"
KEY = "samples_per_second"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One ensemble of ours."""

    members: int
    """How many SAEs are trained at once."""
    own_batches: bool = False
    """Whether every member reads batches of its own."""
    at_least: float | None = None
    """The ratio to be reached."""

    @property
    def name(self) -> str:
        """What the row is called."""
        if self.members == 1:
            return "1 member"
        whose = "each its own batches" if self.own_batches else "one stream of batches for all"
        return f"{self.members:,} members, {whose}"


def rows(
    bench: Bench, prefix: str, common: dict[str, Any], patterns: int, entries: Sequence[Entry]
) -> tuple[list[Row], dict[str, Any]]:
    """A row for each ensemble; the peer and every floor are measured in the same rounds.

    **Arguments:**
    - `common`: what both sides are told: world, recipe, sizes.
    - `patterns`: rows of a batch as we compute it, for the floor.
    """
    settings = common | {"seconds": bench.seconds}
    contenders = [
        Contender(
            name=PEER,
            side=PEER,
            module="benchmarks.peers.saelens_toy",
            settings=settings | {"first_steps": 100},
        )
    ]
    for entry in entries:
        one = {"members": entry.members, "own_batches": entry.own_batches}
        contenders += [
            Contender(
                name=entry.name,
                module="benchmarks.ours.toy",
                settings=settings | one | {"first_steps": max(20, 200 // entry.members)},
            ),
            Contender(
                name=f"floor of {entry.name}",
                module="benchmarks.ours.products",
                settings={
                    "members": entry.members,
                    "rows": patterns,
                    "batch": common["batch"],
                    "d_in": common["d_in"],
                    "width": common["width"],
                    "shared": not entry.own_batches,
                    "first_steps": 20,
                    "seconds": bench.seconds / 2,
                },
            ),
        ]
    outcomes = bench.contest(contenders)
    peer = outcomes[PEER]
    found = []
    for entry in entries:
        ours = outcomes[entry.name]
        target = () if entry.at_least is None else (Target(of="ratio", at_least=entry.at_least),)
        found.append(
            Row(
                name=f"{prefix}: {entry.name}",
                unit="samples/s",
                more_is_better=True,
                ours=series(ours, KEY),
                peer=series(peer, KEY),
                peer_name=label(PEER, peer),
                floor=series(outcomes[f"floor of {entry.name}"], KEY),
                targets=target,
                missing=ours.missing or peer.missing,
            )
        )
    return found, {prefix: facts(outcomes)}
