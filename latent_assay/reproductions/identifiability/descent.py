"""Descent from many random starts at once: which minimisers there are."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
"""Weights `[start, latent, d_in]` → a loss for each start."""


def starts(
    count: int, latents: int, d_in: int, *, seed: int = 0
) -> Float64[Tensor, "start latent d_in"]:
    """Standard normal weights."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, latents, d_in, generator=generator, dtype=torch.float64)


def descend(
    loss: Loss, start: Float64[Tensor, "start latent d_in"], *, steps: int = 800, lr: float = 0.05
) -> tuple[Float64[Tensor, "start latent d_in"], Float64[Tensor, " start"]]:
    """Where Adam, its learning rate falling along a cosine, arrives from each start, and the loss.

    Starts do not influence each other: Adam scales every entry on its own.
    """
    W = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([W], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(W).sum().backward()
        optimiser.step()
        schedule.step()
    return W.detach(), loss(W.detach())


def one_sparse(
    directions: Float[Tensor, "feature d_in"], sparsifier: Callable[[Tensor], Tensor] = torch.relu
) -> Loss:
    r"""$\sum_u \|f_u - W^\top \sigma(W f_u)\|^2$ of every start."""
    rows = directions.double()

    def loss(W: Tensor) -> Tensor:
        return (rows - sparsifier(rows @ W.mT) @ W).square().sum((-1, -2))

    return loss


def positive_top_1(pre: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
    """The largest entry of a row, if it is positive."""
    return pre.relu() * (pre == pre.amax(-1, keepdim=True))


def permutations(
    W: Float[Tensor, "start latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    tolerance: float = 1e-2,
) -> Bool[Tensor, " start"]:
    """Whether the rows of W are the directions, in some order."""
    same = torch.cdist(W.double(), directions.double().expand(len(W), -1, -1)) < tolerance
    return (same.sum(1) == 1).all(-1) & (same.sum(2) == 1).all(-1)
