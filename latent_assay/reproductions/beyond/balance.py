"""A balance coefficient for every pair of latents, found during training."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.batch import WeightedBatch
from latent_assay.initialisation import from_features
from latent_assay.losses import Lp, Objective, SharedMatryoshka, SquaredError
from latent_assay.population import minibatches, population
from latent_assay.recipes import Recipe, matryoshka
from latent_assay.report import CosineMaps, Curve, TrainingCurves
from latent_assay.reproductions.beyond.share_theory import balancing_share
from latent_assay.reproductions.curves import axis, line
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.experiment import decoder_map, encoder_map, picture
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.training import TrainingConfig, fit
from latent_assay.worlds import World, presets

L1 = 3e-2
LEVELS = (1, 4)
MIDDLE = (0.15, 0.2)
"""The second child's rate: in the authors' code, and in their text."""
BETAS = (0.0, *(float(each) for each in np.geomspace(0.04, 1.0, 20)))
STARTS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
"""Every member starts at another share, to see that they are found and not given."""
RATES = (0.05, 0.15, 0.2, 0.35, 0.5)
"""Rates of an only child, for which there is a formula."""


@dataclass(frozen=True, kw_only=True)
class Swept:
    """What a sweep over one balance coefficient found."""

    beta: float
    """The best coefficient."""
    error: float
    """Its largest absolute component of the parent's encoder along a child."""


def best_single(errors: Float[Tensor, " beta"]) -> Swept:
    """The coefficient whose largest component is smallest.

    **Arguments:**
    - `errors`: the largest absolute component at each of `BETAS`.
    """
    lowest = int(errors.argmin())
    return Swept(beta=BETAS[lowest], error=float(errors[lowest]))


def _run(quick: bool) -> Result:
    steps = 2_500 if quick else 8_000
    worlds = [presets.unbalanceable_matryoshka(middle=middle) for middle in MIDDLE]
    first = worlds[0]
    init = from_features(first.features)

    def recipe(members: int) -> Recipe:
        return matryoshka(
            d_in=first.d_in, width=4, levels=LEVELS, l1=L1, seeds=range(members), lr=1e-3, init=init
        )

    sweep = matryoshka(
        d_in=first.d_in,
        width=4,
        levels=LEVELS,
        beta=[[beta, 1.0] for _ in worlds for beta in BETAS],
        l1=L1,
        lr=1e-3,
        init=init,
    )
    swept = _train(sweep, worlds, steps, quick).split
    many = len(STARTS)
    shares = SharedMatryoshka(
        [SquaredError(), Lp(L1)],
        levels=LEVELS,
        members=many * len(worlds),
        width=4,
        initial=STARTS * len(worlds),
    )
    paired = _train(
        recipe(many * len(worlds))._replace(objective=Objective([shares])), worlds, steps, quick
    ).split
    checks: list[Check] = []
    told: list[str] = []
    curves: list[Curve] = []
    for place, middle in enumerate(MIDDLE):
        one, pair = swept(len(BETAS))[place], paired(many)[place]
        encoder = encoder_map(one, first)[:, 0, 1:]
        best = best_single(encoder.abs().amax(-1))
        errors = encoder_map(pair, first)[:, 0, 1:].abs().amax(-1)
        found = shares.share[place * many : (place + 1) * many, 0, 1:].mean(0)
        label = f"children .02/{middle:g}/.5".replace("0.", ".")
        checks += [
            Check.band(
                f"largest |encoder component| on a child, {label}", errors, 0.0, best.error / 3
            ),
            Check.true(f"every member at most a third of the best β, {label}",
                       bool((errors <= best.error / 3).all())),
            Check.true(f"every latent still stands for its feature, {label}",
                       _stands(pair, first)),
        ]  # fmt: skip
        sides = [decoder_map(each, first)[:, 0, 1:].abs().amax(-1) for each in (one, pair)]
        told.append(
            f"With {label} the best single β is {best.beta:.3f}, at which the largest component is "
            f"{best.error:.3f}; shares end at {_numbers(found)} and leave "
            f"{float(errors.mean()):.4f}. "
            f"The decoder keeps some hedging, as theory says: its largest component on a child "
            f"is {float(sides[1].mean()):.3f}, against "
            f"{float(sides[0][BETAS.index(best.beta)]):.3f} at the best β."
        )
        curves.append(_curve(label, encoder))
    checks += _only_children()
    note = (
        " ".join(told)
        + " A share below 1 leaves the parent's latent a force to hedge and L1 gives it "
        "one to be absorbed; per time that the child fires the second hardly depends on its "
        "rate q and the first "
        "grows with q, so that every child has a balance of its own: for an only child of rate "
        + ", ".join(f"{q:g} share {balancing_share(q, l1=L1):.2f}" for q in RATES)
        + ". From share 0 (a plain matryoshka loss) the inner latent merges with its most frequent "
        "child before the controller can act; start at .2 or above."
    )
    maps = CosineMaps(
        title="The authors' world, best single β and a share for each pair",
        maps=(
            picture("best single β", swept(len(BETAS))[0], first,
                    member=BETAS.index(best_single(
                        encoder_map(swept(len(BETAS))[0], first)[:, 0, 1:].abs().amax(-1)).beta)),
            picture("shares", paired(many)[0], first, member=many - 1),
        ),
        features=("parent", "child .02", "child .15", "child .5"),
        sentence="Row 0 of the encoder is the parent's latent.",
    )  # fmt: skip
    figure = TrainingCurves(
        title="No single β balances all children",
        curves=tuple(curves),
        step_label="1000 β",
        sentence="Component of the parent's latent's encoder along each child, against β.",
    )
    return Result(checks=tuple(checks), members=many, sections=(figure, maps), note=note)


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """An ensemble whose members belong to several worlds."""

    sae: SAE

    def split(self, each: int) -> list[SAE]:
        """One SAE for each world, of so many members."""
        return [
            self.sae.take(range(start, start + each)) for start in range(0, self.sae.members, each)
        ]


def _train(recipe: Recipe, worlds: list[World], steps: int, exact: bool) -> _Trained:
    sae, objective, config = recipe
    config = replace(config, steps=steps, lr_decay_steps=steps // 4, log_every=steps)
    batches = _batches(worlds, sae.members // len(worlds), exact)
    fit(sae, objective, batches, config, progress=False)
    return _Trained(sae=sae)


def _batches(worlds: list[World], members: int, exact: bool) -> Iterator[WeightedBatch]:
    """The worlds have the same patterns and differ in probabilities, so one batch serves all."""
    if exact:
        parts = [next(population(world)) for world in worlds]
        weight = torch.cat([part.weight.expand(members, -1) for part in parts])
        return itertools.repeat(WeightedBatch(parts[0].x, weight, 512))
    return _sampled(worlds, members)


def _sampled(worlds: list[World], members: int) -> Iterator[WeightedBatch]:
    sources = [
        minibatches(world, 512, seeds=range(1000 * place, 1000 * place + members))
        for place, world in enumerate(worlds, start=1)
    ]
    for parts in zip(*sources, strict=True):
        yield WeightedBatch(parts[0].x, torch.cat([part.weight for part in parts]), 512)


def _only_children() -> list[Check]:
    """Shares in worlds of a parent and an only child, against the formula."""
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    weight = torch.tensor([[0.75, 0.25 * (1 - q), 0.25 * q] for q in RATES], dtype=torch.float64)
    rows = torch.eye(2, dtype=torch.float64).repeat(len(RATES), 1, 1)
    sae = SAE(rows, rows.clone(), sparsifier=ReLU())
    term = SharedMatryoshka(
        [SquaredError(), Lp(L1)], levels=(1, 2), members=len(RATES), width=2, initial=1.0
    )
    steps = 6_000  # rare children take long to settle
    fit(
        sae,
        Objective([term]),
        itertools.repeat(WeightedBatch(x, weight, 512)),
        TrainingConfig(steps=steps, lr=1e-3, lr_decay_steps=steps // 4, log_every=steps),
        progress=False,
    )
    return [
        Check.near(f"share of an only child of rate {q:g}, against its formula",
                   float(term.share[place, 0, 1]), balancing_share(q, l1=L1), 0.03)
        for place, q in enumerate(RATES)
    ]  # fmt: skip


def _stands(sae: SAE, world: World) -> bool:
    """Whether decoder row i is nearest to feature i, for the parent and the frequent children."""
    nearest = decoder_map(sae, world).abs().argmax(-1)
    return bool((nearest == torch.arange(4)).all())


def _curve(label: str, encoder: Float[Tensor, "beta child"]) -> Curve:
    steps = axis(BETAS, 1000)
    values = encoder.detach()
    return Curve(
        metric=f"encoder_{label}",
        label=f"encoder component, {label}",
        bands=tuple(line(f"child {child + 1}", steps, values[:, child]) for child in range(3)),
    )


def _numbers(values: Tensor) -> str:
    return ", ".join(f"{float(value):.2f}" for value in values)


ENTRY = Entry(
    id="beyond-balance-per-latent",
    source="beyond",
    title="A balance for every pair of latents, found by itself",
    claim=(
        "Feature Hedging shows that one balance coefficient cannot free a parent's latent of "
        "hedging "
        "and absorption when its children fire at very different rates, and leaves learned "
        "coefficients open. A share for each pair, steered until the parent's latent is as "
        "strong with "
        "a child as without, does; no true feature is looked at."
    ),
    setup=(
        "Parent at rate .25, children at .02/.15/.5 and .02/.2/.5 given the parent; matryoshka "
        "levels "
        "1 and 4, L1 coefficient .03, begun at the truth, learning rate 1e-3 with decay. "
        f"{len(BETAS)} values of β and, for the shares, six starts from .25 to 1 are members of "
        f"one "
        "ensemble. Then worlds with an only child, for which the share has a closed form."
    ),
    run=_run,
)
