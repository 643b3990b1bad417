"""Twenty features for five latents: how such SAEs are trained, and what a linear one must find.

The world has 2^20 patterns, too many to train on its expectation, so it is sampled.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.recipes import relu_l1, tied, tied_orthogonal
from latent_assay.reproductions.experiment import SEEDS
from latent_assay.sae import SAE
from latent_assay.training import fit
from latent_assay.worlds import Stream, World, presets

WIDTH = 5
CHILDREN = (5, 7)
L1 = 5e-3
"""The penalty of tied SAEs, in superposition twice that."""
LR, CURE_LR = 1e-2, 3e-3


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a training."""

    steps: int
    """Optimiser steps."""
    batch_size: int
    """Samples per step."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long trainings take."""

    plain: Phase
    """A tied SAE without the activation-orthogonality loss."""
    superposed: Phase
    """The same in superposition, where a member may begin with feature 9 for 3. That is worse, but
    hardly, so that in the noise of small batches it takes long to let go of it."""
    untied: Phase
    """An untied SAE."""
    ramp: int
    """Steps while loss and threshold rise."""
    cure: Phase
    """All steps with the loss, those included."""
    shared: bool
    """Whether all members see the same samples, which is faster; they begin differently."""


QUICK = Schedule(
    plain=Phase(steps=2400, batch_size=512),
    superposed=Phase(steps=2400, batch_size=2048),
    untied=Phase(steps=6000, batch_size=256),
    ramp=1000,
    cure=Phase(steps=1600, batch_size=128),
    shared=True,
)
FULL = Schedule(
    plain=Phase(steps=10_000, batch_size=512),
    superposed=Phase(steps=5000, batch_size=2048),
    untied=Phase(steps=12_000, batch_size=256),
    ramp=6000,
    cure=Phase(steps=10_000, batch_size=256),
    shared=False,
)


def schedule(quick: bool) -> Schedule:
    """The shorter or the longer one."""
    return QUICK if quick else FULL


@cache
def world_with(parent: int | None, d_in: int = 50) -> World:
    """The world of 20 features, in which 5 and 7 switch a parent on, or none."""
    return presets.broken_latents(parent=parent, d_in=d_in)


def trained(
    parent: int | None, quick: bool, *, d_in: int = 50, l1: float = L1, untied: bool = False
) -> SAE:
    """Six SAEs of five latents; several entries look at the same ones, so they are kept.

    **Arguments:**
    - `parent`: see `world_with`.
    - `quick`: how long to train.
    - `d_in`: dimensions.
    - `l1`: the penalty.
    - `untied`: encoder and decoder on their own.
    """
    return _trained(parent, quick, d_in, l1, untied)


@cache  # behind a function without defaults, as equal calls must look equal
def _trained(parent: int | None, quick: bool, d_in: int, l1: float, untied: bool) -> SAE:
    plan = schedule(quick)
    make = relu_l1 if untied else tied
    sae, objective, config = make(d_in=d_in, width=WIDTH, l1=l1, seeds=SEEDS, lr=LR)
    phase = plan.untied if untied else plan.superposed if d_in < 20 else plan.plain
    batches = _batches(world_with(parent, d_in), phase, first_seed=1000, shared=plan.shared)
    decay = round(0.6 * phase.steps)
    config = replace(config, steps=phase.steps, lr_decay_steps=decay, log_every=phase.steps)
    fit(sae, objective, batches, config, progress=False)
    return sae


def cured(parent: int, quick: bool, *, d_in: int = 50, l1: float = L1) -> SAE:
    """`trained`, then with the activation-orthogonality loss: it rises, and stays.

    **Arguments:** as `trained`.
    """
    return _cured(parent, quick, d_in, l1)


@cache
def _cured(parent: int, quick: bool, d_in: int, l1: float) -> SAE:
    plan = schedule(quick)
    sae = deepcopy(trained(parent, quick, d_in=d_in, l1=l1))
    _, objective, config = tied_orthogonal(
        d_in=d_in,
        width=WIDTH,
        l1=l1,
        seeds=SEEDS,
        lr=CURE_LR,
        delay_samples=0,
        warm_up_samples=plan.ramp * plan.cure.batch_size,
    )
    steps = plan.cure.steps
    batches = _batches(world_with(parent, d_in), plan.cure, first_seed=2000, shared=plan.shared)
    config = replace(config, steps=steps, lr_decay_steps=steps - plan.ramp, log_every=steps)
    fit(sae, objective, batches, config, progress=False)
    return sae


def _batches(world: World, phase: Phase, *, first_seed: int, shared: bool) -> Stream:
    seeds = first_seed if shared else range(first_seed, first_seed + len(SEEDS))
    return world.stream(phase.batch_size, seeds=seeds)


def magnitudes(world: World) -> Float64[Tensor, " feature"]:
    """How strongly each feature fires."""
    return world.magnitudes.constants(world.n_features).double()


def rates(world: World) -> Float64[Tensor, " feature"]:
    """How often each feature fires, whatever switches it on."""
    marginals = world.firing.marginals
    assert marginals is not None
    return marginals


def covariance(world: World) -> Float64[Tensor, "feature feature"]:
    r"""Covariance of the features' magnitudes $a_i m_i$, in closed form.

    Features are independent, but a child is silent whenever its parent is:
    $\mathrm{Cov}(a_c, a_p) = p_c (1 - p_p)$.
    """
    p, m = rates(world), magnitudes(world)
    firing = torch.diag(p * (1 - p))
    for child, parent in enumerate(world.parents):
        if parent is not None:
            firing[child, parent] = firing[parent, child] = p[child] * (1 - p[parent])
    return m.unsqueeze(-1) * firing * m


def principal_directions(world: World, count: int = WIDTH) -> Float64[Tensor, "count d_in"]:
    r"""What a *linear* autoencoder finds: the directions of largest variance.

    A tied SAE whose latents always fire is linear, $\hat x = W^\top W (x - b) + b$. Its squared
    error is least when its rows are orthonormal and span the leading eigenvectors of the
    covariance $F^\top C F$, in any rotation.
    """
    features = world.features.double()
    vectors = torch.linalg.eigh(features.mT @ covariance(world) @ features).eigenvectors
    return vectors[:, -count:].mT


def within(
    decoder: Float[Tensor, "member latent d_in"], directions: Float64[Tensor, "count d_in"]
) -> Float64[Tensor, "member latent"]:
    """The share of each row's squared length that lies in the span of orthonormal directions."""
    rows = decoder.detach().double()
    return (rows @ directions.mT).square().sum(-1) / rows.square().sum(-1)
