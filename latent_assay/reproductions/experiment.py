"""What the toy experiments share: how to train on a world, and what to read off afterwards."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.batch import Batch
from latent_assay.metrics import cosine_map, encoder_cosine_map, match
from latent_assay.population import minibatches, population
from latent_assay.recipes import Recipe
from latent_assay.report import CosineMap
from latent_assay.sae import SAE
from latent_assay.training import fit
from latent_assay.worlds import World

SEEDS = (0, 1, 2, 3, 4, 5)
"""Six members behind every number."""


def train(
    recipe: Recipe,
    world: World,
    *,
    steps: int,
    batch_size: int = 512,
    exact: bool = False,
    decay: float = 0.25,
    independent: bool = True,
) -> SAE:
    """Train a recipe's members on a world, and return the SAE in evaluation mode.

    **Arguments:**
    - `recipe`: what to train.
    - `world`: what to train on.
    - `steps`: optimiser steps.
    - `batch_size`: samples per step; drawn as counts of patterns where the world is finite.
    - `exact`: train on the expectation instead; the world must be finite.
    - `decay`: the part of the steps over which the learning rate falls to zero.
    - `independent`: whether every member has batches of its own.
    """
    sae, objective, config = recipe
    seeds = [1000 + member for member in range(sae.members)] if independent else 1000
    dtype = sae.W_enc.dtype
    batches: Iterator[Batch]
    if exact:
        batches = population(world, dtype=dtype)
    elif world.finite:
        batches = minibatches(world, batch_size, seeds=seeds, dtype=dtype)
    else:
        batches = world.stream(batch_size, seeds=seeds, dtype=dtype)
    config = replace(config, steps=steps, lr_decay_steps=round(decay * steps), log_every=steps)
    fit(sae, objective, batches, config, progress=False)
    return sae


def decoder_map(sae: SAE, world: World) -> Float[Tensor, "member latent feature"]:
    """Cosines of decoder rows with the true features."""
    return cosine_map(sae.W_dec.detach(), world.features.to(sae.W_dec))


def encoder_map(sae: SAE, world: World) -> Float[Tensor, "member latent feature"]:
    """Cosines of encoder rows, projected on the span of the features, with the true features."""
    return encoder_cosine_map(sae.W_enc.detach(), world.features.to(sae.W_enc))


def latent_of(sae: SAE, world: World, feature: int) -> list[int]:
    """For each member, the latent matched to a feature (by |cosine| of decoders); -1 if none."""
    matched = match(sae.W_dec.detach(), world.features.to(sae.W_dec), signed=False)
    return [int(each) for each in matched.latent[:, feature]]


def picture(name: str, sae: SAE, world: World, *, member: int = 0, sentence: str = "") -> CosineMap:
    """The maps of one member, for a report."""
    return CosineMap(
        name=name,
        decoder=decoder_map(sae, world)[member].numpy(),
        encoder=None if sae.tied else encoder_map(sae, world)[member].numpy(),
        sentence=sentence,
    )


@torch.no_grad()
def activations(sae: SAE, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "member batch latent"]:
    """Latent activations times the length of their decoder rows: how much each adds."""
    return sae.encode(x.to(sae.W_enc)) * sae.W_dec.norm(dim=-1).unsqueeze(1)
