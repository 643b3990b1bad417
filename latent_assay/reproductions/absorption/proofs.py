"""Source 000, the proof: absorption is free, lowers the penalty, and is best when full."""

from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.report import Curve, TrainingCurves
from latent_assay.reproductions.absorption.states import (
    DEGREES,
    IMPERFECT,
    STATES,
    enumerated_error,
    enumerated_l1,
    slope,
)
from latent_assay.reproductions.curves import axis, line
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.gap import gap
from latent_assay.theory import PairStates, absorption
from latent_assay.worlds.directions import orthonormal


def perfect_reconstruction(quick: bool) -> Result:
    """The squared error at every degree of absorption, in 50 dimensions."""
    drawn = orthonormal(2, 50, torch.Generator().manual_seed(0)).double()
    features = torch.linalg.qr(drawn.T).Q.T.contiguous()  # at right angles in float64 too
    error = enumerated_error(DEGREES, STATES, features)
    alone = enumerated_error(DEGREES, IMPERFECT, features)
    return Result(
        checks=(
            Check.band("largest squared error, 11 degrees δ", float(error.max()), 0.0, 1e-9),
            Check.band(
                "child at times alone: largest |p01 δ² - enumerated|",
                gap(absorption.reconstruction_error(DEGREES, IMPERFECT), alone),
                0.0,
                1e-9,
            ),
        )
    )


def sparsity(quick: bool) -> Result:
    """Proposition 2, and the penalty that SAEs are really trained with."""
    inner = DEGREES[1:-1]
    plain, weighted = (enumerated_l1(DEGREES, STATES, weighted=each) for each in (False, True))
    alone, alone_weighted = (
        enumerated_l1(DEGREES, IMPERFECT, weighted=each) for each in (False, True)
    )
    ends = torch.tensor([1.0], dtype=torch.float64)
    checks = (
        Check.band(
            "plain L1: largest |p11 (2 - δ) + p10 - enumerated|",
            gap(absorption.l1(DEGREES, STATES), plain),
            0.0,
            1e-9,
        ),
        Check.near(
            "plain L1: slope by finite differences, in units of p11",
            _slope(inner, weighted=False) / STATES.p11,
            -1.0,
            1e-5,
        ),
        Check.band(
            "weighted L1: largest |closed form - enumerated|",
            gap(absorption.decoder_norm_l1(DEGREES, STATES), weighted),
            0.0,
            1e-9,
        ),
        Check.band(
            "weighted L1: largest |slope - finite difference|",
            gap(absorption.decoder_norm_l1_slope(inner, STATES), _slope(inner, weighted=True)),
            0.0,
            1e-5,
        ),
        Check.near(
            "weighted L1: gain from full absorption, in units of p11 (plain: 1)",
            float(weighted[0] - weighted[-1]) / STATES.p11,
            2 - 2**0.5,
            1e-9,
        ),
        Check.near(
            "weighted L1: slope at δ = 1, in units of p11 (plain: -1)",
            absorption.decoder_norm_l1_slope(ends, STATES) / STATES.p11,
            0.5**0.5 - 1,
            1e-9,
        ),
        Check.band(
            "child at times alone: largest gap of both closed forms",
            max(
                gap(absorption.l1(DEGREES, IMPERFECT), alone),
                gap(absorption.decoder_norm_l1(DEGREES, IMPERFECT), alone_weighted),
            ),
            0.0,
            1e-9,
        ),
    )
    panels = (("plain", "L1, plain", plain), ("weighted", "L1, weighted by decoder norm", weighted))
    figure = TrainingCurves(
        title="What absorption saves",
        step_label="δ in %",
        curves=(
            Curve(
                metric="penalty",
                label="expected penalty",
                bands=tuple(line(label, axis(DEGREES, 100), values) for _, label, values in panels),
                definition="P(parent) = .25, P(child | parent) = .2, enumerated.",
            ),
        ),
        sentence=(
            "Both penalties fall with the degree of absorption. The one that is trained falls by "
            "59% of what the proposition says, as the child's decoder row grows."
        ),
    )
    return Result(checks=checks, sections=(figure,))


def _slope(delta: Float64[Tensor, " delta"], *, weighted: bool) -> Float64[Tensor, " delta"]:
    return slope(partial(enumerated_l1, states=STATES, weighted=weighted), delta)


def corollary(quick: bool) -> Result:
    """Absorption is rewarded whenever the child fires, and full absorption is optimal."""
    rates = torch.linspace(0.01, 0.99, 9, dtype=torch.float64).tolist()
    falling, optima = [], []
    for given in rates:
        states = PairStates.from_conditionals(0.25, given=given)
        for weighted in (False, True):
            falling.append(enumerated_l1(DEGREES, states, weighted=weighted).diff() < 0)
        optima += [
            absorption.optimal_delta(states, 1e-3),
            absorption.optimal_delta_decoder_norm(states, 1e-3),
        ]
    fine = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    error = enumerated_error(fine, IMPERFECT)
    gaps = []
    for coefficient in (0.002, 0.01, 0.037, 0.08):
        for weighted, optimum in (
            (False, absorption.optimal_delta),
            (True, absorption.optimal_delta_decoder_norm),
        ):
            loss = error + coefficient * enumerated_l1(fine, IMPERFECT, weighted=weighted)
            gaps.append(abs(float(fine[loss.argmin()]) - optimum(IMPERFECT, coefficient)))
    never = PairStates(p11=0.0, p10=0.25)
    checks = (
        Check.true(
            "both penalties fall at every step of δ, P(child | parent) from .01 to .99",
            bool(torch.stack(falling).all()),
        ),
        Check.near("best δ in a hierarchy", min(optima), 1.0, 0.0),
        Check.near(
            "a child that never fires: largest change of the penalty",
            float(enumerated_l1(DEGREES, never).diff().abs().max()),
            0.0,
            1e-12,
        ),
        Check.band("child at times alone: best δ, closed form off a grid by", max(gaps), 0.0, 1e-4),
    )
    return Result(checks=checks)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="000-proposition-1",
        source="000",
        title="Absorption costs no reconstruction",
        claim="However much of the parent the child's latent has absorbed, every activation is "
        "reconstructed perfectly, if the child fires only with the parent.",
        setup="SAEs of the source's family, 11 degrees δ from 0 to 1, on two orthonormal features "
        "in 50 dimensions; the expectation over all states, in float64.",
        run=perfect_reconstruction,
    ),
    Entry(
        id="000-proposition-2",
        source="000",
        title="Absorption lowers the sparsity penalty",
        claim="The L1 penalty is p11 (2 - δ) + p10; its derivative in δ is -p11.",
        setup="The same family, P(parent) = .25, P(child | parent) = .2, every state enumerated; "
        "slopes by central differences.",
        run=sparsity,
        errors="The source has plain L1, but SAEs such as its own are trained with L1 weighted by "
        "decoder norm. Then the penalty is p11 [(1 - δ) + √(1 + δ²)] + p10: the sign of the slope "
        "stays, but the whole gain is (2 - √2) p11 instead of p11, and at δ = 1 the slope is "
        "-.293 p11.",
    ),
    Entry(
        id="000-corollary",
        source="000",
        title="Full absorption is optimal in a hierarchy",
        claim="If the child ever fires, more absorption always means less loss, so that training "
        "drives δ to 1.",
        setup="Both L1 penalties at nine rates of the child; with a child that is at times alone, "
        "the loss on a grid of 10001 degrees, four λ.",
        run=corollary,
        errors="The source leaves out p01 > 0. There the squared error is p01 δ² and plain L1 has "
        "its optimum at δ = min(1, λ p11 / (2 p01)), which is less than 1 for small λ.",
    ),
)
