"""A world whose labels are the firing of its features, and SAEs of three qualities for it."""

import dataclasses
import functools

import torch

from latent_assay import baselines, fit, recipes
from latent_assay.evals.labelled import Labelled
from latent_assay.sae import SAE
from latent_assay.worlds import presets

WORLD = presets.hierarchical_demo()


@functools.cache
def saes() -> dict[str, SAE]:
    """Oracle, an SAE that is trained but too narrow, and random directions of the same size."""
    width = 10
    recipe = recipes.topk(d_in=32, width=width, k=2, seeds=[0], lr=3e-3)
    config = dataclasses.replace(recipe.config, steps=400)
    fit(recipe.sae, recipe.objective, WORLD.stream(256), config, progress=False)
    x = WORLD.sample(2000, torch.Generator().manual_seed(5)).x
    return {
        "oracle": baselines.oracle(WORLD),
        "trained": recipe.sae.exported(),
        "random": baselines.random_dictionary(x, width=width, l0=2.0, seeds=[3]),
    }


@functools.cache
def data(n: int = 800) -> Labelled:
    sample = WORLD.sample(n, torch.Generator().manual_seed(1))
    return Labelled(x=sample.x, labels=sample.firing, tasks=[f"feature {i}" for i in range(16)])
