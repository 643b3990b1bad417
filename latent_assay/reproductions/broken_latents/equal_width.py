"""As many latents as features: the untied SAE absorbs, for the tied one the truth is cheapest."""

import math

import torch
from torch import Tensor

from latent_assay.initialisation import from_features
from latent_assay.recipes import Recipe, relu_l1, tied
from latent_assay.report import CosineMaps
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.experiment import (
    SEEDS,
    decoder_map,
    encoder_map,
    latent_of,
    picture,
    train,
)
from latent_assay.sae import SAE, stack
from latent_assay.theory import PairStates, tied_pair
from latent_assay.theory.prediction import expected_loss
from latent_assay.worlds import World, presets

L1 = 5e-3
TIED_SEEDS = range(8)
LR = 3e-3
STATES = PairStates(p11=0.05, p10=0.2)
"""Parent and child of `presets.absorption`."""


def _tied(quick: bool) -> Result:
    world = presets.absorption()
    random = tied(d_in=world.d_in, width=4, l1=L1, seeds=TIED_SEEDS, lr=LR)
    true_start = from_features(world.features)
    truth = tied(d_in=world.d_in, width=4, l1=L1, seeds=SEEDS, lr=LR, init=true_start)
    both = random._replace(sae=stack([random.sae, truth.sae]))
    sae = train(both, world, steps=4000 if quick else 10_000, exact=quick)
    n = len(TIED_SEEDS)
    found, stayed = sae.take(range(n)), sae.take(range(n, sae.members))

    loss, loss_truth = _loss(random, found, world), _loss(truth, stayed, world)
    recovered = worst_recovery(found, world)
    at_truth = int((recovered > 0.98).sum())
    best, worst = int(loss.argmin()), int(recovered.argmin())
    return Result(
        checks=(
            Check.near("L1 at the truth, parent and child", _pair_l1(0.0), 0.300, 5e-4),
            Check.near("L1 of the 45° pair", _pair_l1(math.pi / 4), 0.354, 5e-4),
            Check.near("barrier in degrees", math.degrees(tied_pair.barrier(STATES)), 33.7, 0.05),
            Check.near("loss where training began at the truth", loss_truth, 2.00e-3, 2e-5),
            Check.band(
                "lowest loss of 8 random starts minus loss of the truth",
                float(loss.min() - loss_truth.mean()),
                -2e-6,
                2e-6,
            ),
            Check.band(
                "worst |cosine| of a feature, start of lowest loss", recovered[best], 0.99, 1
            ),
            Check.band(
                "worst |cosine| of a feature, begun at the truth",
                worst_recovery(stayed, world),
                0.999,
                1,
            ),
        ),
        members=len(TIED_SEEDS),
        sections=(
            CosineMaps(
                title="The same tied SAE from two starts",
                maps=(
                    picture("lowest loss", found, world, member=best).arranged(),
                    picture("worst start", found, world, member=worst).arranged(),
                ),
                sentence="Both reconstruct; only the penalty tells them apart.",
            ),
        ),
        note=(
            f"Tied SAEs do not simply solve absorption: {at_truth} of 8 random starts end at the "
            f"truth (losses from {float(loss.min()):.5f} to {float(loss.max()):.5f}). The others "
            "end in the pair (parent ± child)/√2 beyond the barrier, or with a latent opposed to "
            "a feature. Truth is the solution of lowest loss, and stable."
        ),
    )


def _untied(quick: bool) -> Result:
    world = presets.absorption()
    recipe = relu_l1(d_in=world.d_in, width=4, l1=L1, seeds=SEEDS, lr=LR)
    sae = train(recipe, world, steps=5000 if quick else 15_000, exact=quick)
    decoder, encoder = decoder_map(sae, world), encoder_map(sae, world)
    row = torch.arange(sae.members)
    parent, child = latent_of(sae, world, 0), latent_of(sae, world, 1)
    others = decoder.abs().amax(1)[:, 2:].amin(1)
    return Result(
        checks=(
            Check.band("parent's encoder along the child", encoder[row, parent, 1], -1, -0.6),
            Check.band("child's decoder along the parent", decoder[row, child, 0], 0.65, 0.75),
            Check.band(
                "parent's decoder along the child (absolute)",
                decoder[row, parent, 1].abs(),
                0,
                0.02,
            ),
            Check.band("worse of the independent features", others, 0.99, 1),
        ),
        members=sae.members,
        sections=(
            CosineMaps(
                title="Untied SAE, as many latents as features",
                maps=(picture("untied", sae, world).arranged(),),
                sentence="The latent of feature 0 is switched off by feature 1, whose latent "
                "writes both.",
            ),
        ),
    )


def worst_recovery(sae: SAE, world: World) -> Tensor:
    """For each member, how well its worst feature is pointed at (or away from) by some latent."""
    return decoder_map(sae, world).abs().amax(1).amin(-1)


def _loss(recipe: Recipe, sae: SAE, world: World) -> Tensor:
    return expected_loss(world, sae, recipe.objective).total


def _pair_l1(angle: float) -> float:
    return float(tied_pair.l1(angle, STATES))


ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="004-recap-untied",
        source="004",
        title="Untied, as many latents as features: absorption",
        claim="With four features of which 1 fires only with 0, an untied L1 SAE of four latents "
        "learns 'feature 0 and not feature 1', and the sum of both for feature 1.",
        setup="50 dimensions; rates .25 and .05; λ = 5e-3, which the source does not state; Adam "
        "3e-3, falling to zero over the last quarter.",
        run=_untied,
    ),
    Entry(
        id="004-recap-tied",
        source="004",
        title="Tied, as many latents as features: truth is cheapest",
        claim="A tied SAE, whose encoder equals its decoder, recovers all four features.",
        setup="As 004-recap-untied; eight random starts, and six at the truth.",
        run=_tied,
        errors="The tied SAE is printed as σ(Wᵀx − b), which cannot be: b has d_in entries. "
        "Here z = σ(W(x − b)).",
    ),
)
