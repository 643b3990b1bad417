"""A single latent mixes a parent with its children, and so does the first of a matryoshka SAE."""

import torch
from torch import Tensor

from latent_assay.recipes import matryoshka, relu_l1, tied
from latent_assay.report import CosineMaps
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.experiment import (
    SEEDS,
    activations,
    decoder_map,
    encoder_map,
    picture,
    train,
)
from latent_assay.sae import SAE
from latent_assay.worlds import World, presets

L1 = 5e-3
LR = 3e-3
MIXTURE = (0.80, 0.425, 0.425, 0.0)


def leading_direction(world: World) -> Tensor:
    """The direction of largest variance of a finite world, as cosines with orthonormal features."""
    states = world.enumerate(dtype=torch.float64)
    mean = states.probability @ states.magnitudes
    centred = states.magnitudes - mean
    covariance = centred.mT @ (states.probability.unsqueeze(-1) * centred)
    vector = torch.linalg.eigh(covariance).eigenvectors[:, -1]
    return vector * vector.sum().sign()


def _single(quick: bool) -> Result:
    world = presets.single_latent()
    steps = 2000 if quick else 6000
    saes = {
        "untied": train(
            relu_l1(d_in=world.d_in, width=1, l1=L1, seeds=SEEDS, lr=LR),
            world, steps=steps, exact=quick,
        ),
        "tied": train(
            tied(d_in=world.d_in, width=1, l1=L1, seeds=SEEDS, lr=LR),
            world, steps=steps, exact=quick,
        ),
    }  # fmt: skip
    checks = [
        Check.near(f"direction of largest variance, feature {i}", float(each), MIXTURE[i], 0.005)
        for i, each in enumerate(leading_direction(world))
    ]
    alive = {name: _alive(sae, world) for name, sae in saes.items()}
    for name, sae in saes.items():
        found = decoder_map(sae, world)[alive[name], 0]
        checks += [
            Check.near(f"{name}: decoder along feature {i}", found[:, i], MIXTURE[i], 0.02)
            for i in range(4)
        ]
        bias = sae.b_dec.detach().double() @ world.features.double()[3]
        checks.append(Check.near(f"{name}: bias along feature 3", bias[alive[name]], 0.2, 0.02))
        checks.append(
            Check.band(f"{name}: members whose latent lives", float(alive[name].sum()), 5, 6)
        )
    difference = (encoder_map(saes["untied"], world) - decoder_map(saes["untied"], world)).abs()
    checks.append(
        Check.band(
            "untied: encoder minus decoder (largest)",
            difference.amax((1, 2))[alive["untied"]],
            0,
            0.02,
        )
    )
    dead = int((~alive["untied"]).sum())
    shown = int(alive["untied"].nonzero()[0])
    return Result(
        checks=tuple(checks),
        members=len(SEEDS),
        sections=(
            CosineMaps(
                title="A single latent for a parent and two children",
                maps=(
                    picture("untied", saes["untied"], world, member=shown),
                    picture("tied", saes["tied"], world),
                ),
            ),
        ),
        note="The mixture is the direction of largest variance."
        + (f" {dead} untied member began opposed to every feature and never fired; left out."
           if dead else ""),
    )  # fmt: skip


def _matryoshka(quick: bool) -> Result:
    world = presets.single_latent()
    recipe = matryoshka(d_in=world.d_in, width=4, levels=(1, 4), l1=L1, seeds=SEEDS, lr=LR)
    sae = train(recipe, world, steps=3000 if quick else 12_000, exact=quick)
    first = decoder_map(sae, world)[:, 0]
    return Result(
        checks=(
            Check.band("first latent along the parent", first[:, 0], 0.7, 0.9),
            Check.band("first latent along the worse child", first[:, 1:3].amin(-1), 0.2, 0.6),
            Check.band("first latent along the better child", first[:, 1:3].amax(-1), 0.2, 0.6),
            Check.band("first latent along feature 3 (absolute)", first[:, 3].abs(), 0, 0.2),
        ),
        members=sae.members,
        sections=(
            CosineMaps(
                title="A matryoshka SAE with levels of 1 and 4 latents",
                maps=(picture("matryoshka", sae, world),),
                sentence="Latent 0 must reconstruct alone, and mixes the parent with its children.",
            ),
        ),
        note="The later latents then have to undo it: they are not the features either.",
    )


def _alive(sae: SAE, world: World) -> Tensor:
    """Which members' only latent fires on something."""
    return activations(sae, world.enumerate().x).amax((1, 2)) > 0


_SETUP = (
    "Four features in 50 dimensions: P(0) = .3, P(1 | 0) = P(2 | 0) = .4, P(3) = .2; "
    "λ = 5e-3 (not stated in the source); Adam 3e-3."
)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="004-single-latent",
        source="004",
        title="A single latent mixes a parent with its children",
        claim="An SAE of one latent represents parent 0 with children 1 and 2 merged in and "
        "excludes 3; encoder and decoder agree, tied and untied alike.",
        setup=_SETUP,
        run=_single,
    ),
    Entry(
        id="004-matryoshka",
        source="004",
        title="A matryoshka SAE's first latent is such a mixture",
        claim="A narrow SAE does not learn the parent alone, so neither do the first latents of a "
        "matryoshka SAE.",
        setup=f"{_SETUP} Untied, levels of 1 and 4 latents with coefficient 1. The source argues "
        "from the single latent and trains none.",
        run=_matryoshka,
    ),
)
