"""What samples must agree with, within five standard errors computed from their number."""

import math

import numpy as np
import torch
from scipy.stats import binom, chi2, norm
from torch import Tensor

from latent_assay.worlds import Firing, Patterns


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# One-sided chance of five standard errors, for counts too small to be nearly normal.
FIVE_ERRORS = norm.sf(5)


def assert_probability(measured: float, expected: float, n: int) -> None:
    """A share of `n` trials against the probability of each, by the exact binomial tails."""
    count, expected = round(measured * n), min(max(expected, 0.0), 1.0)
    tail = min(binom.cdf(count, n, expected), binom.sf(count - 1, n, expected))
    assert tail >= FIVE_ERRORS, (measured, expected, tail)


def assert_probabilities(measured: Tensor, expected: Tensor, n: int) -> None:
    assert measured.shape == expected.shape
    for got, truth in zip(measured.tolist(), expected.tolist(), strict=True):
        assert_probability(got, truth, n)


def assert_mean(values: Tensor, expected: float) -> None:
    error = values.double().std().item() / math.sqrt(values.numel())
    assert abs(values.double().mean().item() - expected) <= 5 * error


def assert_sd(values: Tensor, expected: float) -> None:
    """The error of a variance from the fourth moment, so for any distribution."""
    centred = values.double() - values.double().mean()
    variance = centred.square().mean().item()
    error = math.sqrt((centred.pow(4).mean().item() - variance**2) / values.numel())
    assert abs(variance - expected**2) <= 5 * error


def assert_drawn_from(fires: Tensor, patterns: Patterns) -> None:
    """Pearson's chi-square test of samples against a law's patterns; one in 10^6 fails by luck."""
    n = fires.shape[0]
    places = {tuple(row): i for i, row in enumerate(patterns.firing.tolist())}
    counts = np.zeros(len(places))
    for row, count in zip(*torch.unique(fires, dim=0, return_counts=True), strict=True):
        assert tuple(row.tolist()) in places, f"{row} was drawn but is not among the patterns"
        counts[places[tuple(row.tolist())]] = count.item()
    expected = patterns.probability.numpy() * n
    often = expected >= 10
    # the rare patterns together make one more cell
    seen = np.append(counts[often], counts[~often].sum())
    hoped = np.append(expected[often], expected[~often].sum())
    seen, hoped = seen[hoped > 0], hoped[hoped > 0]
    statistic = ((seen - hoped) ** 2 / hoped).sum()
    assert chi2.sf(statistic, max(len(hoped) - 1, 1)) > 1e-6


def assert_law_holds(law: Firing, n: int = 40_000, seed: int = 1) -> None:
    """What every finite law must obey."""
    patterns = law.patterns()
    assert patterns.probability.min() > 0
    assert abs(patterns.probability.sum().item() - 1) < 1e-9
    assert torch.unique(patterns.firing, dim=0).shape == patterns.firing.shape
    exact = patterns.probability @ patterns.firing.double()
    if law.marginals is not None:
        torch.testing.assert_close(law.marginals, exact, atol=1e-12, rtol=0)
    for parent, child in law.forest.links:
        assert not (patterns.firing[:, child] & ~patterns.firing[:, parent]).any()
    fires = law.sample(n, seeded(seed))
    assert fires.shape == (n, law.n_features)
    assert fires.dtype == torch.bool
    assert_probabilities(fires.double().mean(dim=0), exact, n)
    assert_drawn_from(fires, patterns)


def assert_same_law(left: Tensor, right: Tensor) -> None:
    """Two samples of patterns against each other, by the chi-square test of homogeneity."""
    both = torch.cat([left, right])
    _, which = torch.unique(both, dim=0, return_inverse=True)
    counts = np.stack(
        [
            torch.bincount(part, minlength=int(which.max()) + 1).numpy()
            for part in (which[: len(left)], which[len(left) :])
        ]
    )
    often = counts.sum(axis=0) >= 20
    # the rare patterns together make one more cell
    cells = np.column_stack([counts[:, often], counts[:, ~often].sum(axis=1)])
    cells = cells[:, cells.sum(axis=0) > 0]
    shares = counts.sum(axis=1, keepdims=True) / counts.sum()
    expected = shares * cells.sum(axis=0)
    statistic = ((cells - expected) ** 2 / expected).sum()
    assert chi2.sf(statistic, max(cells.shape[1] - 1, 1)) > 1e-6
