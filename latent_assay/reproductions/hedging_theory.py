"""Source 002, theory: the best single latent, the hedging theorem, and what deserves a latent."""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.batch import WeightedBatch
from latent_assay.initialisation import tied_random
from latent_assay.losses import Lp, Objective, SquaredError
from latent_assay.report import Cell, Column, MetricsTable, Row, TrainingCurves
from latent_assay.report.content import Curve
from latent_assay.reproductions.absorption import line
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.experiment import SEEDS
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.theory import PairStates, hedging, hedging_theorem, single_latent
from latent_assay.training import TrainingConfig, fit
from latent_assay.worlds import Enumeration, presets

FIGURE_6 = (
    (PairStates(p10=0.3, p11=0.1), 0.0, 0.2324),
    (PairStates(p10=0.3, p11=0.1), 0.1, 0.2343),
    (PairStates(p10=0.1, p11=0.3), 0.0, 0.4586),
    (PairStates(p10=0.1, p11=0.3), 0.1, 0.4599),
)
"""States, L1 coefficient and best α of the four curves of figure 6."""
ALPHAS = 10_000
"""Steps of α in figure 6."""
MAGNITUDES = ((1.0, 1.0), (2.0, 3.0))
"""Of tracked feature and orphan."""
CONDITIONALS = (
    (0.25, 0.2, 0.0),
    (0.25, 0.2, 0.2),
    (0.25, 0.0, 0.2),
    (0.25, 0.2, 0.1),
    (0.6, 0.1, 0.7),
)
"""P(i), P(k | i) and P(k | not i): child, independent, exclusive, and correlations between."""


def loss_curve(
    states: PairStates, coefficient: float, alpha: Float64[Tensor, " alpha"]
) -> Float64[Tensor, " alpha"]:
    r"""Expected loss of real tied SAEs with one latent $\propto (1 - \alpha) f_1 + \alpha f_2$."""
    rows = torch.stack([1 - alpha, alpha], dim=-1)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    world = states.enumeration()
    z = (world.x @ rows.T).relu()
    error = (z.unsqueeze(-1) * rows - world.x.unsqueeze(1)).square().sum(-1)
    return world.probability @ (error + coefficient * z)


def figure_6(quick: bool) -> Result:
    """Loss against α: by brute force, in closed form, and where training ends."""
    grid = torch.linspace(0, 1, ALPHAS + 1, dtype=torch.float64)
    curves = [loss_curve(states, coefficient, grid) for states, coefficient, _ in FIGURE_6]
    best = [float(grid[curve.argmin()]) for curve in curves]
    trained = _trained_alpha(3_000 if quick else 10_000)
    checks: list[Check] = []
    for i, (states, coefficient, expected) in enumerate(FIGURE_6):
        name = f"P(1 alone) = {states.p10:g}, λ = {coefficient:g}"
        closed = single_latent.alpha(single_latent.optimal_angle(states, coefficient))
        minima = (curves[i][1:-1] < curves[i][:-2]) & (curves[i][1:-1] < curves[i][2:])
        checks += [
            Check.near(f"{name}: α* by brute force", best[i], expected, 5e-4),
            Check.near(f"{name}: α* in closed form", closed, best[i], 1 / ALPHAS),
            Check.near(f"{name}: α of trained SAEs", trained[i], closed, 5e-3),
            Check.near(f"{name}: local minima", float(minima.sum()), 1.0, 0.0),
        ]
    checks += [
        Check.near("P(1 alone) = 0.3: loss at α*", float(curves[0].min()), 0.0697, 5e-5),
        Check.near("P(1 alone) = 0.3: loss of the parent, α = 0", float(curves[0][0]), 0.1, 1e-12),
        Check.near("P(1 alone) = 0.1: loss at α*", float(curves[2].min()), 0.0459, 5e-5),
        Check.near("P(1 alone) = 0.1: loss of the parent, α = 0", float(curves[2][0]), 0.3, 1e-12),
        Check.true("0 < α* < .5: more parent than child, never only one",
                   all(0 < each < 0.5 for each in best)),
        Check.near("shift of α* by λ = .1, first world", best[1] - best[0], 0.002, 5e-4),
        Check.near("shift of α* by λ = .1, second world", best[3] - best[2], 0.001, 5e-4),
    ]  # fmt: skip
    thin = torch.arange(0, ALPHAS + 1, ALPHAS // 100)
    figure = TrainingCurves(
        title="Loss of a single latent",
        step_label="α in %: from parent to child",
        curves=tuple(
            Curve(
                metric=f"loss_{states.p10:g}",
                label=f"P(1 alone) = {states.p10:g}, P(both) = {states.p11:g}",
                bands=tuple(
                    line(f"λ = {FIGURE_6[j][1]:g}", grid[thin], curves[j][thin]) for j in (i, i + 1)
                ),
                definition=f"Least at α = {best[i]:.4f} and {best[i + 1]:.4f}.",
            )
            for i, states in ((0, FIGURE_6[0][0]), (2, FIGURE_6[2][0]))
        ),
        sentence="The minimum lies between the two features, with and without a penalty.",
    )
    return Result(checks=tuple(checks), members=len(SEEDS), sections=(figure,))


def _trained_alpha(steps: int) -> Float[Tensor, "setting seed"]:
    """Where single latents of unit length end that are trained on the four settings."""
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    starts = [tied_random(1.0)(generator, 1, 2)[0].abs() for generator in generators]
    sae = SAE(
        torch.stack(starts * len(FIGURE_6)),
        None,
        sparsifier=ReLU(),
        frozen=("b_enc", "b_dec"),
        decoder_norm="unit",
    )
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    weight = torch.tensor(
        [[s.p10, s.p11, s.p00] for s, _, _ in FIGURE_6 for _ in SEEDS], dtype=torch.float64
    )
    l1 = [coefficient for _, coefficient, _ in FIGURE_6 for _ in SEEDS]
    config = TrainingConfig(
        steps=steps, lr=1e-2, lr_decay_steps=steps // 2, log_every=steps, checkpoint_every=None
    )
    objective = Objective([SquaredError(), Lp(l1)])
    fit(sae, objective, itertools.repeat(WeightedBatch(x, weight)), config, progress=False)
    row = sae.W_dec.detach()[:, 0]
    return (row[:, 1] / row.sum(-1)).reshape(len(FIGURE_6), len(SEEDS))


def least_squares(
    enumeration: Enumeration, tracked: Sequence[int]
) -> tuple[Float64[Tensor, "latent feature"], Float64[Tensor, " feature"]]:
    """The decoder and bias of least expected error for an oracle encoder, by brute force."""
    root = enumeration.probability.double().sqrt().unsqueeze(-1)
    magnitudes = enumeration.magnitudes.double()
    z = torch.cat([torch.ones_like(root), magnitudes[:, list(tracked)]], dim=1)
    found = torch.linalg.lstsq(root * z, root * magnitudes).solution
    return found[1:], found[0]


def scaled(enumeration: Enumeration, magnitudes: Sequence[float]) -> Enumeration:
    """The same states with other magnitudes, features along the axes."""
    values = enumeration.firing * torch.tensor(magnitudes, dtype=torch.float64)
    return Enumeration(
        firing=enumeration.firing,
        magnitudes=values,
        x=values,
        probability=enumeration.probability,
    )


def theorem_cases(quick: bool) -> Result:
    """Cases A to D and the form that contains them, against least squares over all states."""
    names = ("A: independent", "B: child", "C: exclusive", "general", "D: full width")
    gaps: dict[str, list[float]] = {name: [] for name in names}
    first, second = 0.25, 0.05
    for m_i, m_k in MAGNITUDES:
        sizes = {"tracked_magnitude": m_i, "orphan_magnitude": m_k}
        cases = {
            "A: independent": (
                PairStates.from_conditionals(first, given=0.2, otherwise=0.2),
                hedging.independent_orphan(0.2, **sizes),
            ),
            "B: child": (
                PairStates.from_conditionals(first, given=second / first),
                hedging.child_orphan(first, second, **sizes),
            ),
            "C: exclusive": (
                PairStates(p11=0.0, p10=first, p01=0.15),
                hedging.exclusive_orphan(first, 0.15, **sizes),
            ),
        }
        for name, (states, weights) in cases.items():
            gaps[name].append(_off(states, (m_i, m_k), weights))
        for rate, given, otherwise in CONDITIONALS:
            states = PairStates.from_conditionals(rate, given=given, otherwise=otherwise)
            weights = hedging.pair_weights(given=given, otherwise=otherwise, **sizes)
            gaps["general"].append(_off(states, (m_i, m_k), weights))
            world = scaled(states.enumeration(), (m_i, m_k))
            v, bias = least_squares(world, [0, 1])
            gaps["D: full width"] += [
                float((v - torch.eye(2)).abs().max()),
                float(bias.abs().max()),
            ]
    # with more tracked features of any dependence: the regression that the library uses
    worlds = [hedging_theorem.suppressed_independence(), hedging_theorem.screened_correlation()]
    several = []
    for world in worlds:
        decoder = hedging.oracle_decoder(world, [0, 1])
        v, bias = least_squares(world, [0, 1])
        several += [float((decoder.weights - v).abs().max())]
        several += [float((decoder.bias - bias).abs().max())]
    checks = [
        Check.band(f"{name}: largest gap to least squares", max(values), 0.0, 1e-12)
        for name, values in gaps.items()
    ]
    checks.append(
        Check.band("two tracked of three: gap of the regression", max(several), 0.0, 1e-12)
    )
    table = MetricsTable(
        title="One latent and one orphan, at magnitudes 1",
        columns=(
            _column("v", "V_ik", "How much of the orphan the latent carries."),
            _column("v0", "V_0k", "How much of it the decoder bias carries."),
            _column("cosine", "cosine", "Of the latent's decoder row with the orphan."),
        ),
        rows=tuple(
            Row(
                name=f"P(k | i) = {given:g}, P(k | not i) = {otherwise:g}",
                kind="oracle",
                cells={
                    "v": Cell(mean=weights.latent),
                    "v0": Cell(mean=weights.bias),
                    "cosine": Cell(mean=weights.cosine),
                },
            )
            for _, given, otherwise in CONDITIONALS
            for weights in [hedging.pair_weights(given=given, otherwise=otherwise)]
        ),
    )
    return Result(checks=tuple(checks), sections=(table,))


def _off(
    states: PairStates, magnitudes: tuple[float, float], weights: hedging.PairWeights
) -> float:
    v, bias = least_squares(scaled(states.enumeration(), magnitudes), [0])
    return max(abs(float(v[0, 1]) - weights.latent), abs(float(bias[1]) - weights.bias))


def theorem_statement(quick: bool) -> Result:
    """The theorem's claims where tracked features are independent, and where they are not."""
    independent = _independent_worlds(50)
    gaps, signs = [], []
    for world in independent:
        v, _ = least_squares(world, [0, 1])
        for i in (0, 1):
            a, k = world.magnitudes[:, i], world.magnitudes[:, 2]
            mean_a, mean_k = world.probability @ a, world.probability @ k
            covariance = world.probability @ ((a - mean_a) * (k - mean_k))
            gaps.append(abs(float(v[i, 2] - covariance / (mean_a * (1 - mean_a)))))
            signs.append(bool((v[i, 2].abs() > 1e-9) == (covariance.abs() > 1e-9)))
    suppressed = hedging_theorem.suppressed_independence()
    screened = hedging_theorem.screened_correlation()
    v, bias = least_squares(suppressed, [0, 1])
    chain, _ = least_squares(screened, [0, 1])
    child = PairStates.from_conditionals(0.25, given=0.2).enumeration()
    weight, _ = least_squares(child, [0])
    checks = (
        Check.band(
            "independent tracked, 50 random worlds: largest |V - Cov / Var|", max(gaps), 0.0, 1e-12
        ),
        Check.true("there V is 0 exactly where the covariance is", all(signs)),
        Check.near("suppressed: covariance of tracked 1 and orphan", _covariance(suppressed), 0.0,
                   1e-12),
        Check.near("suppressed: weight of the orphan in latent 1", float(v[1, 2]), -4 / 21, 1e-9),
        Check.near("suppressed: weight in latent 0", float(v[0, 2]), 10 / 21, 1e-9),
        Check.near("suppressed: bias", float(bias[2]), 5 / 14, 1e-9),
        Check.true(
            "suppressed: the theorem predicts no hedging",
            not hedging_theorem.hedges_as_printed(suppressed, latent=1, orphan=2),
        ),
        Check.near("chain: covariance of tracked 1 and orphan", _covariance(screened), 0.09, 1e-12),
        Check.near("chain: weight of the orphan in latent 1", float(chain[1, 2]), 0.0, 1e-12),
        Check.true(
            "chain: the theorem predicts hedging",
            hedging_theorem.hedges_as_printed(screened, latent=1, orphan=2),
        ),
        Check.near("child: weight", float(weight[0, 1]), 0.2, 1e-12),
        Check.near(
            "child: partial correlation times magnitude ratio, as printed",
            hedging_theorem.weight_as_printed(child, [0], latent=0, orphan=1),
            0.397,
            5e-4,
        ),
    )  # fmt: skip
    return Result(checks=checks)


def _covariance(world: Enumeration) -> float:
    means = world.probability @ world.magnitudes
    both = world.probability @ (world.magnitudes[:, 1] * world.magnitudes[:, 2])
    return float(both - means[1] * means[2])


def _independent_worlds(count: int) -> list[Enumeration]:
    """Two independent features at random rates, and a third that depends on both at will.

    In every other world the third does not depend on the second.
    """
    generator = torch.Generator().manual_seed(0)
    firing = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    a, b, c = firing.T
    worlds = []
    for i in range(count):
        rate_a, rate_b, *chances = (0.1 + 0.8 * torch.rand(6, generator=generator)).double()
        table = torch.stack(chances).reshape(2, 2)
        if i % 2:
            table = table[:, :1].expand(2, 2)
        chance = table[a.long(), b.long()]
        probability = (
            torch.where(a > 0, rate_a, 1 - rate_a)
            * torch.where(b > 0, rate_b, 1 - rate_b)
            * torch.where(c > 0, chance, 1 - chance)
        )
        worlds.append(
            Enumeration(firing=firing > 0, magnitudes=firing, x=firing, probability=probability)
        )
    return worlds


def matched_filter(quick: bool) -> Result:
    """Corollary A.4.7: the best encoder row for a decoder row, by least squares."""
    generator = torch.Generator().manual_seed(0)
    gaps, flat = [], []
    for _ in range(20):
        d_in, rank, patterns = 6, 3, 12
        span = torch.linalg.qr(
            torch.randn(d_in, d_in, generator=generator, dtype=torch.float64)
        ).Q.T
        x = torch.randn(patterns, rank, generator=generator, dtype=torch.float64) @ span[:rank]
        d = torch.randn(d_in, generator=generator, dtype=torch.float64)
        probability = torch.rand(patterns, generator=generator, dtype=torch.float64)
        best = best_encoder(x, d, probability)
        w = hedging.matched_filter(d.unsqueeze(0))[0]
        gaps.append(float((x @ (best - w)).abs().max()))
        moved = w + span[rank:].sum(0)  # orthogonal to every activation
        flat.append(abs(_error(x, d, moved, probability) - _error(x, d, w, probability)))
    states = PairStates.from_conditionals(0.25, given=0.2, otherwise=0.1)
    decoder = hedging.oracle_decoder(states.enumeration(), [0])
    w = hedging.matched_filter(decoder.W_dec)[0]
    orphan = torch.tensor([0.0, 1.0], dtype=torch.float64)
    alone = float(w @ (orphan - decoder.b_dec))
    checks = (
        Check.band("z of least squares - z of d / |d|², 20 random worlds", max(gaps), 0.0, 1e-12),
        Check.band("change of loss off the span of the activations", max(flat), 0.0, 1e-12),
        Check.near("positive correlation: decoder's weight of the orphan",
                   float(decoder.W_dec[0, 1]), 0.1, 1e-12),
        Check.near("positive correlation: matched encoder's weight of it", float(w[1]), 0.1 / 1.01,
                   1e-12),
        Check.band("its pre-activation on the orphan alone: it fires", alone, 1e-3, math.inf),
    )  # fmt: skip
    note = (
        "The corollary supposes that the latent fires exactly with its feature. With positive "
        f"correlation the encoder it derives fires, at {alone:.3f}, when the orphan is alone "
        f"(probability {states.p01:g}), so that the supposition refutes itself: probably why "
        "trained latents hedge more than the theory says."
    )
    return Result(checks=checks, note=note)


def best_encoder(
    x: Float64[Tensor, "pattern d_in"],
    d: Float64[Tensor, " d_in"],
    probability: Float64[Tensor, " pattern"],
) -> Float64[Tensor, " d_in"]:
    """The row w that minimises the expected $|x - (w · x) d|^2$: the least-norm solution."""
    root = probability.sqrt()
    # one equation for each pattern and dimension: d_j (x · w) = x_j
    left = (root[:, None, None] * d[None, :, None] * x[:, None, :]).reshape(-1, x.shape[1])
    right = (root[:, None] * x).reshape(-1, 1)
    return torch.linalg.lstsq(left, right, driver="gelsd").solution[:, 0]


def _error(x: Tensor, d: Tensor, w: Tensor, probability: Tensor) -> float:
    return float(probability @ (x - (x @ w).unsqueeze(-1) * d).square().sum(-1))


def gain(quick: bool) -> Result:
    """Appendix A.13: what a latent of its own gains, with the gate and without."""
    world = presets.absorption().enumerate(dtype=torch.float64)
    world = scaled(world, [1.0] * 4)  # along the axes, free of rounding
    features = torch.eye(4, dtype=torch.float64)
    rates = world.probability @ world.firing.double()
    printed, gated = [], []
    for i, f in enumerate(features):
        norm = world.x.square().sum(-1)
        printed.append(world.probability @ (norm - (world.x - f).square().sum(-1)))
        part = world.magnitudes[:, i : i + 1] * f
        gated.append(world.probability @ (norm - (world.x - part).square().sum(-1)))
    ungated = [single_latent.reconstruction_gain_as_printed(float(p)) for p in rates]
    right = [single_latent.reconstruction_gain(float(p)) for p in rates]
    states = FIGURE_6[0][0]
    mixture = float(single_latent.tied_error(single_latent.optimal_angle(states), states))
    parent, child = (float(single_latent.tied_error(a, states)) for a in (0.0, math.pi / 2))
    checks = (
        Check.band("eq 25 as printed: largest gap to 2p - 1",
                   _gap(printed, ungated), 0.0, 1e-9),
        Check.near("as printed, parent at rate .25: a loss, not a gain", float(printed[0]), -0.5,
                   1e-6),
        Check.band("with the gate: largest gap to p",
                   _gap(gated, right), 0.0, 1e-9),
        Check.true("the parent gains more than the child", bool(gated[0] > gated[1])),
        Check.true("one latent: the parent beats the child", parent < child),
        Check.true("one latent: a mixture beats the parent", mixture < parent),
    )  # fmt: skip
    return Result(checks=checks)


def ranking(quick: bool) -> Result:
    """Which features a narrow SAE should track, by trying every choice."""
    rates = torch.tensor([0.9, 0.7, 0.5, 0.35, 0.2, 0.1], dtype=torch.float64)
    magnitudes = torch.tensor([1.0, 1.05, 0.9, 1.1, 1.2, 1.5], dtype=torch.float64)
    firing = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * len(rates))
    values = firing * magnitudes
    chance = torch.where(firing > 0, rates, 1 - rates).prod(-1)
    world = Enumeration(firing=firing > 0, magnitudes=values, x=values, probability=chance)
    variance = single_latent.loss_without_latent(rates, magnitudes)
    printed = single_latent.loss_without_latent_as_printed(rates, magnitudes)
    chosen, wrong, gaps = [], [], []
    for width in range(1, len(rates)):
        errors = {
            kept: hedging.oracle_decoder(world, kept).error
            for kept in itertools.combinations(range(len(rates)), width)
        }
        best = min(errors, key=lambda kept: errors[kept])
        chosen.append(errors[_first(variance, width)] - errors[best])
        wrong.append(errors[_first(printed, width)] - errors[best])
        gaps += [
            abs(error - float(variance.sum() - variance[list(kept)].sum()))
            for kept, error in errors.items()
        ]
    checks = (
        Check.band("choice by p (1 - p) m²: error above the best", max(chosen), 0.0, 1e-9),
        Check.band("error of every choice: largest gap to the variances left out", max(gaps), 0.0,
                   1e-9),
        Check.band("choice by p m²: least error above the best", min(wrong), 1e-3, math.inf),
    )  # fmt: skip
    return Result(checks=checks)


def expected_mse(quick: bool) -> Result:
    """Source 004's world of twenty features: is feature 12 too small to deserve a latent?"""
    i = torch.arange(20, dtype=torch.float64)
    rates, magnitudes = 0.3 * (i + 1) / 20, 20 - i
    rates[12] = 1 - (1 - rates[12]) * (1 - rates[5]) * (1 - rates[7])
    printed = single_latent.loss_without_latent_as_printed(rates, magnitudes)
    variance = single_latent.loss_without_latent(rates, magnitudes)
    checks = (
        Check.near("rate of feature 12 once 5 and 7 switch it on", float(rates[12]), 0.355, 1e-3),
        Check.near("its p m²", float(printed[12]), 22.7, 0.05),
        Check.near("feature with the largest p m²", float(printed.argmax()), 12.0, 0.0),
        Check.near("its variance", float(variance[12]), 14.7, 0.05),
        Check.true(
            "the five largest variances are 4 to 8", set(_first(variance, 5)) == {4, 5, 6, 7, 8}
        ),
        Check.true("the five largest p m² are not", set(_first(printed, 5)) != {4, 5, 6, 7, 8}),
    )
    return Result(checks=checks)


def _gap(a: Sequence[Tensor], b: Sequence[float]) -> float:
    return max(abs(float(x) - y) for x, y in zip(a, b, strict=True))


def _first(loss: Float[Tensor, " feature"], width: int) -> tuple[int, ...]:
    return tuple(sorted(single_latent.ranking(loss)[:width].tolist()))


def _column(key: str, label: str, definition: str) -> Column:
    return Column(key=key, label=label, direction="none", definition=definition)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="002-fig-6",
        source="002",
        title="Squared error alone makes a single latent hedge",
        claim="The loss of a tied SAE with one latent has a single minimum, between the parent and "
        "the sum of parent and child, with or without a sparsity penalty.",
        setup="One latent of unit length, no bias, two features of which 2 fires only with 1; "
        "P(1 alone), P(both) of .3, .1 and .1, .3; λ of 0 and .1. Loss at 10001 values of α over "
        "all states; the closed form; and six members trained on the expectation from random "
        "starts in the positive quadrant.",
        run=figure_6,
        errors='The captions say that the sparsity penalty "does not change the minimum". It '
        "moves it, a little and towards the child: at λ = .1 by .002 and .001 in α.",
    ),
    Entry(
        id="002-theorem-a4",
        source="002",
        title="The decoder of a too-narrow SAE",
        claim="For an oracle encoder the best decoder is a regression: nothing of an independent "
        "orphan in the latent (A), P(k | i) of a child (B), a negative part of an exclusive "
        "feature (C), and nothing at full width (D); scaled by magnitudes.",
        setup="Weighted least squares over all states, magnitudes (1, 1) and (2, 3), float64.",
        run=theorem_cases,
        errors="Nothing is wrong here, but the cases are one formula, which the source does not "
        "give: V_ik = (m_k / m_i) [P(k | i) - P(k | not i)] and V_0k = m_k P(k | not i). In case B "
        "the bias is 0.",
    ),
    Entry(
        id="002-theorem-a4-statement",
        source="002",
        title="What the hedging theorem states",
        claim="A latent hedges an orphan if and only if the two are correlated, by their partial "
        "correlation times the ratio of their magnitudes.",
        setup="50 random worlds with independent tracked features; two counterexamples with "
        "dependent ones; a parent and its child. Least squares over all states.",
        run=theorem_statement,
        errors="True for independent tracked features only, which is all that its proof covers. "
        "The weight is the partial regression coefficient. Hedging without correlation: features 1 "
        "and 2 independent, P(0) = .1 + .4 a1 + .4 a2, with 0 and 1 tracked. Correlation without "
        "hedging: a chain 1 ← 0 → 2. And the size is not the partial correlation even for one "
        "latent: .2, not .397.",
    ),
    Entry(
        id="002-corollary-a4-7",
        source="002",
        title="Hedging is symmetric",
        claim="If the latent fires exactly with its feature, the best encoder row for a decoder "
        "row d is d / |d|².",
        setup="Least squares over encoder rows in 20 random worlds of rank 3 in 6 dimensions; the "
        "positively correlated pair, P(k | i) = .2 and P(k | not i) = .1.",
        run=matched_filter,
        errors="The row is unique on the span of the activations only. And its premise fails for "
        "positively correlated features, whose hedged encoder fires on the orphan alone.",
    ),
    Entry(
        id="002-a13",
        source="002",
        title="Parents are worth more than children",
        claim="The squared error falls, by representing a feature, in proportion to how often it "
        "fires; so a single latent learns the parent.",
        setup="The toy world of absorption, every state enumerated; the first world of figure 6.",
        run=gain,
        errors="Equation 25 lacks the gate: E[2x · f - 1] = 2p - 1 is not proportional to p, and "
        "negative for p < ½. With the gate, E|x|² - E|x - a m f|² = p m². Even so the parent is "
        "not the minimum for a single latent; the mixture of figure 6 is.",
    ),
    Entry(
        id="002-ranking",
        source="002",
        title="Which features deserve a latent",
        claim="A narrow SAE gains most from the features that fire most.",
        setup="Six independent features at rates from .9 to .1; the best decoder for every choice "
        "of 1 to 5 tracked features, by brute force.",
        run=ranking,
        errors="The decoder bias takes the mean, so that what a latent can gain is the variance "
        "p (1 - p) m² and not p m².",
    ),
    Entry(
        id="004-expected-mse",
        source="004",
        title="A feature too small to be represented?",
        claim="Feature 12 has too small an expected squared error to be given a latent of its own.",
        setup="Twenty features, p_i = .3 (i + 1) / 20, magnitude 20 - i; 5 and 7 switch 12 on.",
        run=expected_mse,
        errors="By p m² it has the largest of all, 22.7. By its variance, which is what counts "
        "beside a bias, it is indeed too small: 14.7, where 4 to 8 have more.",
    ),
)
