"""Sampling of large worlds; `benchmarks.world_sampling` says of which."""

import time
from collections.abc import Callable

import torch
from torch.nn.functional import embedding_bag

from benchmarks import world_sampling
from benchmarks.worker import Harness
from latent_assay.worlds import GaussianCopula, World


def copula_floor(world: World, batch: int) -> Callable[[], None]:
    """What no exact sampler of a copula can leave out that draws its shared part.

    A product, a comparison for every feature of every sample, and the sum of the directions that
    fire: without a single random number of the features' own.
    """
    law = world.firing
    assert isinstance(law, GaussianCopula)
    generator = torch.Generator().manual_seed(2)
    factor = law.correlation.factor.T.contiguous().float()
    limit = (-torch.special.ndtri(law.marginals)).float()
    firing = law.sample_sparse(batch, generator)
    shared = torch.randn(batch, factor.shape[0], generator=generator)
    rows = 2**20 // factor.shape[1]
    means = torch.empty(rows, factor.shape[1])
    above = torch.empty(rows, factor.shape[1], dtype=torch.bool)

    def run() -> None:
        for start in range(0, batch, rows):
            torch.mm(shared[start : start + rows], factor, out=means)
            torch.gt(means, limit, out=above)
        embedding_bag(
            firing.features, world.directions, firing.starts, mode="sum", include_last_offset=True
        )

    return run


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
    floor = None
    if harness.settings["world"] == "low-rank copula":
        floor = copula_floor(world_sampling.worlds()["low-rank copula"], harness.settings["batch"])
        floor()
    harness.ready(rounds_per_repetition=rounds, threads=torch.get_num_threads(), l0=l0)
    while harness.wait():
        start = time.perf_counter()
        samples = sum(draw() for _ in range(rounds))
        numbers = {"samples_per_second": samples / (time.perf_counter() - start)}
        if floor is not None:
            start = time.perf_counter()
            for _ in range(rounds):
                floor()
            numbers["floor"] = samples / (time.perf_counter() - start)
        harness.report(**numbers)


if __name__ == "__main__":
    main()
