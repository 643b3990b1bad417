"""SAELens on toy worlds, through its `train_toy_sae`."""

import time
from typing import Any

import sae_lens
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
)
from sae_lens.synthetic import (
    ActivationGenerator,
    FeatureDictionary,
    HierarchyNode,
    generate_random_correlation_matrix,
    hierarchy_modifier,
    train_toy_sae,
)

from benchmarks.threads import use_best
from benchmarks.worker import Harness, calibrated


def world(name: str) -> tuple[FeatureDictionary, ActivationGenerator]:
    """The worlds of the cases; `benchmarks.ours.toy` has their like."""
    if name.startswith("tiny"):
        child = HierarchyNode(feature_index=1)
        generator = ActivationGenerator(
            num_features=4,
            firing_probabilities=torch.tensor([0.25, 0.2, 0.05, 0.05]),
            std_firing_magnitudes=0.15 if name == "tiny, random magnitudes" else 0.0,
            modify_activations=hierarchy_modifier([HierarchyNode(0, children=[child])]),
        )
        return FeatureDictionary(4, 50, seed=0), generator
    correlated = name == "fifty, correlated"
    generator = ActivationGenerator(
        num_features=50,
        firing_probabilities=torch.linspace(0.3881, 0.05, 50),
        std_firing_magnitudes=0.15,
        correlation_matrix=generate_random_correlation_matrix(50, seed=0) if correlated else None,
    )
    return FeatureDictionary(50, 100, seed=0), generator


def training_sae(settings: dict[str, Any], d_in: int) -> Any:
    """An SAE of the kind that the settings name."""
    if settings["recipe"] == "relu_l1":
        return StandardTrainingSAE(
            StandardTrainingSAEConfig(
                d_in=d_in, d_sae=settings["width"], l1_coefficient=settings["l1"]
            )
        )
    return BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(d_in=d_in, d_sae=settings["width"], k=settings["k"])
    )


def main() -> None:
    harness = Harness()
    settings = harness.settings
    dictionary, generator = world(settings["world"])
    batch = settings["batch"]

    def run(steps: int) -> None:
        sae = training_sae(settings, dictionary.hidden_dim)
        train_toy_sae(sae, dictionary, generator, training_samples=steps * batch, batch_size=batch)

    first = settings["first_steps"]
    threads = use_best(lambda: run(first))
    steps = calibrated(run, first=first, seconds=settings["seconds"])
    harness.ready(
        steps_per_repetition=steps,
        threads=threads,
        version=sae_lens.__version__,
        torch=torch.__version__,
    )
    while harness.wait():
        start = time.perf_counter()
        run(steps)
        harness.report(samples_per_second=batch * steps / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
