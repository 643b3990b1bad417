"""Theorem 1: the true directions as a minimiser, and what that needs."""

import itertools
import math
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.reproductions.identifiability.descent import descend, one_sparse, starts
from latent_assay.reproductions.identifiability.toy import toy_steps, toy_world
from latent_assay.theory import identifiability, minimisers
from latent_assay.theory.top_k import top_k


def pentagon() -> Float64[Tensor, "5 2"]:
    """Five unit vectors in the plane, 72° apart: positive interference cannot be avoided."""
    angle = torch.arange(5, dtype=torch.float64) * 2 * math.pi / 5
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def axes(d_in: int) -> Float64[Tensor, "feature d_in"]:
    """Both directions of every axis: as many features as ReLU can serve."""
    eye = torch.eye(d_in, dtype=torch.float64)
    return torch.cat([eye, -eye])


def least_interference(count: int, d_in: int, *, steps: int = 400) -> float:
    """The smallest largest inner product of so many unit vectors that a search finds."""

    def loss(W: Tensor) -> Tensor:
        rows = torch.nn.functional.normalize(W, dim=-1)
        gram = rows @ rows.mT - 2 * torch.eye(count, dtype=torch.float64)
        return (60 * gram).flatten(1).logsumexp(-1) / 60

    W, _ = descend(loss, starts(40, count, d_in), steps=steps, lr=0.05)
    rows = torch.nn.functional.normalize(W, dim=-1)
    gram = rows @ rows.mT - 2 * torch.eye(count, dtype=torch.float64)
    return float(gram.flatten(1).amax(-1).min())


def _theorem_1(quick: bool) -> Result:
    F = axes(3)
    length = 0.8
    short = identifiability.one_sparse_losses(length * F, length * F)
    five = pentagon()
    top_1 = partial(top_k, k=1)
    row = torch.tensor([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1], [0, 0.6, 0.8]], dtype=torch.float64)
    kept = top_k(row @ row.mT, k=2)[0]
    world = toy_world(0.99, toy_steps(quick))
    directions = world.directions.double()
    energy = directions.square().sum()
    truth = identifiability.one_sparse_losses(directions, directions).sum() / energy
    _, found = descend(one_sparse(directions), directions[None], steps=60, lr=0.01)
    gram = directions @ directions.mT
    pairs = gram[~torch.eye(len(gram), dtype=torch.bool)]
    represented = directions.norm(dim=-1) > 0.5
    unit = directions[represented] / directions[represented].norm(dim=-1, keepdim=True)
    alone = identifiability.one_sparse_losses(unit, unit, sparsifier=top_1)
    checks = (
        Check.near(
            "error of W = F, axes in both directions, ReLU",
            float(identifiability.one_sparse_losses(F, F).max()),
            0.0,
            1e-12,
        ),
        Check.near(
            "directions of length .8: error per feature",
            float(short.mean()),
            length**2 * (1 - length**2) ** 2,
            1e-12,
        ),
        Check.band(
            "pentagon, ReLU: error per feature",
            float(identifiability.one_sparse_losses(five, five).min()),
            0.01,
            math.inf,
        ),
        Check.near(
            "pentagon, Top-1: error",
            float(identifiability.one_sparse_losses(five, five, sparsifier=top_1).max()),
            0.0,
            1e-12,
        ),
        Check.band(
            "least positive interference of 6 unit vectors in 3 dimensions (search)",
            least_interference(6, 3),
            -math.inf,
            0.03,
        ),
        Check.band(
            "the same of 7, one more than 2d",
            least_interference(7, 3),
            0.1,
            math.inf,
        ),
        Check.near("latents that Top-2 keeps on the gram row (1, .6, 0, 0)",
                   float((kept != 0).sum()), 2.0, 0.0),
        Check.true("largest k there is 1, not the 4 of the printed bound",
                   minimisers.largest_k(row, 4) == 1
                   and minimisers.largest_k_as_printed(row, 4) == 4),
        Check.band("the source's toy (200 in 20): share of pairs with positive interference",
                   float((pairs > 1e-3).double().mean()), 0.05, 1.0),
        Check.band("there, error of W = F with ReLU, relative to the activation; not zero",
                   float(truth), 1e-3, math.inf),
        Check.band("there, 60 steps of descent from W = F divide that error by",
                   float(truth * energy / found[0]), 2.0, math.inf),
        Check.near("there, Top-1 on the represented directions at length 1: error",
                   float(alone.max()), 0.0, 1e-10),
    )  # fmt: skip
    return Result(
        checks=checks,
        note=(
            "For ReLU the theorem holds for at most 2d features, pairwise at right or obtuse "
            "angles. In the source's own experiment W = F is not even a local minimiser. Top-1 "
            "keeps the theorem for any distinct unit directions."
        ),
    )


def single_feature_shares(n: int, sparsity: float) -> tuple[float, float]:
    """P(exactly one fires | some fires), by enumerating all patterns of few features; and formula.

    **Returns:** enumerated, closed form.
    """
    one = some = 0.0
    for pattern in itertools.product([0, 1], repeat=n):
        chance = math.prod(1 - sparsity if bit else sparsity for bit in pattern)
        one += chance * (sum(pattern) == 1)
        some += chance * (sum(pattern) > 0)
    return one / some, identifiability.one_sparse_probability(n, sparsity)


def _sparse_limit(quick: bool) -> Result:
    F = 0.8 * minimisers.simplex(3)
    n, sparsity = len(F), 0.9999
    W = F + 0.3 * starts(1, n, 3)[0]
    patterns = torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)
    fires = patterns.sum(-1)
    chance = (1 - sparsity) ** fires * sparsity ** (n - fires)
    exact = identifiability.sae_loss(W, F, patterns, chance)
    limit = identifiability.sparse_limit(W, F, sparsity, second_moment=1.0)
    printed = identifiability.sparse_limit_as_printed(W, F, sparsity)
    enumerated, formula = single_feature_shares(8, 0.95)
    at = [identifiability.one_sparse_probability(200, s) for s in (0.99, 0.999, 0.9999)]
    uniform = identifiability.sparse_limit(W, F, sparsity)
    checks = (
        Check.near("P(one fires | some fires), 8 features: enumerated less formula",
                   enumerated - formula, 0.0, 1e-12),
        Check.near("that probability for n = 200 at S = .99", at[0], 0.31, 0.005),
        Check.near("at S = .999", at[1], 0.90, 0.005),
        Check.near("at S = .9999", at[2], 0.99, 0.005),
        Check.near("expected loss at S = .9999, enumerated, over its limit (corrected eq. 19)",
                   float(exact / limit), 1.0, 2e-3),
        Check.near("printed eq. 19 over the corrected one, constant magnitudes (n)",
                   float(printed / limit), float(n), 1e-9),
        Check.near("the same for magnitudes U[0, 1] (3 n)",
                   float(printed / uniform), 3.0 * n, 1e-9),
    )  # fmt: skip
    return Result(
        checks=checks,
        note=(
            "The limit is slow: with 200 features at S = .99, the sparsity of many toy worlds, "
            "only 31% of the samples in which anything fires have a single feature."
        ),
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        id="003-theorem-1",
        source="003",
        title="Theorem 1: the truth is a minimiser",
        claim=(
            "With extremely sparse features and as many latents as features, the true directions "
            "are a minimiser of the SAE's loss, for ReLU and for Top-k."
        ),
        setup=(
            "Errors on single features in closed form; a search for unit vectors with little "
            "interference; descent from the truth in the toy of 200 features in 20 dimensions."
        ),
        run=_theorem_1,
        errors=(
            "It needs more than it states: directions of length 1, and for ReLU no positive inner "
            "product, which at most 2d vectors can have. Top-k is said to work for 1 < k ≤ n_m − p "
            "whatever the interference; with any positive one only k = 1, left out, works."
        ),
    ),
    Entry(
        id="003-sparse-limit",
        source="003",
        title="Equation 19: the loss in the limit of extreme sparsity",
        claim=(
            "As S tends to 1 a single feature fires at a time, and the loss becomes the sum of the "
            "errors on single features."
        ),
        setup="Enumeration of every firing pattern of 4 and 8 features.",
        run=_sparse_limit,
        errors=(
            "Equation 19 counts the features twice (factor n and a sum), lacks the square of the "
            "magnitude, and sums SⁿL(0) over features; W_pᵀσ should read W_pσ. Correct: "
            "S^(n−1)(1−S)E[m²]Σ_u L_u. The set-up sentence lacks 'with probability S'."
        ),
    ),
)
