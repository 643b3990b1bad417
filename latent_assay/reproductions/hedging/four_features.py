"""Figures 2 to 5: four features, of which the last two may be correlated, and 3 or 4 latents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.initialisation import Initialisation, from_features, tied_random
from latent_assay.recipes import relu_l1
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
from latent_assay.reproductions.hedging.every_member import every
from latent_assay.reproductions.hedging.member_worlds import hastened
from latent_assay.sae import SAE
from latent_assay.worlds import World, presets

FEATURES = ("f1", "f2", "f3", "f4")
F3, F4 = 2, 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Cosines of the latents that follow each feature, in the order of the features.

    Latents are matched by absolute cosine, and one that learned a feature's absence is turned
    around, so that every diagonal entry of `decoder` is positive.
    """

    decoder: Float64[Tensor, "member latent feature"]
    """Of decoder rows."""
    encoder: Float64[Tensor, "member latent feature"]
    """Of encoder rows, within the span of the features."""
    bias: Float[Tensor, "member feature"]
    """The decoder bias along each feature."""
    turned: int
    """How many latents were turned around."""


def read(sae: SAE, world: World) -> Reading:
    """The latents of the first features, as many as there are latents."""
    decoder, encoder = decoder_map(sae, world), encoder_map(sae, world)
    order = torch.tensor([latent_of(sae, world, feature) for feature in range(sae.width)]).T
    # a feature that no latent follows: take one that then fails the checks
    order = order.clamp_min(0).unsqueeze(-1).expand(-1, -1, world.n_features)
    decoder, encoder = decoder.gather(1, order), encoder.gather(1, order)
    own = decoder.diagonal(dim1=1, dim2=2)
    sign = torch.where(own < 0, -1.0, 1.0).unsqueeze(-1)
    bias = sae.b_dec.detach() @ world.features.to(sae.b_dec).T
    return Reading(
        decoder=decoder * sign,
        encoder=encoder * sign,
        bias=bias,
        turned=int((own < 0).sum()),
    )


def others(cosines: Float64[Tensor, "member latent feature"]) -> Float64[Tensor, " member"]:
    """The largest |cosine| of a latent with a feature that it does not follow."""
    own = torch.eye(cosines.shape[1], cosines.shape[2], dtype=torch.bool)
    return cosines.abs().masked_fill(own, 0.0).amax((1, 2))


def own(cosines: Float64[Tensor, "member latent feature"]) -> Float64[Tensor, " member"]:
    """The smallest cosine of a latent with the feature that it follows."""
    return cosines.diagonal(dim1=1, dim2=2).amin(1)


def _recovered(full: Reading, least: float) -> list[Check]:
    return [every("4 latents: decoder cosine of every latent with its feature", own(full.decoder),
                  least, 1.0)]  # fmt: skip


def _independent(narrow: Reading, full: Reading) -> list[Check]:
    return [
        every("3 latents: largest |decoder cosine| with f4", narrow.decoder[:, :, F4].abs().amax(1),
              0.0, 0.02),
        every("3 latents: decoder cosine of every latent with its feature", own(narrow.decoder),
              0.99, 1.0),
        every("3 latents: decoder bias along f4 (its rate, .2)", narrow.bias[:, F4], 0.19, 0.21),
        *_recovered(full, 0.99),
        every("4 latents: largest |decoder cosine| elsewhere", others(full.decoder), 0.0, 0.02),
    ]  # fmt: skip


def _hierarchical(narrow: Reading, full: Reading) -> list[Check]:
    return [
        every("3 latents: decoder of the parent's latent along the child f4",
              narrow.decoder[:, F3, F4], 0.225, 0.265),
        every("3 latents: its encoder along f4, the same", narrow.encoder[:, F3, F4], 0.225, 0.265),
        every("4 latents: encoder of the parent's latent along f4 (absorption)",
              full.encoder[:, F3, F4], -1.0, -0.6),
        every("4 latents: its |decoder| along f4", full.decoder[:, F3, F4].abs(), 0.0, 0.02),
        every("4 latents: decoder of the child's latent along f3", full.decoder[:, F4, F3],
              0.65, 0.75),
        every("4 latents: decoder cosine of the latents of f1 and f2",
              full.decoder.diagonal(dim1=1, dim2=2)[:, :2].amin(1), 0.99, 1.0),
    ]  # fmt: skip


def _positive(narrow: Reading, full: Reading) -> list[Check]:
    return [
        every("3 latents: decoder of the latent of f3 along f4", narrow.decoder[:, F3, F4],
              0.1, 0.26),
        *_recovered(full, 0.95),
    ]  # fmt: skip


def _anticorrelated(narrow: Reading, full: Reading) -> list[Check]:
    return [
        every("3 latents: decoder of the latent of f3 along f4", narrow.decoder[:, F3, F4],
              -0.26, -0.1),
        every("3 latents: decoder bias along f4, more than f4's rate", narrow.bias[:, F4],
              0.19, 0.28),
        *_recovered(full, 0.95),
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One figure."""

    world: Callable[[], World]
    l1: float
    checks: Callable[[Reading, Reading], list[Check]]
    near_features: bool = False
    """Whether latents begin near features rather than short and at random."""

    def init(self, features: Tensor) -> Initialisation:
        if not self.near_features:
            return tied_random(0.1)

        def initialise(generator: torch.Generator, width: int, d_in: int) -> tuple[Tensor, Tensor]:
            return from_features(features, 0.1 if width == 3 else 0.25)(generator, width, d_in)

        return initialise


def _run(case: _Case, quick: bool) -> Result:
    world = case.world()
    recipe = relu_l1(
        d_in=world.d_in,
        width=[3] * len(SEEDS) + [4] * len(SEEDS),
        l1=case.l1,
        seeds=[*SEEDS, *SEEDS],
        lr=2e-3 if quick else 1e-3,
        init=case.init(world.features),
    )
    recipe = hastened(recipe, warm_up=500)
    sae = train(recipe, world, steps=2000 if quick else 8000, exact=quick)
    saes = sae.take(range(len(SEEDS))), sae.take(range(len(SEEDS), 2 * len(SEEDS)))
    readings = [read(each, world) for each in saes]
    turned = sum(reading.turned for reading in readings)
    maps = [
        replace(picture(name, each, world), latents=tuple(f"l{i + 1}" for i in range(each.width)))
        for name, each in zip(("3 latents", "4 latents"), saes, strict=True)
    ]
    return Result(
        checks=tuple(case.checks(*readings)),
        members=len(SEEDS),
        sections=(
            CosineMaps(
                title="latents and features",
                maps=tuple(each.arranged() for each in maps),
                features=FEATURES,
                sentence="Cosine similarity of the first member's latents with the true features; "
                "encoder rows are projected on the span of the features first.",
            ),
        ),
        note=f"{turned} of {7 * len(SEEDS)} latents learned a feature's absence (decoder −f, "
        "decoder bias +f) and were turned around for the comparison." if turned else "",
    )  # fmt: skip


_SETUP = (
    "Four orthonormal features in 50 dimensions, magnitude 1; f1 to f3 fire at rate .25. {firing} "
    "ReLU SAE with 3 and with 4 latents, squared error summed over dimensions plus {l1} times the "
    "L1 weighted by decoder norms. {init} Adam with β2 = .99, learning rate .001 (.002 in "
    "quick mode) with warm-up and decay, where the source has .0003 throughout; 8,000 batches of "
    "512 samples, or 2,000 steps on the expectation in quick mode. Six seeds."
)
_SHORT = (
    "Decoder rows begin at random with norm .1 and the encoder as their transpose; the source's "
    "longer Kaiming rows end more often at latents that stand for a feature's absence."
)
_NEAR = (
    "Latents begin at the features plus Gaussian noise of .1 (3 latents) or .25 (4) on every "
    "coordinate, as in the source."
)

_CASES: Mapping[str, _Case] = {
    "002-fig-2": _Case(world=presets.hedging_independent, l1=1e-2, checks=_independent),
    "002-fig-3": _Case(world=presets.hedging_hierarchical, l1=1e-2, checks=_hierarchical),
    "002-fig-4": _Case(
        world=presets.hedging_positive, l1=1e-2, checks=_positive, near_features=True
    ),
    "002-fig-5": _Case(world=presets.hedging_anticorrelated, l1=2e-2, checks=_anticorrelated),
}


def _entry(id: str, *, title: str, claim: str, firing: str, errors: str = "") -> Entry:
    case = _CASES[id]
    return Entry(
        id=id,
        source="002",
        title=title,
        claim=claim,
        setup=_SETUP.format(
            firing=firing, l1=case.l1, init=_NEAR if case.near_features else _SHORT
        ),
        run=partial(_run, case),
        errors=errors,
    )


ENTRIES: tuple[Entry, ...] = (
    _entry(
        "002-fig-2",
        title="Independent features are not hedged",
        claim="With independent features an SAE learns correct features at any width. What it "
        "has no latent for goes into the decoder bias, at its rate.",
        firing="f4 fires independently at rate .2.",
    ),
    _entry(
        "002-fig-3",
        title="Hierarchical features: hedged when narrow, absorbed when wide",
        claim="With 3 latents the parent's latent mixes in the child, alike in encoder and "
        "decoder. With 4, the parent's encoder turns negative on the child and the child's "
        "decoder contains the parent: absorption.",
        firing="f4 fires with probability .2 when f3 does, and never without it.",
        errors="The caption has the implication the wrong way round: a child implies its parent, "
        "so f4 ⟹ f3, as the text says.",
    ),
    _entry(
        "002-fig-4",
        title="Positively correlated features are hedged when narrow only",
        claim="With 3 latents the latent of f3 contains a positive part of f4; with 4 every "
        "feature is learned, without absorption.",
        firing="f4 fires with probability .2 when f3 does and .1 when it does not.",
    ),
    _entry(
        "002-fig-5",
        title="Anti-correlated features are hedged with a negative sign",
        claim="With 3 latents the latent of f3 contains a negative part of f4, and the decoder "
        "bias makes up for it; with 4 every feature is learned.",
        firing="f4 fires with probability .1 when f3 does and .2 when it does not.",
        errors="The text says that the latent of f4 mixes in a negative part of f3. With three "
        "latents f4 has none: it is the latent of f3 that mixes in a negative part of f4.",
    ),
)
