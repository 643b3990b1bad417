"""sparsify's training step at LM size.

Its trainer wants a language model; these are that trainer's statements for one hook point, with
its default optimiser.
"""

from typing import Any

import torch
from schedulefree import ScheduleFreeWrapper
from sparsify import SparseCoder, SparseCoderConfig
from sparsify.sign_sgd import SignSGD

from benchmarks.activations import endless, pool, silencing_bias, sizes
from benchmarks.environments import REQUIREMENTS
from benchmarks.worker import Harness, memory_mb, timed_batches


class Training:
    """One sparse coder with its optimiser."""

    def __init__(self, settings: dict[str, Any]):
        device = settings.get("device", "cpu")
        self.auxk = 1 / 32 if settings["dead_share"] else 0.0
        self.dead_after = settings["dead_after"]
        self.sae = SparseCoder(
            settings["d_in"],
            SparseCoderConfig(num_latents=settings["width"], k=settings["k"]),
            device=device,
            dtype=torch.float32,
        )
        self.optimiser = ScheduleFreeWrapper(
            SignSGD(self.sae.parameters(), lr=settings["lr"]), momentum=0.95
        )
        self.optimiser.train()
        self.since_fired = torch.zeros(settings["width"], dtype=torch.long, device=device)

    def step(self, x: torch.Tensor) -> None:
        """One batch."""
        self.sae.set_decoder_norm_to_unit_norm()
        dead = self.since_fired > self.dead_after if self.auxk else None
        out = self.sae(x=x, y=x, dead_mask=dead)
        (out.fvu + self.auxk * out.auxk_loss).backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimiser.step()
        self.optimiser.zero_grad()
        fired = torch.zeros_like(self.since_fired, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        self.since_fired += len(x)
        self.since_fired[fired] = 0


def main() -> None:
    harness = Harness()
    settings = harness.settings
    at_start, _ = memory_mb()
    batches = pool(**sizes(settings))
    training = Training(settings)
    if settings["dead_share"]:
        with torch.no_grad():
            encoder = training.sae.encoder
            dead, bias = silencing_bias(
                batches[0] @ encoder.weight.T, settings["dead_share"], settings["width"]
            )
            encoder.bias[dead] = bias
    cuda = settings.get("device", "cpu") == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()

    def memory() -> dict[str, float]:
        if cuda:
            return {"peak_mb": torch.cuda.max_memory_allocated() / 1e6}
        return {"peak_mb": memory_mb()[1] - at_start}

    stream = timed_batches(
        harness,
        endless(batches),
        warm_up=settings["warm_up"],
        seconds=settings["seconds"],
        synchronise=torch.cuda.synchronize if cuda else lambda: None,
        facts=lambda: {
            "version": REQUIREMENTS["sparsify"].split("==")[1],
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "dead": int((training.since_fired > training.dead_after).sum()),
        },
        after=memory,
    )
    for x in stream:
        training.step(x)


if __name__ == "__main__":
    main()
