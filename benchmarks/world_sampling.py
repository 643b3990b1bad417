"""How fast worlds of 16,384 features are sampled: independent, hierarchical, and correlated.

    python benchmarks/world_sampling.py

prints samples per second and processor time, on as many threads as torch takes. Other programs
take the cases from `cases`.
"""

import time
from collections.abc import Callable, Iterator

import torch

from latent_assay.worlds import Correlation, FoldedNormal, GaussianCopula, Independent, World, rates
from latent_assay.worlds.benchmark import synth_bench_firing

N_FEATURES, D_IN, BATCH = 16_384, 768, 1024
# rank and scale of the factor in SynthSAEBench
RANK, SCALE = 25, 0.1


def worlds() -> dict[str, World]:
    """Worlds that differ in how features fire, all else being equal.

    Base rates fall with the square root of the index from .4 to .0005, as in SynthSAEBench.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(N_FEATURES, D_IN, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    factor = SCALE * torch.randn(N_FEATURES, RANK, generator=generator, dtype=torch.float64)
    correlation = Correlation.low_rank(factor / factor.norm(dim=1, keepdim=True).clamp(min=1.0))
    base = rates.zipfian(N_FEATURES, exponent=0.5, highest=0.4, lowest=5e-4)
    laws = {
        "independent": Independent(rates=base),
        "hierarchy": synth_bench_firing(N_FEATURES),
        "low-rank copula": GaussianCopula(rates=base, correlation=correlation),
        "hierarchy and low-rank copula": synth_bench_firing(N_FEATURES, correlation=correlation),
    }
    magnitudes = FoldedNormal(mean=evenly(5.0, 4.0), sd=0.5)
    return {
        name: World(
            directions=directions, firing=law, magnitudes=magnitudes, bias=torch.full((D_IN,), 0.02)
        )
        for name, law in laws.items()
    }


def evenly(first: float, last: float) -> tuple[float, ...]:
    """Numbers on a straight line over the features."""
    return tuple(torch.linspace(first, last, N_FEATURES, dtype=torch.float64).tolist())


def cases() -> dict[str, Callable[[], int]]:
    """For each world a function that draws the next batch and returns how many samples it has."""

    def drawing(stream: Iterator[torch.Tensor]) -> Callable[[], int]:
        return lambda: len(next(stream))

    return {name: drawing(world.stream(BATCH, seeds=0)) for name, world in worlds().items()}


def main() -> None:
    """Print the best of ten batches of each case."""
    for name, draw in cases().items():
        draw()
        seconds, processor = [], []
        for _ in range(10):
            wall, cpu = time.perf_counter(), time.process_time()
            n = draw()
            seconds.append(time.perf_counter() - wall)
            processor.append(time.process_time() - cpu)
        print(
            f"{name:30s} {n / min(seconds):10,.0f} samples/s"
            f" {1e6 * min(processor) / n:8.1f} ms of processor time for 1,000 samples"
        )


if __name__ == "__main__":
    main()
