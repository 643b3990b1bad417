"""Members of one ensemble that each live in a world of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from latent_assay.batch import WeightedBatch
from latent_assay.recipes import Recipe
from latent_assay.sae import SAE
from latent_assay.training import fit
from latent_assay.worlds import World


class MemberWorlds(Iterator[WeightedBatch]):
    """An endless iterator over batches in which every member has patterns of its own.

    With a batch size, a member's weights are the counts of its patterns in so many samples, drawn
    from the multinomial distribution; without, they are the probabilities themselves. Worlds with
    fewer patterns than others are padded with patterns that never occur.

    **Arguments:**
    - `worlds`: a finite world for each member, all with the same d_in.
    - `batch_size`: samples in a batch, or None.
    - `seed`: of the counts.
    """

    def __init__(
        self,
        worlds: Sequence[World],
        *,
        batch_size: int | None,
        seed: int = 1000,
        dtype: torch.dtype = torch.float32,
    ):
        found = [world.enumerate(dtype=torch.float64) for world in worlds]
        most = max(len(each.probability) for each in found)
        x = [F.pad(each.x, [0, 0, 0, most - len(each.x)]) for each in found]
        chances = [F.pad(each.probability, [0, most - len(each.x)]) for each in found]
        self.x = torch.stack(x).to(dtype)
        self.probability = torch.stack(chances)
        self.batch_size = batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __next__(self) -> WeightedBatch:
        """Every member's patterns, with the share of the batch that each makes up."""
        if self.batch_size is None:
            return WeightedBatch(self.x, self.probability.to(self.x.dtype))
        drawn = self.probability.multinomial(
            self.batch_size, replacement=True, generator=self.generator
        )
        share = torch.full(drawn.shape, 1 / self.batch_size, dtype=self.x.dtype)
        weight = torch.zeros_like(self.probability, dtype=self.x.dtype)
        return WeightedBatch(self.x, weight.scatter_add_(1, drawn, share), self.batch_size)


def train_in(
    worlds: Sequence[World],
    recipe: Recipe,
    *,
    steps: int,
    exact: bool,
    batch_size: int = 512,
    decay: float = 0.25,
) -> SAE:
    """Train every member in its world, and return the SAE in evaluation mode.

    Like `experiment.train`, except that members differ in their world.

    **Arguments:**
    - `worlds`: one for each member.
    - `recipe`: what to train.
    - `steps`: optimiser steps.
    - `exact`: whether to train on the expectation instead of batches.
    - `batch_size`: samples per step otherwise.
    - `decay`: the part of the steps over which the learning rate falls to zero.
    """
    sae, objective, config = recipe
    batches = MemberWorlds(worlds, batch_size=None if exact else batch_size, dtype=sae.W_enc.dtype)
    config = replace(config, steps=steps, lr_decay_steps=round(decay * steps), log_every=steps)
    fit(sae, objective, batches, config, progress=False)
    return sae


def hastened(recipe: Recipe, *, warm_up: int = 0) -> Recipe:
    r"""The recipe with a shorter memory of squared gradients, $\beta_2 = .99$.

    A toy SAE meets large gradients while it finds its features and tiny ones while a small penalty
    pulls it towards absorption. With the usual .999 the former slow down the latter for thousands
    of steps. Where training ends does not depend on it.

    **Arguments:**
    - `recipe`: what to train.
    - `warm_up`: steps over which the learning rate rises. Without, latents that begin short and at
      random can be thrown out of reach of every feature at a high rate.
    """
    config = replace(recipe.config, betas=(0.9, 0.99), lr_warm_up_steps=warm_up)
    return recipe._replace(config=config)
