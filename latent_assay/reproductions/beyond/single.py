"""A single latent cured of its children: the inverse of the source's cure."""

import math

import torch

from latent_assay.losses import Lp, Objective, Ramp, SquaredError, TwoPeaks
from latent_assay.recipes import Recipe, tied
from latent_assay.report import CosineMaps
from latent_assay.reproductions.beyond.kept import between
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.experiment import (
    SEEDS,
    decoder_map,
    encoder_map,
    picture,
    train,
)
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.training import TrainingConfig
from latent_assay.worlds import presets

COEFFICIENT = 30.0


def _run(quick: bool) -> Result:
    world = presets.single_latent()
    steps = 2_000 if quick else 10_000
    ramp = Ramp(delay=steps // 3, length=steps // 6)

    def cured(recipe: Recipe) -> Recipe:
        term = TwoPeaks(COEFFICIENT, ramp=ramp)
        return recipe._replace(objective=Objective([*recipe.objective.terms, term]))

    plain_tied = tied(d_in=world.d_in, width=1, seeds=SEEDS, lr=3e-3)
    before = train(plain_tied, world, steps=steps, exact=quick)
    after = train(
        cured(tied(d_in=world.d_in, width=1, seeds=SEEDS, lr=3e-3)), world, steps=steps, exact=quick
    )
    untied = train(cured(_untied(before)), world, steps=steps, exact=quick)
    mixed, clean = decoder_map(before, world)[:, 0], decoder_map(after, world)[:, 0]
    x = world.enumerate(dtype=torch.float64)
    with torch.no_grad():
        z = after.encode(x.x.to(after.W_enc))[:, :, 0]
    fires = x.firing[:, 0]
    strength = z[:, fires]
    low, high = between(
        parent_rate=0.3,
        given=0.64,
        parent_peak=float(mixed[:, 0].mean()),
        child_step=float(mixed[:, 1].mean()) * 1.25,
    )
    checks = (
        Check.near("without the cure: cosine with the parent", mixed[:, 0], 0.80, 0.02),
        Check.band("tied: cosine with the parent", clean[:, 0], 0.98, 1.0),
        Check.true("tied: every member at least .98", bool((clean[:, 0] >= 0.98).all())),
        Check.band(
            "tied: largest |cosine| with a child", clean[:, 1:].abs().amax(-1), 0.0, 0.03
        ),
        Check.band(
            "spread of the activations at which it fires, over their mean",
            strength.std(-1) / strength.mean(-1), 0.0, 0.03,
        ),
        Check.band(
            "silent when the parent is: largest activation", z[:, ~fires].amax(-1), 0.0, 0.01,
        ),
        Check.band(
            "untied: encoder's cosine with the parent", encoder_map(untied, world)[:, 0, 0],
            0.98, 1.0,
        ),
        Check.band(
            "untied: decoder's cosine with the parent, at most that of the regression",
            decoder_map(untied, world)[:, 0, 0], 0.0, 1 / math.sqrt(1 + 2 * 0.4**2) + 0.01,
        ),
    )  # fmt: skip
    maps = CosineMaps(
        title="A single latent, with and without the cure",
        maps=(
            picture("tied", before, world),
            picture("tied, two peaks", after, world),
            picture("untied, two peaks", untied, world),
        ),
        features=("parent", "child", "child", "independent"),
        sentence="Feature 0 is the parent of 1 and 2.",
    )
    note = (
        "The mixed latent's activations have peaks at silence, the parent alone, with one "
        "child and "
        "with both. Of all cuts the one between silence and the rest explains most variance "
        f"({low:.2f} against {high:.2f} above the parent alone), so the latent is made to fire "
        "equally whenever the parent fires, for which it must be at right angles to both "
        "children. A "
        "tied SAE's decoder follows. An untied one's does not: its encoder becomes the parent, "
        "while the "
        "best decoder for a latent that fires with the parent is the regression f0 + .4 (f1 + "
        "f2), at "
        "cosine .87. From the mixed latent it ends lower still, as the encoder bias sinks to just "
        "above silence and the decoder grows, which magnifies what is left of the children. "
        "This loss "
        "cures tied SAEs only."
    )
    return Result(checks=checks, members=len(SEEDS), sections=(maps,), note=note)


def _untied(start: SAE) -> Recipe:
    """An untied SAE that begins at the mixed latent; from random starts one in six is dead."""
    sae = SAE(
        start.W_enc.detach().clone(),
        start.W_dec.detach().clone(),
        b_dec=start.b_dec.detach().clone(),
        sparsifier=ReLU(),
    )
    return Recipe(sae, Objective([SquaredError(), Lp(5e-3)]), TrainingConfig(lr=3e-3))


ENTRY = Entry(
    id="beyond-single-latent-cure",
    source="beyond",
    title="The cure for a single latent",
    claim=(
        "Broken Latents leaves open how a single latent could be kept from mixing a parent "
        "with its "
        "children, as that needs the location of its activation peaks. A mixture of two peaks, off "
        "and on, fitted to the latent's own pre-activations finds it, and the latent becomes the "
        "parent."
    ),
    setup=(
        "Parent at rate .3, two children at .4 given the parent, a feature at .2; tied SAE "
        "with one "
        f"latent, L1 coefficient 5e-3, then the two-peaks loss with coefficient {COEFFICIENT:g}."
    ),
    run=_run,
)
