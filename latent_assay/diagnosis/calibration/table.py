"""Every latent of every case in one table: evidence, and the truth beside it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from numpy import ndarray

from latent_assay.diagnosis.calibration.cases import Case, Effort, cases_of
from latent_assay.diagnosis.calibration.truth import BARS
from latent_assay.diagnosis.calibration.worlds import WORLDS
from latent_assay.diagnosis.evidence import Evidence, Relatives, Tier
from latent_assay.diagnosis.gathering import evidence
from latent_assay.diagnosis.verdict import FAILURES, Verdict

TIERS = (Tier.WEIGHTS, Tier.ACTIVATIONS)
"""Tiers that are calibrated here; a continuation has the evidence of activations and more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """One row per latent. Text columns say where it comes from."""

    columns: dict[Tier, dict[str, Float[ndarray, " latent"]]]
    """Evidence of each tier; NaN where it could not be measured."""
    strengths: Float64[ndarray, "latent failure"]
    """True strength of each failure, in the order of `FAILURES`."""
    clean: Bool[ndarray, " latent"]
    """Truly clean latents."""
    world: ndarray
    """Name of the world."""
    kind: ndarray
    """`planted`, `trained` or `oracle`."""
    name: ndarray
    """Which one exactly."""
    seed: Int[ndarray, " latent"]
    """Which draw of the world."""
    held_out: Bool[ndarray, " latent"]
    """Whether nothing may be fitted on it."""

    def __len__(self) -> int:
        return len(self.clean)

    def where(self, rows: Bool[ndarray, " latent"]) -> "Table":
        """Some of the rows."""
        return Table(
            columns={
                tier: {name: values[rows] for name, values in each.items()}
                for tier, each in self.columns.items()
            },
            **{name: getattr(self, name)[rows] for name in _PLAIN},
        )

    def clear(self, verdict: Verdict) -> Bool[ndarray, " latent"]:
        """Latents that clearly have a failure."""
        return self.strengths[:, FAILURES.index(verdict)] >= BARS[verdict].clear

    def grey(self, verdict: Verdict) -> Bool[ndarray, " latent"]:
        """Latents in its grey zone."""
        strength = self.strengths[:, FAILURES.index(verdict)]
        return (strength >= BARS[verdict].none) & (strength < BARS[verdict].clear)

    def evidence(self, tier: Tier) -> Evidence:
        """The evidence of all latents as if they were of one SAE, for a model to judge."""
        nothing = np.zeros(0, dtype=np.int64)
        return Evidence(
            tier=tier,
            width=len(self),
            n_samples=0,
            columns=self.columns[tier],
            relatives=Relatives(
                latent=nothing, other=nothing, role=nothing, share=np.zeros(0, dtype=np.float64)
            ),
        )


_PLAIN = ("strengths", "clean", "world", "kind", "name", "seed", "held_out")


def rows_of(case: Case) -> Table:
    """The latents of one case."""
    found = {
        Tier.WEIGHTS: evidence(case.sae),
        Tier.ACTIVATIONS: evidence(case.sae, case.activations),
    }
    n = len(case.truth.clean)
    return Table(
        columns={
            tier: {name: np.asarray(values, dtype=float) for name, values in each.columns.items()}
            for tier, each in found.items()
        },
        strengths=case.truth.strengths.numpy(),
        clean=case.truth.clean.numpy(),
        world=np.full(n, case.world, dtype=object),
        kind=np.full(n, case.kind, dtype=object),
        name=np.full(n, case.name, dtype=object),
        seed=np.full(n, case.seed),
        held_out=np.full(n, case.held_out),
    )


def joined(parts: Iterable[Table]) -> Table:
    """Several tables below each other; evidence that one of them lacks is NaN there."""
    tables = list(parts)
    columns: dict[Tier, dict[str, ndarray]] = {}
    for tier in TIERS:
        names = sorted({name for each in tables for name in each.columns[tier]})
        columns[tier] = {
            name: np.concatenate(
                [each.columns[tier].get(name, np.full(len(each), np.nan)) for each in tables]
            )
            for name in names
        }
    return Table(
        columns=columns,
        **{name: np.concatenate([getattr(each, name) for each in tables]) for name in _PLAIN},
    )


def gather(
    effort: Effort, *, held_out: Sequence[bool] = (False, True), workers: int | None = None
) -> Iterator[Table]:
    """The tables of all draws of all worlds, one by one, in a fixed order.

    **Arguments:**
    - `effort`: how much.
    - `held_out`: which worlds: those to fit on, those held out, or both.
    - `workers`: processes that share the work; as many as there are cores, but no more than four,
      if None. The result does not depend on it.
    """
    jobs = [
        (number, seed, effort)
        for number, named in enumerate(WORLDS)
        if named.held_out in held_out
        for seed in range(effort.seeds_held_out if named.held_out else effort.seeds_to_fit)
    ]
    workers = min(4, os.cpu_count() or 1) if workers is None else workers
    if workers <= 1:
        yield from map(_draw, jobs)
        return
    # fork would copy threads that torch has started
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_drawn_alone, jobs)


def _draw(job: tuple[int, int, Effort]) -> Table:
    number, seed, effort = job
    return joined(rows_of(case) for case in cases_of(WORLDS[number], seed, effort, start=number))


def _drawn_alone(job: tuple[int, int, Effort]) -> Table:
    torch.set_num_threads(1)
    return _draw(job)
