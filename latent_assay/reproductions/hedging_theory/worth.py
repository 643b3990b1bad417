"""Sources 002 and 004: what a latent of its own is worth to a feature."""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.gap import gap
from latent_assay.reproductions.hedging_theory.least_squares import scaled
from latent_assay.reproductions.hedging_theory.tied_curve import FIGURE_6
from latent_assay.theory import hedging, single_latent
from latent_assay.worlds import Enumeration, presets


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
                   gap(torch.stack(printed), rates.new_tensor(ungated)), 0.0, 1e-9),
        Check.near("as printed, parent at rate .25: a loss, not a gain", float(printed[0]), -0.5,
                   1e-6),
        Check.band("with the gate: largest gap to p",
                   gap(torch.stack(gated), rates.new_tensor(right)), 0.0, 1e-9),
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


def _first(loss: Float[Tensor, " feature"], width: int) -> tuple[int, ...]:
    return tuple(sorted(single_latent.ranking(loss)[:width].tolist()))


ENTRIES: tuple[Entry, ...] = (
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
