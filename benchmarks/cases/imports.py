"""How long an import takes."""

from benchmarks.bench import Bench, facts, series
from benchmarks.contest import Contender
from benchmarks.table import Row, Section, Target


def measure(bench: Bench) -> Section:
    """Fresh processes; the first round, which fills the page cache, does not count."""
    modules = {"torch": "ours", "latent_assay": "ours", "sae_lens": "sae-lens"}
    outcomes = bench.contest(
        [
            Contender(
                name=module, side=side, module="benchmarks.importing", settings={"module": module}
            )
            for module, side in modules.items()
        ],
        fresh=True,
        discard=1,
    )
    ours, peer = outcomes["latent_assay"], outcomes["sae_lens"]
    row = Row(
        name="import",
        unit="s",
        more_is_better=False,
        ours=series(ours, "seconds"),
        peer=series(peer, "seconds"),
        peer_name="sae-lens",
        floor=series(outcomes["torch"], "seconds"),
        targets=(Target(of="floor", at_most=1.3),),
        missing=ours.missing or peer.missing,
    )
    return Section(
        case="imports",
        title="Import time",
        note="`import latent_assay` and `import sae_lens`; the floor is `import torch`.",
        rows=[row],
        facts=facts(outcomes),
    )
