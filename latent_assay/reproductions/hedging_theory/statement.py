"""Source 002, theorem A.4: when a latent hedges, and by how much."""

import torch

from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.hedging_theory.least_squares import least_squares
from latent_assay.theory import PairStates, hedging_theorem
from latent_assay.worlds import Enumeration


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


ENTRIES: tuple[Entry, ...] = (
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
)
