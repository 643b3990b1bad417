"""Steps of LM size on a GPU."""

from importlib.util import find_spec

from benchmarks.bench import Bench, facts, label, series
from benchmarks.contest import Contender, Outcome
from benchmarks.table import Row, Section, Series, Target

WIDTHS = (8192, 32_768, 65_536, 131_072)
RECIPES = {"topk": "TopK", "batchtopk": "BatchTopK", "matryoshka_batchtopk": "matryoshka, 5 levels"}
BATCH = 4096
TOKENS = {(32_768, recipe): 800e3 for recipe in RECIPES}
"""Tokens per second to be reached on a GPU of the H200's class."""


def has_gpu() -> bool:
    """Whether torch sees a CUDA device; torch is imported here only."""
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def measure(bench: Bench) -> Section:
    """Every recipe at every width, or rows that say why not."""
    reason = "" if has_gpu() else "not measured: no GPU"
    rows: list[Row] = []
    said = {}
    for width in WIDTHS:
        for recipe, name in RECIPES.items():
            outcomes = {} if reason else _outcomes(bench, width, recipe)
            peers = ["sae-lens", *(["sparsify"] if recipe == "topk" else [])]
            rows += [_row(f"{name}, width {width:,}", p, outcomes, reason) for p in peers]
            said[f"{recipe} {width}"] = facts(outcomes)
    return Section(
        case="gpu",
        title="GPU: d_in 2,304, k 40, batch 4,096, bfloat16 autocast",
        note=(
            "Tokens per second of whole training steps, AuxK on a twentieth of the latents "
            "included. The floor is one encoder product in bfloat16. Of SAELens' own switches "
            "(compiled or not) the fastest is used; sparsify has TopK only."
        ),
        rows=rows,
        facts=said,
    )


def _outcomes(bench: Bench, width: int, recipe: str) -> dict[str, Outcome]:
    told = {
        "recipe": recipe,
        "d_in": 2304,
        "width": width,
        "k": 40,
        "batch": BATCH,
        "levels": [width // 16, width // 8, width // 4, width // 2, width],
        "lr": 1e-7,
        "dead_after": 4 * BATCH,
        "dead_share": 0.05,
        "warm_up": 30,
        "peer_warm_up": 30,
        "seconds": bench.seconds,
        "device": "cuda",
        "autocast": True,
    }
    contenders = [
        Contender(name="ours", module="benchmarks.ours.step", settings=told),
        Contender(
            name="sae-lens",
            side="sae-lens",
            module="benchmarks.peers.saelens_step",
            settings=told,
        ),
    ]
    if recipe == "topk":
        contenders.append(
            Contender(
                name="sparsify",
                side="sparsify",
                module="benchmarks.peers.sparsify_step",
                settings=told,
            )
        )
    return bench.contest(contenders)


def _row(name: str, peer: str, outcomes: dict[str, Outcome], reason: str) -> Row:
    ours, theirs = outcomes.get("ours"), outcomes.get(peer)
    width, recipe = name.rsplit(" ", 1)[1].replace(",", ""), name.split(", width")[0]
    key = (int(width), next(r for r, words in RECIPES.items() if words == recipe))
    targets: tuple[Target, ...] = ()
    if key in TOKENS and peer == "sae-lens":
        targets = (Target(of="value", at_least=TOKENS[key]), Target(of="ratio", at_least=3))
    missing = reason or (ours.missing if ours else "") or (theirs.missing if theirs else "")
    return Row(
        name=name,
        unit="tokens/s",
        more_is_better=True,
        ours=_tokens(series(ours, "ms")),
        peer=_tokens(series(theirs, "ms")),
        peer_name=label(peer, theirs),
        floor=_tokens(series(ours, "product_ms")),
        targets=targets,
        missing=missing,
    )


def _tokens(milliseconds: Series | None) -> Series | None:
    if milliseconds is None:
        return None
    return Series(tuple(1e3 * BATCH / each for each in milliseconds.values))
