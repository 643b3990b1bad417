"""Source 002, theorem A.4: its cases, and the form that contains them."""

import torch

from latent_assay.report import Cell, MetricsTable, Row
from latent_assay.reproductions.columns import column
from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.gap import gap
from latent_assay.reproductions.hedging_theory.least_squares import least_squares, scaled
from latent_assay.theory import PairStates, hedging, hedging_theorem

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
                gap(v, torch.eye(2)),
                float(bias.abs().max()),
            ]
    # with more tracked features of any dependence: the regression that the library uses
    worlds = [hedging_theorem.suppressed_independence(), hedging_theorem.screened_correlation()]
    several = []
    for world in worlds:
        decoder = hedging.oracle_decoder(world, [0, 1])
        v, bias = least_squares(world, [0, 1])
        several += [gap(decoder.weights, v)]
        several += [gap(decoder.bias, bias)]
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
            column("v", "V_ik", "How much of the orphan the latent carries."),
            column("v0", "V_0k", "How much of it the decoder bias carries."),
            column("cosine", "cosine", "Of the latent's decoder row with the orphan."),
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


ENTRIES: tuple[Entry, ...] = (
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
)
