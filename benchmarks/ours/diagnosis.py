"""Diagnosis of an SAE, from its weights or with activations."""

import resource
import time

import torch
from torch.nn.functional import embedding_bag, normalize

from benchmarks.worker import Harness
from latent_assay.diagnosis import diagnose
from latent_assay.sae import SAE
from latent_assay.sparsifiers import TopK

L0 = 32


def subject(width: int, d_in: int) -> SAE:
    """A tied TopK SAE of random directions."""
    rows = torch.randn(1, width, d_in, generator=torch.Generator().manual_seed(0))
    rows = normalize(rows, dim=-1)
    return SAE(rows, rows.clone(), sparsifier=TopK(L0)).eval()


def batches(sae: SAE, samples: int, batch: int = 8_192) -> list[torch.Tensor]:
    """Activations that are sums of decoder rows, with noise."""
    generator = torch.Generator().manual_seed(1)
    rows = sae.W_dec[0].detach()
    found = []
    for start in range(0, samples, batch):
        n = min(batch, samples - start)
        index = torch.randint(0, sae.width, (n, L0), generator=generator)
        noise = torch.randn(n, sae.d_in, generator=generator)
        found.append(embedding_bag(index, rows, mode="sum") + 0.02 * noise)
    return found


def main() -> None:
    harness = Harness()
    sae = subject(harness.settings["width"], harness.settings["d_in"])
    samples = harness.settings["samples"]
    activations = batches(sae, samples) if samples else None
    harness.ready(threads=torch.get_num_threads(), samples=samples)
    while harness.wait():
        start = time.perf_counter()
        diagnose(sae, activations)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        harness.report(seconds=seconds, peak_gib=peak)


if __name__ == "__main__":
    main()
