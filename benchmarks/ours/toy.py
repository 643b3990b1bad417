"""Ensembles on toy worlds, through `fit`."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.worker import Harness, calibrated
from latent_assay import World, fit, recipes
from latent_assay.batch import Batch
from latent_assay.population import minibatches
from latent_assay.worlds import Hierarchy, Independent, Normal, directions, presets, rates


def world(name: str) -> World:
    """The worlds of the cases; `benchmarks.peers.saelens_toy` has their like."""
    generator = torch.Generator().manual_seed(0)
    if name == "tiny, constant magnitudes":
        return presets.absorption(generator)
    if name == "tiny, random magnitudes":
        return World(
            directions=directions.orthonormal(4, 50, generator),
            firing=Hierarchy(parents=(None, 0, None, None), rates=(0.25, 0.2, 0.05, 0.05)),
            magnitudes=Normal(mean=1.0, sd=0.15),
        )
    if name == "fifty, independent":
        return World(
            directions=directions.orthonormal(50, 100, generator),
            firing=Independent(rates=rates.linear(50, first=0.3881, last=0.05)),
            magnitudes=Normal(mean=1.0, sd=0.15),
        )
    assert name == "fifty, correlated", name
    return presets.hedging_copula(generator)


def recipe(settings: dict[str, Any], d_in: int) -> recipes.Recipe:
    """The recipe that the settings name."""
    seeds = range(settings["members"])
    if settings["recipe"] == "relu_l1":
        return recipes.relu_l1(d_in=d_in, width=settings["width"], l1=settings["l1"], seeds=seeds)
    return recipes.batchtopk(d_in=d_in, width=settings["width"], k=settings["k"], seeds=seeds)


def batches(settings: dict[str, Any], made: World) -> Iterator[Batch]:
    """One stream for all members, or one for each."""
    seeds = list(range(settings["members"])) if settings["own_batches"] else 0
    if made.finite:
        return minibatches(made, settings["batch"], seeds=seeds)
    return made.stream(settings["batch"], seeds=seeds)


def main() -> None:
    harness = Harness()
    settings = harness.settings
    made = world(settings["world"])

    def run(steps: int) -> None:
        sae, objective, config = recipe(settings, made.d_in)
        stream = batches(settings, made)
        fit(sae, objective, stream, dataclasses.replace(config, steps=steps), progress=False)

    steps = calibrated(run, first=settings["first_steps"], seconds=settings["seconds"])
    harness.ready(steps_per_repetition=steps, threads=torch.get_num_threads())
    while harness.wait():
        start = time.perf_counter()
        run(steps)
        seconds = time.perf_counter() - start
        harness.report(samples_per_second=settings["members"] * settings["batch"] * steps / seconds)


if __name__ == "__main__":
    main()
