"""Batches of activations for steps of LM size, the same for everyone who is measured."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

FIRING = 32
"""Features that fire per sample, on average."""


def pool(
    *, d_in: int, batch: int, count: int = 4, seed: int = 0, device: str = "cpu"
) -> list[Tensor]:
    """Sums of few out of four times `d_in` directions at rates that fall as 1 / sqrt(rank).

    Scaled to a mean square of one per coordinate.
    """
    generator = torch.Generator(device).manual_seed(seed)
    n = 4 * d_in
    directions = torch.randn(n, d_in, generator=generator, device=device)
    directions /= directions.norm(dim=1, keepdim=True)
    rates = torch.arange(1, n + 1, device=device).float().rsqrt()
    rates = (rates * (FIRING / rates.sum())).clamp(max=1)
    batches = []
    for _ in range(count):
        fires = torch.rand(batch, n, generator=generator, device=device) < rates
        magnitude = 1 + 0.2 * torch.randn(batch, n, generator=generator, device=device)
        x = (fires * magnitude) @ directions
        batches.append(x / x.square().mean().sqrt())
    return batches


def endless(batches: list[Tensor]) -> Iterator[Tensor]:
    """The same batches again and again."""
    return itertools.cycle(batches)


def silencing_bias(pre: Tensor, share: float, width: int) -> tuple[Tensor, Tensor]:
    """Which latents shall be dead, evenly spread, and the bias that keeps them silent.

    A tenth of their largest pre-activation is left over: enough for the auxiliary loss to have
    something to do, too little to fire among the k largest.
    """
    number = round(share * width)
    dead = torch.arange(number, device=pre.device) * width // max(number, 1)
    return dead, -0.9 * pre[:, dead].amax(0)


def sizes(settings: dict[str, Any]) -> dict[str, Any]:
    """The part of the settings that says where and how large activations are."""
    return {
        "d_in": settings["d_in"],
        "batch": settings["batch"],
        "device": settings.get("device", "cpu"),
    }
