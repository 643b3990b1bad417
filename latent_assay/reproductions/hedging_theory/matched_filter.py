"""Source 002, corollary A.4.7: the encoder row that fits a decoder row."""

import math

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.reproductions.entry import Check, Entry, Result
from latent_assay.theory import PairStates, hedging


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


ENTRIES: tuple[Entry, ...] = (
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
)
