r"""Why a tied SAE need not absorb, and where it gets stuck.

Two latents that are turned against two features.

A tied SAE cannot give one latent different encoder and decoder rows, so it cannot follow the family
of `absorption`. With unit rows at right angles it can only turn:

$$d_1 = \cos\theta\, f_1 - \sin\theta\, f_2, \qquad d_2 = \sin\theta\, f_1 + \cos\theta\, f_2,
  \qquad 0 \le \theta \le \pi/4$$

At $\theta = 0$ each latent is a feature; at $\pi/4$ they are the 45° pair
$(f_1 \mp f_2)/\sqrt 2$. In a hierarchy every $\theta$ reconstructs perfectly.

**Reference:** derived here; it explains why training tied SAEs depends on the start in the toy
model of the post "Broken Latents" (Chanin 2025).
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.theory.absorption import orthonormal_pair
from latent_assay.theory.states import Number, PairStates

Angle = Number | Float[Tensor, "*angle"]
"""One angle from 0 to π/4 in radians, or a tensor of them."""


def turned_sae(
    theta: Number | Float[Tensor, " member"], features: Float[Tensor, "2 d_in"] | None = None
) -> SAE:
    r"""The tied SAE turned by this angle, one member for each $\theta$.

    **Arguments:**
    - `theta`: $\theta$ in radians, one or several.
    - `features`: $f_1$ and $f_2$, orthonormal; None for the axes of the plane.

    **Returns:** a tied ReLU SAE in float64.

    **Raises:** `ConfigError` if an angle is outside [0, π/4]; `WorldError` if the features are not
    orthonormal.
    """
    angle = _checked(theta).reshape(-1, 1)
    first, second = orthonormal_pair(features)
    cosine, sine = angle.cos(), angle.sin()
    rows = torch.stack([cosine * first - sine * second, sine * first + cosine * second], dim=1)
    return SAE(rows, sparsifier=ReLU())


def reconstruction_error(theta: Angle, states: PairStates) -> Float64[Tensor, "*angle"]:
    r"""Expected squared error, $p_{01} \sin^2\theta$: only a child that fires alone is missed."""
    return states.p01 * _checked(theta).sin().square()


def l1(theta: Angle, states: PairStates) -> Float64[Tensor, "*angle"]:
    r"""$p_{10} (\cos\theta + \sin\theta) + (2 p_{11} + p_{01}) \cos\theta$.

    >>> states = PairStates(p11=0.05, p10=0.2)
    >>> [round(l1(theta, states).item(), 3) for theta in (0.0, math.pi / 4)]
    [0.3, 0.354]
    """
    angle = _checked(theta)
    both = 2 * states.p11 + states.p01
    return states.p10 * (angle.cos() + angle.sin()) + both * angle.cos()


def barrier(states: PairStates) -> float:
    r"""The angle beyond which the L1 penalty pulls away from the truth.

    $$\tan\theta = \frac{p_{10}}{p_{10} + 2 p_{11} + p_{01}}$$

    The penalty rises up to here and falls from here to the 45° pair, so a start beyond it ends
    there although the truth may be cheaper.

    >>> round(math.degrees(barrier(PairStates(p11=0.05, p10=0.2))), 2)
    33.69
    """
    return math.atan2(states.p10, states.p10 + 2 * states.p11 + states.p01)


def advantage_of_truth(states: PairStates) -> float:
    r"""How much less L1 penalty the truth costs than the 45° pair.

    $$(\sqrt 2 - 1)\, p_{10} - (2 - \sqrt 2)\, p_{11} - (1 - 1/\sqrt 2)\, p_{01}$$

    In a hierarchy the truth is cheaper if and only if $p_{10} > \sqrt 2\, p_{11}$: the parent must
    fire alone often enough.
    """
    root = math.sqrt(2)
    return (root - 1) * states.p10 - (2 - root) * states.p11 - (1 - 1 / root) * states.p01


def _checked(theta: Number | Tensor) -> Tensor:
    value = torch.as_tensor(theta, dtype=torch.float64)
    # an end that was rounded to float32 is forgiven
    if not bool(((value >= 0) & (value <= math.pi / 4 + 1e-6)).all()):
        raise ConfigError(
            f"theta must lie between 0 (the truth) and π/4 (the 45° pair), got {theta}."
        )
    return value
