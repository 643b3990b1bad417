"""SAEs in worlds of known features: planted, trained, and the oracle, each with its truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.baselines import oracle
from latent_assay.diagnosis.calibration.planted import Plan, planted
from latent_assay.diagnosis.calibration.training import RECIPES_HELD_OUT, RECIPES_TO_FIT, Family
from latent_assay.diagnosis.calibration.truth import Truth, truth
from latent_assay.diagnosis.calibration.worlds import WORLDS, NamedWorld
from latent_assay.sae import SAE
from latent_assay.training import fit
from latent_assay.worlds import Sample, World

BATCH = 4096


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is built, trained and drawn."""

    seeds_to_fit: int = 2
    """Draws of each world that is fitted on."""
    seeds_held_out: int = 3
    """Draws of each world that is held out."""
    planted: int = 4
    """Planted SAEs in each draw."""
    families: int = 6
    """Families of trained SAEs in each draw."""
    steps: int = 2_000
    """Training steps."""
    train_batch: int = 256
    """Samples in a step."""
    samples: int = 32_768
    """Activations that the evidence is taken from."""
    truth_samples: int = 49_152
    """Samples that the truth is measured on: those activations, and more."""


QUICK = Effort(
    seeds_to_fit=1,
    seeds_held_out=1,
    planted=2,
    families=1,
    steps=300,
    samples=8_192,
    truth_samples=12_000,
)
"""Enough to see that everything works, in well under a minute; its figures mean little."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One SAE in one world."""

    world: str
    """The world's name."""
    held_out: bool
    """Whether nothing may be fitted on it."""
    seed: int
    """Which draw of the world."""
    kind: str
    """`planted`, `trained` or `oracle`."""
    name: str
    """Of what kind exactly: the recipe, or which of the planted ones."""
    sae: SAE
    """The SAE, one member, as it is exported."""
    activations: list[Float[Tensor, "batch d_in"]]
    """What a detector may see."""
    truth: Truth
    """What it may not."""


def cases(
    *, held_out: bool, effort: Effort | None = None, worlds: Sequence[NamedWorld] | None = None
) -> Iterator[Case]:
    """All cases of the worlds to fit on, or of those held out, one after another.

    **Arguments:**
    - `held_out`: which.
    - `effort`: how much; the full effort if None.
    - `worlds`: among these; `WORLDS` if None.
    """
    effort = effort or Effort()
    for number, named in enumerate(WORLDS if worlds is None else worlds):
        if named.held_out != held_out:
            continue
        seeds = effort.seeds_held_out if held_out else effort.seeds_to_fit
        for seed in range(seeds):
            yield from cases_of(named, seed, effort, start=number)


def cases_of(named: NamedWorld, seed: int, effort: Effort, *, start: int = 0) -> Iterator[Case]:
    """The cases of one draw of a world: the oracle, planted SAEs, trained ones.

    **Arguments:**
    - `named`: the family of worlds.
    - `seed`: which of them.
    - `effort`: how much.
    - `start`: with which family of trained SAEs to begin.
    """
    world = named.world(seed)
    generator = torch.Generator().manual_seed(1_000 + seed)
    # what a detector sees is part of it, so that a latent that is truly dead was not seen to fire
    sample = world.sample(max(effort.samples, effort.truth_samples), generator)
    activations = list(sample.x[: effort.samples].split(BATCH))

    def case(kind: str, name: str, sae: SAE) -> Case:
        return Case(
            world=named.name,
            held_out=named.held_out,
            seed=seed,
            kind=kind,
            name=name,
            sae=sae,
            activations=activations,
            truth=truth(sae, world, sample),
        )

    yield case("oracle", "oracle", oracle(world))
    for number in range(effort.planted):
        plan = PLANS_HELD_OUT[number % 4] if named.held_out else PLANS_TO_FIT[number % 4]
        draw = torch.Generator().manual_seed(10_000 * (seed + 1) + number)
        yield case("planted", f"planted {number}", planted(world, sample, plan, draw).sae)
    families = RECIPES_HELD_OUT if named.held_out else RECIPES_TO_FIT
    # a draw that trains fewer families than there are begins with another one in each world
    turn = [(start + at) % len(families) for at in range(min(effort.families, len(families)))]
    for at in turn:
        for sae in trained(families[at], world, sample, seed, effort):
            yield case("trained", families[at].name, sae)


def trained(
    family: Family, world: World, sample: Sample, seed: int, effort: Effort
) -> Iterator[SAE]:
    """Train a family of SAEs, one member for each width, and yield them one by one."""
    l0 = float(sample.firing.double().sum(1).mean())
    recipe = family.recipe(world, l0, seed, effort.steps)
    config = replace(
        recipe.config,
        steps=effort.steps,
        lr_warm_up_steps=0,
        lr_decay_steps=effort.steps // 4,
        dead_after=50 * effort.train_batch,
        log_every=effort.steps,
    )
    fit(
        recipe.sae,
        recipe.objective,
        world.stream(effort.train_batch, seeds=100 + seed),
        config,
        progress=False,
    )
    for member in range(recipe.sae.members):
        yield recipe.sae.take(member).exported()


PLANS_TO_FIT: tuple[Plan, ...] = (
    Plan(),
    Plan(absorbed=3, delta=(0.5, 0.9), hedged=1, duplicates=2, dead=1),
    Plan(absorbed=1, hedged=3, duplicates=1, splits=2, composed=0, dead=3),
    Plan(absorbed=2, delta=(0.9, 1.0), hedged=2, duplicates=2, dense=1, noise=0.05),
)
"""What is planted in worlds to fit on."""

PLANS_HELD_OUT: tuple[Plan, ...] = (
    Plan(absorbed=2, delta=(0.65, 0.95), hedged=2, duplicates=2, splits=0, composed=2, dead=2),
    Plan(absorbed=1, delta=(0.85, 1.0), hedged=3, duplicates=1, splits=1, noise=0.04),
    Plan(absorbed=3, delta=(0.55, 0.8), hedged=1, duplicates=1, splits=1, composed=1, dead=4),
    Plan(absorbed=2, hedged=2, duplicates=3, splits=2, composed=0, dense=1, noise=0.03),
)
"""What is planted in worlds held out."""
