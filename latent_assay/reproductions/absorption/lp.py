"""Source 001: absorption under penalties other than L1, and under norms.

The post computes with an Lp norm and with a sum of p-th powers as if they were one; both are tested
here against an enumeration of every state, and so are their slopes, by finite differences.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.report import Curve, TrainingCurves
from latent_assay.reproductions.absorption.proofs import perfect_reconstruction
from latent_assay.reproductions.absorption.states import DEGREES, STATES, slope
from latent_assay.reproductions.curves import axis, line
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.theory import PairStates, absorption

EXPONENTS = (0.25, 0.5, 1.0, 2.0, 3.0)
"""Below, at and above the exponent at which the post is right."""
Penalty = Callable[[Tensor, PairStates, float], Tensor]
"""(δ, states, p) → the penalty at each δ."""
UNIT = PairStates(p11=1.0, p10=0.0)
"""Both features always fire: every number is then in units of $p_{11}$."""


@torch.no_grad()
def enumerated_norm(
    delta: Float64[Tensor, " delta"], states: PairStates, p: float
) -> Float64[Tensor, " delta"]:
    r"""$\mathbb E\,\|z\|_p$ of real SAEs over every state, without any closed form."""
    world = states.enumeration()
    z = absorption.absorbed_sae(delta).encode(world.x)
    return z.pow(p).sum(-1).pow(1 / p) @ world.probability


@torch.no_grad()
def enumerated_power_sum(
    delta: Float64[Tensor, " delta"], states: PairStates, p: float
) -> Float64[Tensor, " delta"]:
    r"""$\mathbb E \sum_j |z_j|^p$ of real SAEs over every state."""
    world = states.enumeration()
    z = absorption.absorbed_sae(delta).encode(world.x)
    return z.pow(p).sum(-1) @ world.probability


def _inner() -> Float64[Tensor, " delta"]:
    """Degrees with room for a finite difference on both sides."""
    return torch.linspace(0.05, 0.95, 19, dtype=torch.float64)


def lp_norm(quick: bool) -> Result:
    """The norm's value: corrected, and as printed."""
    gaps, ends, between = [], [], {}
    for p in EXPONENTS:
        measured = enumerated_norm(DEGREES, STATES, p)
        gaps.append(measured - absorption.lp_norm(DEGREES, STATES, p))
        printed = absorption.lp_norm_as_printed(DEGREES, STATES, p)
        ends.append((measured - printed)[[0, -1]])
        fine = torch.linspace(0, 1, 1001, dtype=torch.float64)
        off = enumerated_norm(fine, UNIT, p) - absorption.lp_norm_as_printed(fine, UNIT, p)
        between[p] = float(off.abs().max())
    point = torch.tensor([0.4], dtype=torch.float64)
    checks = (
        Check.band("largest |corrected - enumerated|, any p", _worst(gaps), 0.0, 1e-9),
        Check.near(
            "enumerated norm at p = 2, δ = .4, in units of p11",
            enumerated_norm(point, UNIT, 2.0),
            1.1662,
            5e-5,
        ),
        Check.near(
            "the printed form there",
            absorption.lp_norm_as_printed(point, UNIT, 2.0),
            1.2649,
            5e-5,
        ),
        Check.band("printed form off at δ = 0 and 1, any p", _worst(ends), 0.0, 1e-9),
        Check.band("printed form off at p = 1, any δ", between[1.0], 0.0, 1e-9),
        Check.near("printed form off by up to, p = ¼", between[0.25], 6.55, 0.01),
        Check.true(
            "the norm falls from δ = 0 to δ = 1, any p",
            all(bool((enumerated_norm(DEGREES, UNIT, p).diff() < 0).all()) for p in EXPONENTS),
        ),
    )
    return Result(checks=checks, sections=(_norm_figure(),))


def lp_norm_slope(quick: bool) -> Result:
    """The norm's derivative: corrected, and both readings of the printed one."""
    d = _inner()
    gaps, readings, literally, rising = [], [], {}, []
    for p in EXPONENTS:
        measured = _difference(enumerated_norm, d, p)
        gaps.append(measured - absorption.lp_norm_slope(d, STATES, p))
        rising.append(bool((measured < 0).all()))
        of_printed = _difference(absorption.lp_norm_as_printed, d, p)
        readings.append(of_printed - absorption.lp_norm_slope_as_printed(d, STATES, p))
        literal = absorption.lp_norm_slope_as_printed_literally(d, STATES, p)
        literally[p] = literal / of_printed
    wrong = absorption.lp_norm_slope_as_printed(d, STATES, 2.0) - absorption.lp_norm_slope(
        d, STATES, 2.0
    )
    end = torch.ones(1, dtype=torch.float64)
    checks = (
        Check.band("largest |corrected - finite difference|, any p", _worst(gaps), 0.0, 1e-5),
        Check.true("negative for every p and every δ below 1", all(rising)),
        Check.near(
            "slope at δ = 1 for p = 2, where the printed one is -p11 / 2",
            absorption.lp_norm_slope(end, STATES, 2.0),
            0.0,
            1e-12,
        ),
        Check.near(
            "slope at δ = 1 for p = 1, in units of p11",
            absorption.lp_norm_slope(end, UNIT, 1.0),
            -1.0,
            1e-12,
        ),
        Check.band(
            "printed line with p11 / p: off the derivative of the printed norm",
            _worst(readings),
            0.0,
            1e-5,
        ),
        Check.band(
            "the same at p = 2: off the derivative of the true norm, in units of p11",
            float(wrong.abs().max()) / STATES.p11,
            0.1,
            1.0,
        ),
        Check.near(
            "printed line with p11 · p, p = 2: times the derivative of the printed norm",
            literally[2.0],
            4.0,
            1e-6,
        ),
    )
    return Result(checks=checks, sections=(_slope_figure(),))


def power_sum(quick: bool) -> Result:
    """The penalty that the post states before it computes with the norm."""
    d = _inner()
    values, slopes, falling = [], [], []
    for p in EXPONENTS:
        values.append(
            enumerated_power_sum(DEGREES, STATES, p) - absorption.power_sum(DEGREES, STATES, p)
        )
        measured = _difference(enumerated_power_sum, d, p)
        slopes.append(measured - absorption.power_sum_slope(d, STATES, p))
        falling.append(bool((measured < 0).all()))
    end = torch.ones(1, dtype=torch.float64)
    # a power so small that 1 - δ to it is 1 within rounding, and 0 to it is still 0
    tiny = enumerated_power_sum(DEGREES, UNIT, 1e-12)
    counted = absorption.l0(DEGREES, UNIT)
    checks = (
        Check.band("largest |closed form - enumerated|, any p", _worst(values), 0.0, 1e-9),
        Check.band("largest |slope - finite difference|, any p", _worst(slopes), 0.0, 1e-5),
        Check.true("slope negative for every p and every δ below 1", all(falling)),
        Check.near(
            "slope at δ = 1 for p = 2: not negative",
            absorption.power_sum_slope(end, STATES, 2.0),
            0.0,
            1e-12,
        ),
        Check.band(
            "p → 0: largest gap to counting latents, flat with a jump at δ = 1",
            _worst([tiny - counted]),
            0.0,
            1e-9,
        ),
    )
    return Result(checks=checks, sections=(_power_figure(),))


def _difference(penalty: Penalty, d: Tensor, p: float) -> Tensor:
    return slope(lambda delta: penalty(delta, STATES, p), d)


def _worst(differences: list[Tensor]) -> float:
    return max(float(each.abs().max()) for each in differences)


def _curve(metric: str, label: str, x: Tensor, lines: dict[str, Tensor], definition: str) -> Curve:
    return Curve(
        metric=metric,
        label=label,
        bands=tuple(line(name, axis(x, 100), y) for name, y in lines.items()),
        definition=definition,
    )


def _norm_figure() -> TrainingCurves:
    fine = torch.linspace(0, 1, 101, dtype=torch.float64)
    return TrainingCurves(
        title="The norm of the latents, in units of p11",
        step_label="δ in %",
        curves=tuple(
            _curve(
                f"norm_{p:g}",
                f"p = {p:g}",
                fine,
                {
                    "enumerated": enumerated_norm(fine, UNIT, p),
                    "as printed": absorption.lp_norm_as_printed(fine, UNIT, p),
                },
                "Both agree at the ends." if p != 1 else "Both agree everywhere.",
            )
            for p in (0.5, 1.0, 2.0)
        ),
        sentence="Absorption lowers every one of these norms, but not by the printed formula.",
    )


def _slope_figure() -> TrainingCurves:
    d = _inner()
    return TrainingCurves(
        title="The slope of the norm, in units of p11",
        step_label="δ in %",
        curves=tuple(
            _curve(
                f"slope_{p:g}",
                f"p = {p:g}",
                d,
                {
                    "enumerated": _difference(enumerated_norm, d, p) / STATES.p11,
                    "as printed": absorption.lp_norm_slope_as_printed(d, UNIT, p),
                },
                "Finite differences, and the printed line read with p11 / p.",
            )
            for p in (0.5, 2.0, 3.0)
        ),
        sentence="Negative below full absorption; for p > 1 it vanishes there.",
    )


def _power_figure() -> TrainingCurves:
    fine = torch.linspace(0, 1, 101, dtype=torch.float64)
    return TrainingCurves(
        title="The sum of p-th powers, in units of p11",
        step_label="δ in %",
        curves=(
            _curve(
                "power_sum",
                "E Σ|z|^p",
                fine,
                {f"p = {p:g}": enumerated_power_sum(fine, UNIT, p) for p in (0.05, 0.5, 1.0, 2.0)},
                "From 2 without absorption to 1 with full absorption, for every p.",
            ),
        ),
        sentence=(
            "The smaller p, the later the reward comes: in the limit all of it at full absorption. "
            "For p > 1 it comes first and fades."
        ),
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="001-reconstruction",
        source="001",
        title="Absorption costs no reconstruction",
        claim="Any degree of absorption reconstructs perfectly in a hierarchy.",
        setup="As for 000-proposition-1, whose proof the post repeats.",
        run=perfect_reconstruction,
        errors="The post uses ĥ both for the reconstruction and for the latent activations, has λ "
        "twice (in L and again in L_sp), and computes z2 as ReLU(f2 · z) where f2 · h is meant.",
    ),
    Entry(
        id="001-lp-norm",
        source="001",
        title="The Lp norm under absorption",
        claim="With an Lp norm as penalty, L_sp = p11 (2 - δ)^(1/p) + p10, which falls from "
        "2^(1/p) p11 + p10 without absorption to p11 + p10 with full absorption.",
        setup="SAEs of the family at 11 degrees δ; P(parent) = .25, P(child | parent) = .2; p of "
        "1/4, 1/2, 1, 2 and 3; every state enumerated in float64.",
        run=lp_norm,
        errors="The general case is wrong: the latent activations are added before instead of "
        "after the power is taken. The norm is p11 ((1 - δ)^p + 1)^(1/p) + p10, which agrees with "
        "the printed form at p = 1 and at both ends only. The exponent is called n and p by turns.",
    ),
    Entry(
        id="001-lp-norm-slope",
        source="001",
        title="The slope of the Lp norm",
        claim="The derivative, printed as -p11 p (2 - δ) 1 p - 1 without typesetting, is always "
        "negative, so that sparsity always promotes absorption.",
        setup="As for 001-lp-norm; central differences at 19 degrees from .05 to .95.",
        run=lp_norm_slope,
        errors="Read as -(p11 / p) (2 - δ)^(1/p - 1) it is the derivative of the wrong expression; "
        "read with p as a factor, of none. The slope is -p11 (1-δ)^(p-1) ((1-δ)^p + 1)^(1/p-1): "
        "negative for every δ < 1, but 0 at δ = 1 for p > 1.",
    ),
    Entry(
        id="001-power-sum",
        source="001",
        title="A sum of p-th powers under absorption",
        claim="With E Σ|z|^p as penalty, too, more absorption means more sparsity, always.",
        setup="As for 001-lp-norm.",
        run=power_sum,
        errors="The post states this penalty and then computes with the norm. Its slope is "
        "-p11 p (1 - δ)^(p-1): 0 at δ = 1 for p > 1, so that it is not always negative; and as "
        "p → 0 it is flat with a jump at δ = 1, so that counting latents gives no gradient at all.",
    ),
)
