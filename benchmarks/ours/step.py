"""Our training step at LM size, through `fit`, and one encoder product beside it."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.activations import endless, pool, silencing_bias, sizes
from benchmarks.worker import Harness, memory_mb, timed_batches
from latent_assay import SAE, fit, recipes
from latent_assay.errors import DataError


def recipe(settings: dict[str, Any]) -> recipes.Recipe:
    """The recipe that the settings name, at their sizes."""
    common = {name: settings[name] for name in ("d_in", "width", "k")}
    if settings["recipe"] == "matryoshka_batchtopk":
        common["levels"] = settings["levels"]
    make = getattr(recipes, settings["recipe"])
    made = make(
        **common,
        lr=settings["lr"],
        seeds=range(settings.get("members", 1)),
        dead_after=settings["dead_after"],
    )
    config = dataclasses.replace(
        made.config, steps=10**9, autocast=settings.get("autocast", False), dead_after=10**9
    )
    return made._replace(config=config)


@torch.no_grad()
def silence(sae: SAE, x: torch.Tensor, share: float) -> None:
    """Make some of the latents dead."""
    for member in range(sae.members):
        dead, bias = silencing_bias(x @ sae.W_enc[member].T, share, sae.width)
        sae.b_enc[member, dead] = bias


def encoder_product(
    sae: SAE, x: torch.Tensor, dtype: torch.dtype, synchronise: Callable[[], None]
) -> Callable[[], dict[str, float]]:
    """Milliseconds of the product of one batch with every encoder row, all members together."""
    rows = sae.W_enc.detach().flatten(0, 1).to(dtype, copy=True)
    x = x.to(dtype)
    out = torch.empty(len(x), len(rows), dtype=dtype, device=x.device)

    def once() -> None:
        torch.mm(x, rows.T, out=out)

    once()

    def measured() -> dict[str, float]:
        times = []
        for _ in range(3):
            synchronise()
            start = time.perf_counter()
            once()
            synchronise()
            times.append(time.perf_counter() - start)
        return {"product_ms": 1e3 * sorted(times)[1]}

    return measured


def main() -> None:
    harness = Harness()
    settings = harness.settings
    device = settings.get("device", "cpu")
    at_start, _ = memory_mb()
    batches = pool(**sizes(settings))
    sae, objective, config = recipe(settings)
    sae.to(device)
    if settings["dead_share"]:
        silence(sae, batches[0], settings["dead_share"])
    cuda = device == "cuda"
    synchronise = torch.cuda.synchronize if cuda else lambda: None
    product: Callable[[], dict[str, float]] = dict
    if settings.get("product", True):
        dtype = torch.bfloat16 if config.autocast else torch.float32
        product = encoder_product(sae, batches[0], dtype, synchronise)
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def dead() -> int:
        state = objective.state_dict()
        return int(sum(state[name].sum() for name in state if name.endswith("dead")))

    def memory() -> dict[str, float]:
        if cuda:
            return {"peak_mb": torch.cuda.max_memory_allocated() / 1e6}
        return {"peak_mb": memory_mb()[1] - at_start}

    stream = timed_batches(
        harness,
        endless(batches),
        warm_up=settings["warm_up"],
        seconds=settings["seconds"],
        synchronise=synchronise,
        facts=lambda: {
            "dead": dead(),
            "threads": torch.get_num_threads(),
            **({"gpu": torch.cuda.get_device_name()} if cuda else {}),
        },
        before=product,
        after=memory,
    )
    try:
        fit(sae, objective, stream, config, progress=False)
    except DataError as end:  # the harness has no further wishes
        if "ran out" not in str(end):
            raise


if __name__ == "__main__":
    main()
