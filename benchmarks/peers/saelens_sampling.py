"""SAELens sampling a large world, as in its SynthSAEBench."""

import logging
import time
from collections.abc import Callable

import sae_lens
import torch
from sae_lens.synthetic import (
    HierarchyConfig,
    LinearMagnitudeConfig,
    LowRankCorrelationConfig,
    SyntheticModel,
    SyntheticModelConfig,
    ZipfianFiringProbabilityConfig,
)

from benchmarks.worker import Harness, fastest


def model(world: str) -> SyntheticModel:
    """A world of 16,384 features in 768 dimensions: independent, gated by parents, or coupled."""
    hierarchy = HierarchyConfig(
        total_root_nodes=128,
        branching_factor=4,
        max_depth=3,
        mutually_exclusive_portion=1.0,
        compensate_probabilities=True,
        scale_children_by_parent=True,
    )
    correlation = LowRankCorrelationConfig(rank=25, correlation_scale=0.1)
    return SyntheticModel(
        SyntheticModelConfig(
            num_features=16_384,
            hidden_dim=768,
            firing_probability=ZipfianFiringProbabilityConfig(
                exponent=0.5, max_prob=0.4, min_prob=5e-4
            ),
            hierarchy=hierarchy if "hierarchy" in world else None,
            correlation=correlation if "copula" in world else None,
            # directions do not matter for the time: none are searched for
            orthogonalization=None,
            std_firing_magnitudes=0.5,
            mean_firing_magnitudes=LinearMagnitudeConfig(start=5.0, end=4.0),
            bias=0.5,
            seed=42,
        )
    )


def main() -> None:
    logging.disable(logging.WARNING)
    harness = Harness()
    settings = harness.settings
    made, batch = model(settings["world"]), settings["batch"]

    def with_tensors(sparse: bool) -> Callable[[], None]:
        def run() -> None:
            made.use_sparse_tensors = sparse
            made.sample(batch)

        return run

    variant = fastest({"dense": with_tensors(False), "sparse": with_tensors(True)})
    run = with_tensors(variant == "sparse")
    start = time.perf_counter()
    run()
    rounds = max(1, round(settings["seconds"] / (time.perf_counter() - start)))
    features = made.activation_generator.sample(batch)
    harness.ready(
        rounds_per_repetition=rounds,
        variant=variant,
        threads=torch.get_num_threads(),
        version=sae_lens.__version__,
        torch=torch.__version__,
        l0=float((features.to_dense() > 0).sum(1).float().mean()),
    )
    while harness.wait():
        start = time.perf_counter()
        for _ in range(rounds):
            run()
        seconds = time.perf_counter() - start
        harness.report(samples_per_second=rounds * batch / seconds)


if __name__ == "__main__":
    main()
