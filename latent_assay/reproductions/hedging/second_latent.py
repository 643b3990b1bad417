"""Figures 1 and 13: what a second latent changes."""

from latent_assay.reproductions.entry import Entry, Result
from latent_assay.reproductions.experiment import SEEDS
from latent_assay.reproductions.hedging.every_member import every
from latent_assay.reproductions.hedging.two_features import (
    NOISY,
    SETUP,
    Panel,
    maps_of,
    train_panels,
    vectors_of,
    worlds,
)


def _figure_1(quick: bool) -> Result:
    world = worlds()["hierarchical"]
    panels = (
        Panel(world=world, latents=1, l1=1e-3, noise=0.0),
        Panel(world=world, latents=2, l1=1e-3, noise=0.1),
    )
    narrow, full = train_panels(panels, seeds=SEEDS, steps=4000 if quick else 12_000, quick=quick)
    checks = (
        every("1 latent: decoder along the child f2", narrow.decoder[:, 0, 1], 0.226, 0.266),
        every("1 latent: encoder along f2", narrow.encoder[:, 0, 1], 0.2, 0.266),
        every("2 latents: decoder of l1 along f1", full.decoder[:, 0, 0], 0.99, 1.0),
        every("2 latents: |decoder of l1| along f2", full.decoder[:, 0, 1].abs(), 0.0, 0.02),
        every("2 latents: encoder of l1 along f2", full.encoder[:, 0, 1], -0.75, -0.6),
        every("2 latents: decoder of l2 along f1", full.decoder[:, 1, 0], 0.65, 0.75),
        every("2 latents: encoder of l2 along f2", full.encoder[:, 1, 1], 0.98, 1.0),
    )
    readings = {"(a) 1 latent": narrow, "(b) 2 latents": full}
    sentence = "Hedging is symmetric, absorption is not; first member."
    return Result(
        checks=checks,
        members=len(SEEDS),
        sections=(maps_of(readings, panels, sentence), vectors_of(readings)),
        note="The single latent begins exactly at f1, so that on the expectation (quick mode) its "
        "members are equal." if quick else "",
    )  # fmt: skip


def _figure_13(quick: bool) -> Result:
    each_world = worlds()
    panels = (
        Panel(world=each_world["positive"], latents=2, l1=1e-3, noise=0.25),
        Panel(world=each_world["anti-correlated"], latents=2, l1=2e-2, noise=0.25),
    )
    found = train_panels(panels, seeds=SEEDS, steps=3000 if quick else 10_000, quick=quick)
    readings = dict(zip(("(a) positive", "(b) anti-correlated"), found, strict=True))
    checks = []
    for name, reading in readings.items():
        own = reading.decoder.diagonal(dim1=1, dim2=2)
        checks += [
            every(f"{name}: decoder cosine of both latents with their features", own, 0.99, 1.0),
            every(f"{name}: |encoder of l1| along f2", reading.encoder[:, 0, 1].abs(), 0.0, 0.1),
        ]
    return Result(
        checks=tuple(checks),
        members=len(SEEDS),
        sections=(maps_of(readings, panels, "First member of each panel."),),
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="002-fig-1",
        source="002",
        title="One latent hedges, two absorb",
        claim="Of a parent and its child, a single latent learns a mixture, alike in encoder and "
        "decoder (hedging). With two latents the parent's decoder is right but its encoder turns "
        "off on the child, whose decoder contains the parent (absorption).",
        setup=SETUP.format(
            world="f2 fires with probability .2 when f1 does, and never without it.",
            l1=".001",
            init="One latent begins at f1; two begin at the features plus noise of .1.",
            batches="12,000",
            exact="4,000",
            seeds="Six seeds.",
        ),
        run=_figure_1,
        errors="The caption has the implication the wrong way round: a child implies its parent, "
        "so f2 ⟹ f1.",
    ),
    Entry(
        id="002-fig-13",
        source="002",
        title="Two latents learn correlated features",
        claim="At full width an SAE recovers both features in spite of their correlation, positive "
        "or negative, and of a low penalty: hedging comes from too small a width.",
        setup=SETUP.format(
            world="Positive: P(f2 | f1) = .2, else .1. Anti-correlated: .1 and .2.",
            l1=".001 (anti-correlated: .02)",
            init=NOISY,
            batches="10,000",
            exact="3,000",
            seeds="Six seeds for each panel.",
        ),
        run=_figure_13,
    ),
)
