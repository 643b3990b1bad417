"""Sampling of large worlds; `benchmarks.world_sampling` says of which."""

import time

import torch

from benchmarks import world_sampling
from benchmarks.worker import Harness


def main() -> None:
    harness = Harness()
    draw = world_sampling.cases()[harness.settings["world"]]
    draw()
    start = time.perf_counter()
    draw()
    rounds = max(1, round(harness.settings["seconds"] / (time.perf_counter() - start)))
    sample = world_sampling.worlds()[harness.settings["world"]].sample(
        harness.settings["batch"], torch.Generator().manual_seed(1)
    )
    l0 = float(sample.firing.sum(1).float().mean())
    harness.ready(rounds_per_repetition=rounds, threads=torch.get_num_threads(), l0=l0)
    while harness.wait():
        start = time.perf_counter()
        samples = sum(draw() for _ in range(rounds))
        harness.report(samples_per_second=samples / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
