"""Two correlated normal variables: the chance that both exceed a threshold, and its inverse."""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

NODES = 96
# Pairs of thresholds worked on at once: keeps pairs × nodes in a few tens of megabytes.
CHUNK = 16384


def both_exceed(
    h: Float64[Tensor, " pair"], k: Float64[Tensor, " pair"], r: Float64[Tensor, " pair"]
) -> Float64[Tensor, " pair"]:
    r"""$P(X > h, Y > k)$ for standard normal $X$ and $Y$ with correlation $r$.

    $$P = \Phi(-h) \Phi(-k) + \frac{1}{2\pi} \int_0^{\arcsin r}
      \exp\!\Big( -\frac{h^2 + k^2 - 2 h k \sin t}{2 \cos^2 t} \Big) \, dt$$

    by Gauss-Legendre quadrature. Thresholds must be finite.

    **Arguments:**
    - `h`, `k`: the thresholds.
    - `r`: the correlation, from -1 to 1.

    **Reference:** Plackett 1954; Drezner and Wesolowsky 1990.

    >>> zero, half = torch.zeros(1).double(), torch.full((1,), 0.5).double()
    >>> both_exceed(zero, zero, half)  # 1/4 + arcsin(1/2) / (2 pi) = 1/3
    tensor([0.3333], dtype=torch.float64)
    """
    parts = [
        _both_exceed(h[i : i + CHUNK], k[i : i + CHUNK], r[i : i + CHUNK].asin())
        for i in range(0, h.numel(), CHUNK)
    ]
    return torch.cat(parts) if parts else torch.zeros_like(h)


def correlation_for(
    h: Float64[Tensor, " pair"], k: Float64[Tensor, " pair"], joint: Float64[Tensor, " pair"]
) -> Float64[Tensor, " pair"]:
    r"""The correlation $r$ at which $P(X > h, Y > k)$ is as given.

    The chance rises with $r$, from $\max(0, p + q - 1)$ at $-1$ to $\min(p, q)$ at $1$, where
    $p = \Phi(-h)$ and $q = \Phi(-k)$. It is solved for $\arcsin r$ by Newton's method, bisecting
    where Newton's step would leave the interval known to hold the solution.
    A chance at or beyond an end gives $\pm 1$.

    **Arguments:**
    - `h`, `k`: the thresholds, finite.
    - `joint`: the chance that both exceed.
    """
    parts = [
        _correlation_for(h[i : i + CHUNK], k[i : i + CHUNK], joint[i : i + CHUNK])
        for i in range(0, h.numel(), CHUNK)
    ]
    return torch.cat(parts) if parts else torch.zeros_like(h)


@lru_cache
def _gauss_legendre() -> tuple[Tensor, Tensor]:
    points, weights = np.polynomial.legendre.leggauss(NODES)
    return torch.from_numpy(points), torch.from_numpy(weights)


def _correlation_for(h: Tensor, k: Tensor, joint: Tensor) -> Tensor:
    lower = torch.full_like(h, -math.pi / 2)
    upper = torch.full_like(h, math.pi / 2)
    angle = torch.zeros_like(h)
    for _ in range(100):
        excess = _both_exceed(h, k, angle) - joint
        upper = torch.where(excess > 0, angle, upper)
        lower = torch.where(excess <= 0, angle, lower)
        newton = angle - excess / (_density(h, k, angle) / (2 * math.pi))
        inside = (newton > lower) & (newton < upper)
        proposed = torch.where(inside, newton, (lower + upper) / 2)
        if (proposed - angle).abs().max().item() < 1e-14:
            break
        angle = proposed
    p, q = torch.special.ndtr(-h), torch.special.ndtr(-k)
    r = angle.sin()
    r = torch.where(joint >= torch.minimum(p, q) - 1e-15, 1.0, r)
    return torch.where(joint <= (p + q - 1).clamp(min=0.0) + 1e-15, -1.0, r)


def _both_exceed(h: Tensor, k: Tensor, angle: Tensor) -> Tensor:
    points, weights = (each.to(h.device) for each in _gauss_legendre())
    middle = angle[:, None] / 2
    inside = _density(h[:, None], k[:, None], middle * (1 + points))
    integral = (inside @ weights) * angle / 2
    return torch.special.ndtr(-h) * torch.special.ndtr(-k) + integral / (2 * math.pi)


def _density(h: Tensor, k: Tensor, angle: Tensor) -> Tensor:
    r"""$\exp(-(h^2 + k^2 - 2hk \sin t) / (2 \cos^2 t))$ without cancellation near $\pm\pi/2$."""
    sine = angle.sin()
    sign = torch.where(sine >= 0, 1.0, -1.0).to(h.dtype)
    cosine_squared = angle.cos().square().clamp(min=1e-300)
    # h² + k² - 2hk sin t = (h ∓ k)² ± 2hk (1 ∓ sin t), and cos² t = (1 - sin t)(1 + sin t)
    exponent = (h - sign * k).square() / (2 * cosine_squared) + sign * h * k / (1 + sine.abs())
    return (-exponent).exp()
