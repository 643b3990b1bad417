"""SAEs of one or two latents on two features, side by side in one ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.initialisation import from_features
from latent_assay.recipes import relu_l1
from latent_assay.report import (
    Cell,
    CosineMaps,
    MetricsTable,
    Row,
)
from latent_assay.reproductions.columns import column
from latent_assay.reproductions.experiment import decoder_map, encoder_map, picture
from latent_assay.reproductions.hedging.member_worlds import hastened, train_in
from latent_assay.sae import SAE
from latent_assay.worlds import World, presets


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """SAEs that differ in their seed only."""

    world: World
    """What they are trained on."""
    latents: int
    """Their width."""
    l1: float
    """Their penalty."""
    noise: float
    """Standard deviation, on every coordinate, of their start around the features."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What the members of a panel learned."""

    sae: SAE
    """The SAEs."""
    decoder: Float64[Tensor, "member latent feature"]
    """Cosines of decoder rows."""
    encoder: Float64[Tensor, "member latent feature"]
    """Cosines of encoder rows, within the span of the features."""
    bias: Float[Tensor, "member feature"]
    """The decoder bias along each feature."""


def train_panels(
    panels: Sequence[Panel], *, seeds: Sequence[int], steps: int, quick: bool
) -> list[Reading]:
    """Train all panels as one ensemble.

    **Arguments:**
    - `panels`: what to train; their worlds must have the same directions.
    - `seeds`: of the members of each panel.
    - `steps`: optimiser steps.
    - `quick`: whether to train on the expectation.
    """
    of_member = [panel for panel in panels for _ in seeds]
    features = of_member[0].world.features
    noise = iter([panel.noise for panel in of_member])
    recipe = relu_l1(
        d_in=features.shape[1],
        width=[panel.latents for panel in of_member],
        l1=[panel.l1 for panel in of_member],
        seeds=[*seeds] * len(panels),
        lr=3e-3 if quick else 1e-3,
        # members begin one after the other, each with the noise of its panel
        init=lambda generator, width, d_in: from_features(features, next(noise))(
            generator, width, d_in
        ),
    )
    worlds = [panel.world for panel in of_member]
    sae = train_in(worlds, hastened(recipe), steps=steps, exact=quick)
    readings = []
    for place, panel in enumerate(panels):
        part = sae.take(range(place * len(seeds), (place + 1) * len(seeds)))
        readings.append(
            Reading(
                sae=part,
                decoder=decoder_map(part, panel.world),
                encoder=encoder_map(part, panel.world),
                bias=part.b_dec.detach() @ features.to(part.b_dec).T,
            )
        )
    return readings


def worlds() -> dict[str, World]:
    """The four kinds of correlation, with the same directions."""
    return {
        "independent": presets.hedging_independent(n_features=2),
        "hierarchical": presets.hedging_hierarchical(n_features=2),
        "positive": presets.hedging_positive(n_features=2),
        "anti-correlated": presets.hedging_anticorrelated(n_features=2),
    }


def maps_of(readings: Mapping[str, Reading], panels: Sequence[Panel], sentence: str) -> CosineMaps:
    """The maps of the first member of each panel."""
    maps = (
        replace(
            picture(name, reading.sae, panel.world),
            latents=tuple(f"l{i + 1}" for i in range(panel.latents)),
        )
        for (name, reading), panel in zip(readings.items(), panels, strict=True)
    )
    return CosineMaps(
        title="latents and features", maps=tuple(maps), features=("f1", "f2"), sentence=sentence
    )


def vectors_of(readings: Mapping[str, Reading]) -> MetricsTable:
    """The arrows of the source's figures as numbers."""
    columns = {
        "decoder_f1": ("decoder · f1", "Cosine of the first latent's decoder row with f1."),
        "decoder_f2": ("decoder · f2", "Cosine of the first latent's decoder row with f2."),
        "encoder_f2": ("encoder · f2", "The same for its encoder row within the features' span."),
        "bias_f1": ("b_dec · f1", "Length of the decoder bias along f1."),
        "bias_f2": ("b_dec · f2", "Length of the decoder bias along f2."),
    }
    rows = []
    for name, reading in readings.items():
        values = {
            "decoder_f1": reading.decoder[:, 0, 0],
            "decoder_f2": reading.decoder[:, 0, 1],
            "encoder_f2": reading.encoder[:, 0, 1],
            "bias_f1": reading.bias[:, 0],
            "bias_f2": reading.bias[:, 1],
        }
        cells = {key: Cell.over(value.tolist()) for key, value in values.items()}
        rows.append(Row(name=name, kind="trained", cells=cells))
    return MetricsTable(
        title="latent and decoder bias",
        columns=tuple(
            column(key, label, definition) for key, (label, definition) in columns.items()
        ),
        rows=tuple(rows),
        sentence="Where the latent and the decoder bias point; mean and spread over members.",
    )


SETUP = (
    "Two orthonormal features in 50 dimensions, magnitude 1; f1 fires at rate .25. {world} ReLU "
    "SAE, squared error summed over dimensions plus the L1 weighted by decoder norms, with "
    "coefficient {l1}. {init} Adam with β2 = .99, learning rate .001 with decay, where the source "
    "has .0003 throughout; {batches} batches of 512 samples, or in quick mode {exact} steps on the "
    "expectation at .003. {seeds}"
)
NOISY = "Latents begin at the features plus Gaussian noise of .25 on every coordinate."
