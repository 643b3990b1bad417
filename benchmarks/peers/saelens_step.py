"""SAELens' training step at LM size, through its `SAETrainer`."""

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import sae_lens
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    LoggingConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer

from benchmarks.activations import endless, pool, silencing_bias, sizes
from benchmarks.worker import Harness, least, memory_mb, timed_batches


def training_sae(settings: dict[str, Any], variant: str) -> Any:
    """An SAE of the kind that the settings name."""
    common = {
        "d_in": settings["d_in"],
        "d_sae": settings["width"],
        "k": settings["k"],
        "device": settings.get("device", "cpu"),
    }
    if settings["recipe"] == "topk":
        sparse = variant == "sparse"
        return TopKTrainingSAE(TopKTrainingSAEConfig(**common, use_sparse_activations=sparse))
    if settings["recipe"] == "batchtopk":
        return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common))
    return MatryoshkaBatchTopKTrainingSAE(
        MatryoshkaBatchTopKTrainingSAEConfig(**common, matryoshka_widths=settings["levels"])
    )


def trainer(
    settings: dict[str, Any], variant: str, first: torch.Tensor, stream: Iterator[torch.Tensor]
) -> SAETrainer:
    """A trainer without wandb, evaluations and checkpoints."""
    sae = training_sae(settings, variant)
    if variant == "compiled":
        sae.training_forward_pass = torch.compile(sae.training_forward_pass)
    cfg = SAETrainerConfig(
        total_training_samples=10**12,
        train_batch_size_samples=settings["batch"],
        lr=settings["lr"],
        lr_end=settings["lr"],
        device=settings.get("device", "cpu"),
        autocast=settings.get("autocast", False),
        # the latents below are dead from the start, as ours are
        dead_feature_window=settings["dead_after"] // settings["batch"],
        logger=LoggingConfig(log_to_wandb=False),
    )
    made = SAETrainer(cfg=cfg, sae=sae, data_provider=stream)
    if settings["dead_share"]:
        with torch.no_grad():
            dead, bias = silencing_bias(
                first @ sae.W_enc, settings["dead_share"], settings["width"]
            )
            sae.b_enc[dead] = bias
            made.n_forward_passes_since_fired[dead] = cfg.dead_feature_window + 1.0
    return made


def variants(settings: dict[str, Any]) -> list[str]:
    """Its own switches that might make it faster; the fastest is the one that is measured."""
    found = ["plain", "compiled"]
    if settings["recipe"] == "topk" and not settings.get("autocast"):
        found.append("sparse")  # its documentation: worthwhile without autocast only
    return found


def trial(
    settings: dict[str, Any],
    variant: str,
    batches: list[torch.Tensor],
    synchronise: Callable[[], None],
) -> float:
    """Seconds of a step after a few, among them those that compile."""
    times: list[float] = []

    def stream() -> Iterator[torch.Tensor]:
        for batch in itertools.islice(endless(batches), settings["peer_warm_up"] + 3):
            synchronise()
            times.append(time.perf_counter())
            yield batch
        synchronise()
        times.append(time.perf_counter())

    train(trainer(settings, variant, batches[0], stream()))
    return times[-1] - times[-4]


def main() -> None:
    harness = Harness()
    settings = harness.settings
    at_start, _ = memory_mb()
    batches = pool(**sizes(settings))
    cuda = settings.get("device", "cpu") == "cuda"
    synchronise = torch.cuda.synchronize if cuda else lambda: None

    variant = settings.get("variant") or least(
        {each: partial(trial, settings, each, batches, synchronise) for each in variants(settings)}
    )
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def memory() -> dict[str, float]:
        if cuda:
            return {"peak_mb": torch.cuda.max_memory_allocated() / 1e6}
        return {"peak_mb": memory_mb()[1] - at_start}

    stream = timed_batches(
        harness,
        endless(batches),
        warm_up=settings["peer_warm_up"],
        seconds=settings["seconds"],
        synchronise=synchronise,
        facts=lambda: {
            "version": sae_lens.__version__,
            "torch": torch.__version__,
            "variant": variant,
            "threads": torch.get_num_threads(),
            "dead": int(made.dead_neurons.sum()),
        },
        after=memory,
    )
    made = trainer(settings, variant, batches[0], stream)
    train(made)


def train(made: SAETrainer) -> None:
    """Until batches run out."""
    try:
        made.fit()
    except StopIteration:
        return


if __name__ == "__main__":
    main()
