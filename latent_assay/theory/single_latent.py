r"""The optimal single latent, and the order in which features deserve one.

A tied SAE with one latent of unit length $\ell$ and no bias has
$\hat x = \ell\, \mathrm{ReLU}(\ell \cdot x)$. Between two features at right angles,
$\ell = \cos\theta f_1 + \sin\theta f_2$, its
squared error is smooth in $\theta$ and never least at a feature if the two ever fire together.

**Reference:** Chanin et al. 2025, "Feature Hedging", §3.5 and figure 6, appendices A.1 and A.13;
"Broken Latents" (Chanin 2025) for the ranking.
"""

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from latent_assay.errors import ConfigError, WorldError
from latent_assay.theory.states import Number, PairStates
from latent_assay.worlds import Enumeration

Angle = Number | Float[Tensor, "*angle"]
"""One angle from 0 (feature 1) to π/2 (feature 2) in radians, or a tensor of them."""

# Where the loss may have several minima the lowest is looked for between so many points first.
GRID = 4097


def tied_error(theta: Angle, states: PairStates) -> Float64[Tensor, "*angle"]:
    r"""Expected squared error of the latent at angle $\theta$.

    $$E(\theta) = p_{10} \sin^2\theta + p_{11} (1 - \sin 2\theta) + p_{01} \cos^2\theta$$

    The paper has the hierarchical case, $p_{01} = 0$.

    **Arguments:**
    - `theta`: $\theta$ in radians.
    - `states`: how often the features fire.

    **Raises:** `ConfigError` if an angle is outside [0, π/2].
    """
    angle = _checked(theta)
    alone = states.p10 * angle.sin().square() + states.p01 * angle.cos().square()
    return alone + states.p11 * (1 - (2 * angle).sin())


def tied_penalty(theta: Angle, states: PairStates) -> Float64[Tensor, "*angle"]:
    r"""The L1 penalty, $\mathbb E z = P(1) \cos\theta + P(2) \sin\theta$."""
    angle = _checked(theta)
    return states.first * angle.cos() + states.second * angle.sin()


def optimal_angle(states: PairStates, coefficient: Number = 0.0) -> float:
    r"""The angle of least squared error plus $\lambda\,\times$ L1.

    Without penalty

    $$\tan 2\theta^* = \frac{2 p_{11}}{p_{10} - p_{01}}, \qquad 0 \le 2\theta^* \le \pi,$$

    strictly between the features whenever they fire together. With a penalty the minimum is the
    lowest root of the derivative, found by bisection. The paper says that the "sparsity penalty
    does not change the minimum"; at $\lambda = .1$ it moves it a little *towards the child*, from
    $\alpha^* = .2324$ to $.2343$ for $(p_{10}, p_{11}) = (.3, .1)$ and from $.4586$ to $.4599$ for
    $(.1, .3)$, for beyond $\tan\theta = P(2) / P(1)$ the mean latent activation falls.

    **Arguments:**
    - `states`: how often the features fire.
    - `coefficient`: $\lambda$.

    **Returns:** $\theta^*$ in radians; 0 where the loss does not depend on it.

    **Raises:** `ConfigError` if the coefficient is negative.

    >>> round(alpha(optimal_angle(PairStates(p11=0.1, p10=0.3))), 4)
    0.2324
    """
    if not (coefficient >= 0 and math.isfinite(coefficient)):
        raise ConfigError(f"the coefficient must be finite and not negative, got {coefficient}.")
    if coefficient == 0:
        return math.atan2(2 * states.p11, states.p10 - states.p01) / 2

    def slope(angle: float) -> float:
        error = (states.p10 - states.p01) * math.sin(2 * angle)
        error -= 2 * states.p11 * math.cos(2 * angle)
        penalty = states.second * math.cos(angle) - states.first * math.sin(angle)
        return error + coefficient * penalty

    grid = torch.linspace(0, math.pi / 2, GRID, dtype=torch.float64)
    loss = tied_error(grid, states) + coefficient * tied_penalty(grid, states)
    lowest = int(loss.argmin())
    low, high = float(grid[max(lowest - 1, 0)]), float(grid[min(lowest + 1, GRID - 1)])
    if slope(low) >= 0 or slope(high) <= 0:  # the minimum is at an end
        return float(grid[lowest])
    for _ in range(100):  # until low and high are neighbouring numbers
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2


def alpha(theta: Number) -> float:
    r"""The paper's coordinate: 0 is feature 1, ½ the sum of both, 1 feature 2.

    $$\ell \propto (1 - \alpha) f_1 + \alpha f_2, \qquad
      \alpha = \frac{\sin\theta}{\sin\theta + \cos\theta}$$
    """
    sine, cosine = math.sin(theta), math.cos(theta)
    return sine / (sine + cosine)


def angle_of_alpha(coordinate: Number) -> float:
    r"""$\theta$ from $\alpha$: $\tan\theta = \alpha / (1 - \alpha)$; inverts `alpha`."""
    return math.atan2(coordinate, 1 - coordinate)


def dominant_direction(enumeration: Enumeration) -> Float64[Tensor, " d_in"]:
    r"""The best single tied latent without bias, in any finite world in which ReLU does not cut it.

    The leading eigenvector of $\mathbb E[x x^\top]$, if its inner product with every activation is
    non-negative. As cutting can only raise the error, no other unit latent is then better. It
    always is so where no two activations point apart, as for orthogonal features. The latent is a
    mixture of features that are linked by firing together.

    **Arguments:**
    - `enumeration`: every activation that can occur, with its probability.

    **Returns:** the unit vector.

    **Raises:** `WorldError` if ReLU would cut it, or all activations are zero.

    >>> direction = dominant_direction(PairStates(p11=0.1, p10=0.3).enumeration())
    >>> math.isclose(
    ...     math.atan2(direction[1], direction[0]), optimal_angle(PairStates(p11=0.1, p10=0.3))
    ... )
    True
    """
    x, probability = enumeration.x.double(), enumeration.probability.double()
    values, vectors = torch.linalg.eigh(x.mT @ (probability.unsqueeze(-1) * x))
    # Where several eigenvectors lead, not each of their mixtures has the right signs; the
    # projection of the mean has, being what repeated multiplication makes of it.
    leading = vectors[:, values > values[-1] * (1 - 1e-12)]
    direction = leading @ (leading.mT @ (probability @ x))
    length = x.norm(dim=-1).amax()
    if float((x @ direction).min()) < -1e-9 * length**2 or direction.norm() <= 1e-9 * length:
        raise WorldError(
            "the best single latent is known in closed form only where it stands at no more than a "
            "right angle to every activation, which here it does not. Search for it instead."
        )
    return direction / direction.norm()


def gated_latent(
    enumeration: Enumeration, feature: int, coefficient: Number = 0.0
) -> Float64[Tensor, " d_in"]:
    r"""What a latent adds that fires with constant strength exactly when a feature fires.

    With the bias at its optimum, and the L1 penalty $\lambda$ on $z\|d\|$, it is the difference of
    the means, shrunk:

    $$z d = v \max\left(0,\ 1 - \frac{\lambda}{2 (1 - p) \|v\|}\right), \qquad
      v = \mathbb E[x \mid \text{fires}] - \mathbb E[x \mid \text{silent}]$$

    The penalty changes its length and never its direction: however high, it cannot remove hedging
    from such a latent without removing the latent. (What a high penalty can lower, as in the
    paper's figure 11, is the part of hedging that comes from firing on the orphan alone.)

    **Arguments:**
    - `enumeration`: every activation that can occur, with its probability.
    - `feature`: the one that opens the gate.
    - `coefficient`: $\lambda$.

    **Raises:** `WorldError` if the feature always or never fires.
    """
    fires = enumeration.firing[:, feature]
    x, probability = enumeration.x.double(), enumeration.probability.double()
    rate = float(probability[fires].sum())
    if not 0 < rate < 1 or bool(fires.all()):
        raise WorldError(
            f"feature {feature} fires with probability {rate:g}, but a gate must be open and shut "
            "at times."
        )
    on = probability[fires] @ x[fires] / rate
    off = probability[~fires] @ x[~fires] / (1 - rate)
    length = float((on - off).norm())
    if length == 0:
        return on - off
    return (on - off) * max(0.0, 1 - coefficient / (2 * (1 - rate) * length))


def reconstruction_gain(rate: Number, magnitude: Number = 1.0) -> float:
    r"""By how much a latent of its own for a feature lowers the squared error, without bias.

    $$\mathbb E \|x\|^2 - \mathbb E \|x - a_i m_i f_i\|^2 = p_i m_i^2$$

    for features at right angles. A parent therefore gains at least as much as its child of the same
    magnitude. That does not make the parent the best *single* latent: that is a mixture of the two,
    see `optimal_angle`.

    **Arguments:**
    - `rate`: $p_i$.
    - `magnitude`: $m_i$.
    """
    return float(rate * magnitude**2)


def reconstruction_gain_as_printed(rate: Number) -> float:
    r"""$\mathbb E[2 x \cdot f_i - \|f_i\|^2] = 2 p_i - 1$, the paper's equation 25.

    It lacks the gate: $f_i$ is taken away from every activation, not from those in which the
    feature fires. It is not proportional to $p_i$, as the paper goes on to say, and negative for
    $p_i < \frac12$: by it a feature at rate .25 should have no latent at all.
    """
    return float(2 * rate - 1)


def loss_without_latent(
    rates: Float[Tensor, " feature"],
    magnitudes: Float[Tensor, " feature"],
    spread: Number | Float[Tensor, " feature"] = 0.0,
) -> Float64[Tensor, " feature"]:
    r"""What each feature adds to the squared error while it has no latent but there is a bias.

    $$\mathrm{Var}(a_i m_i) = p_i (1 - p_i)\, m_i^2 + p_i s_i^2$$

    since the decoder bias takes the mean. A narrow SAE gains most from the features at which this
    is largest. Exact if they are independent and at right angles.

    **Arguments:**
    - `rates`: $p_i$.
    - `magnitudes`: mean magnitudes $m_i$.
    - `spread`: standard deviation $s_i$ of the magnitudes.
    """
    p, m = rates.double(), magnitudes.double()
    return p * (1 - p) * m.square() + p * torch.as_tensor(spread, dtype=torch.float64).square()


def loss_without_latent_as_printed(
    rates: Float[Tensor, " feature"], magnitudes: Float[Tensor, " feature"]
) -> Float64[Tensor, " feature"]:
    r"""$p_i m_i^2$, the "expected MSE" of the post: as if there were no decoder bias.

    It overrates features that fire often. In the post's world of 20 features, a feature 12 that 5
    and 7 switch on has $p m^2 = 22.7$, the most of all, and yet the post finds it too small to
    deserve a latent; its variance is $14.7$, below that of features 3 to 9.
    """
    return rates.double() * magnitudes.double().square()


def ranking(loss: Float[Tensor, " feature"]) -> Int64[Tensor, " feature"]:
    """Features in the order in which they deserve a latent: the largest loss first.

    **Arguments:**
    - `loss`: from `loss_without_latent`.
    """
    return loss.argsort(descending=True, stable=True)


def _checked(theta: Number | Tensor) -> Tensor:
    value = torch.as_tensor(theta, dtype=torch.float64)
    # an end that was rounded to float32 is forgiven
    if not bool(((value >= 0) & (value <= math.pi / 2 + 1e-6)).all()):
        raise ConfigError(f"theta must lie between 0 (feature 1) and π/2 (feature 2), got {theta}.")
    return value
