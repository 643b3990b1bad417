"""Source 000, figure 10 and table 2: a parent whose magnitude varies."""

import torch

from latent_assay.report import CosineMaps
from latent_assay.reproductions.absorption.trained import (
    SETUP,
    activations_table,
    child_and_parent,
    cosine_at,
    train_toy,
)
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.experiment import (
    SEEDS,
    decoder_map,
    encoder_map,
    latent_of,
    picture,
)
from latent_assay.worlds import presets

TABLE_2 = (1.0, 0.9, 0.75)
"""Magnitudes of the parent in the source's table 2."""


def magnitude_variance(quick: bool) -> Result:
    """Figure 10 and table 2: the parent's magnitude varies, and absorption becomes partial."""
    world = presets.absorption(parent_sd=0.1)
    coefficients = (2.5e-3,)
    sae = train_toy(world, coefficients, steps=3_000 if quick else 10_000, exact=False)
    f = world.features
    child, parent = child_and_parent(sae, world, torch.stack([m * f[0] + f[1] for m in TABLE_2]))
    encoder = cosine_at(encoder_map(sae, world), latent_of(sae, world, 0), 1)
    decoder = cosine_at(decoder_map(sae, world), latent_of(sae, world, 1), 0)
    checks = (
        Check.band("parent's latent at f0 = 1, f1 = 1", parent[:, 0], 0.15, 0.30),
        Check.true(
            "parent's latent weaker at f0 = .9, in every member",
            bool((parent[:, 1] < parent[:, 0]).all()),
        ),
        Check.band("parent's latent at f0 = .75, f1 = 1", parent[:, 2], 0.0, 0.02),
        *(
            Check.near(f"child's latent at f0 = {m:g}, f1 = 1", child[:, i], 1.27, 0.05)
            for i, m in enumerate(TABLE_2)
        ),
        Check.band("parent's encoder · child", encoder, -1.0, -0.5),
        Check.band("child's decoder · parent", decoder, 0.5, 0.75),
    )
    sources = ((1.27, 0.22), (1.27, 0.12), (1.26, 0.0))
    table = activations_table(
        "Table 2 again", [f"f0 = {m:g}, f1 = 1" for m in TABLE_2], child, parent, sources
    )
    maps = CosineMaps(
        title="Figure 10 again",
        maps=(picture("λ = 0.0025", sae, world).arranged(),),
        features=("parent 0", "child 1", "2", "3"),
        sentence="The pattern of absorption remains when the parent's magnitude varies.",
    )
    return Result(checks=checks, members=len(SEEDS), sections=(table, maps))


ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="000-fig-10",
        source="000",
        title="A varying magnitude makes absorption partial",
        claim="If the parent's magnitude varies, its latent still fires weakly with the child, and "
        "falls silent as the parent weakens.",
        setup=SETUP
        + "P(1 | 0) = .2; magnitude of feature 0 from N(1, .1²), λ = 2.5e-3, sampled in "
        "batches of 512.",
        run=magnitude_variance,
        errors='The "variance" of .1 is a standard deviation. λ is not 3e-5 but as table 2 '
        "implies.",
    ),
)
