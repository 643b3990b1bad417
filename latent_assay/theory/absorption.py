r"""Why sparsity rewards absorption: one family of SAEs, its error and its penalties in closed form.

Two features at right angles, unit length and magnitude 1, and two latents:

$$e_1 = f_1 - \delta f_2, \quad e_2 = f_2, \qquad d_1 = f_1, \quad d_2 = f_2 + \delta f_1,
  \qquad 0 \le \delta \le 1$$

At $\delta = 0$ each latent is a feature. At $\delta = 1$ latent 1 stays silent when the child $f_2$
fires, and the child's decoder carries the parent: full absorption. The latent activations are

| state | probability | $z$ | $\hat x - x$ |
|---|---|---|---|
| both | $p_{11}$ | $(1 - \delta,\ 1)$ | 0 |
| only 1 | $p_{10}$ | $(1,\ 0)$ | 0 |
| only 2 | $p_{01}$ | $(0,\ 1)$ | $\delta f_1$ |

so that with $p_{01} = 0$ absorption costs nothing and saves latent activation. Every penalty below
is the expectation over these states, without its coefficient; every `..._slope` is its derivative
in $\delta$. All take `delta`, one $\delta$ or a tensor of them, and `states`, how often the
features fire, and raise `ConfigError` for a $\delta$ outside [0, 1].

**Reference:** Chanin et al. 2024, "A is for Absorption", arXiv:2409.14507, which proves the L1 case
with $p_{01} = 0$; the Lp case is from the post "Sparsity is the enemy of feature extraction"
(2025), whose formulas are wrong and stand here as `..._as_printed`. The other penalties and
$p_{01} > 0$ are derived here.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError, WorldError
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.theory.states import Number, PairStates

Delta = Number | Float[Tensor, "*delta"]
"""One degree of absorption from 0 to 1, or a tensor of them."""


def absorbed_sae(
    delta: Number | Float[Tensor, " member"], features: Float[Tensor, "2 d_in"] | None = None
) -> SAE:
    r"""The SAE of the family with this degree of absorption, one member for each $\delta$.

    **Arguments:**
    - `delta`: $\delta$, one or several.
    - `features`: $f_1$ and $f_2$, orthonormal; None for the axes of the plane.

    **Returns:** an untied ReLU SAE in float64, without biases.

    **Raises:** `ConfigError` if a $\delta$ is outside [0, 1]; `WorldError` if the features are not
    orthonormal.

    >>> absorbed_sae(0.25).encode(torch.tensor([[1.0, 1.0]], dtype=torch.float64)).tolist()
    [[[0.75, 1.0]]]
    """
    d = _checked(delta).reshape(-1, 1)
    first, second = orthonormal_pair(features)
    return SAE(
        torch.stack([first - d * second, second.expand(len(d), -1)], dim=1),
        torch.stack([first.expand(len(d), -1), second + d * first], dim=1),
        sparsifier=ReLU(),
    )


def reconstruction_error(delta: Delta, states: PairStates) -> Float64[Tensor, "*delta"]:
    r"""Expected squared error, $p_{01}\, \delta^2$: zero in a hierarchy, however much is absorbed.

    >>> reconstruction_error(0.7, PairStates(p11=0.05, p10=0.2)).item()
    0.0
    """
    return states.p01 * _checked(delta).square()


def reconstruction_slope(delta: Delta, states: PairStates) -> Float64[Tensor, "*delta"]:
    r"""$2 p_{01}\, \delta$."""
    return 2 * states.p01 * _checked(delta)


def l1(delta: Delta, states: PairStates) -> Float64[Tensor, "*delta"]:
    r"""$\mathbb E \sum_j |z_j| = p_{11} (2 - \delta) + p_{10} + p_{01}$.

    From $2p_{11}$ at no absorption to $p_{11}$ at full absorption: one latent is saved.
    """
    return states.p11 * (2 - _checked(delta)) + states.p10 + states.p01


def l1_slope(delta: Delta, states: PairStates) -> Float64[Tensor, "*delta"]:
    r"""$-p_{11}$, whatever $\delta$."""
    return torch.full_like(_checked(delta), -states.p11)


def decoder_norm_l1(delta: Delta, states: PairStates) -> Float64[Tensor, "*delta"]:
    r"""$\mathbb E \sum_j |z_j| \, \|d_j\|$, the penalty with which most SAEs are trained:

    $$p_{11} \left[(1 - \delta) + \sqrt{1 + \delta^2}\right] + p_{10}
      + p_{01} \sqrt{1 + \delta^2}$$

    Absorption makes $d_2$ longer, so it gains less than under plain L1: $(2 - \sqrt 2)\, p_{11}$ in
    all instead of $p_{11}$.
    """
    d = _checked(delta)
    length = (1 + d.square()).sqrt()
    return states.p11 * (1 - d + length) + states.p10 + states.p01 * length


def decoder_norm_l1_slope(delta: Delta, states: PairStates) -> Float64[Tensor, "*delta"]:
    r"""$(p_{11} + p_{01})\, \delta / \sqrt{1 + \delta^2} - p_{11}$.

    Negative for every $\delta$ in a hierarchy, but at $\delta = 1$ only $-0.293\, p_{11}$.
    """
    d = _checked(delta)
    return (states.p11 + states.p01) * d / (1 + d.square()).sqrt() - states.p11


def lp_norm(delta: Delta, states: PairStates, p: Number) -> Float64[Tensor, "*delta"]:
    r"""$\mathbb E \, \|z\|_p = p_{11} \left((1 - \delta)^p + 1\right)^{1/p} + p_{10} + p_{01}$.

    **Arguments:**
    - `delta`: degree of absorption.
    - `states`: how often the features fire.
    - `p`: the exponent, positive.

    **Raises:** `ConfigError` if p is not positive.
    """
    d, p = _checked(delta), _exponent(p)
    return states.p11 * ((1 - d) ** p + 1) ** (1 / p) + states.p10 + states.p01


def lp_norm_slope(delta: Delta, states: PairStates, p: Number) -> Float64[Tensor, "*delta"]:
    r"""$-p_{11} (1 - \delta)^{p-1} \left((1 - \delta)^p + 1\right)^{1/p - 1}$.

    At $\delta = 1$ it is 0 for $p > 1$ and $-\infty$ for $p < 1$.
    """
    d, p = _checked(delta), _exponent(p)
    if states.p11 == 0:
        return torch.zeros_like(d)
    return -states.p11 * (1 - d) ** (p - 1) * ((1 - d) ** p + 1) ** (1 / p - 1)


def lp_norm_as_printed(delta: Delta, states: PairStates, p: Number) -> Float64[Tensor, "*delta"]:
    r"""$p_{11} (2 - \delta)^{1/p} + p_{10}$, as the post has it: wrong but for $p = 1$.

    The two latent activations are added before, instead of after, the power is taken. It agrees
    with `lp_norm` at $\delta = 0$ and $1$ and nowhere between: for $p = 2$, $\delta = .4$ it gives
    $1.2649\, p_{11}$ where the norm is $1.1662\, p_{11}$; for $p = \frac14$ it is too small by up
    to $6.55\, p_{11}$. The source has no $p_{01}$, which is added here as in `lp_norm`.
    """
    d, p = _checked(delta), _exponent(p)
    return states.p11 * (2 - d) ** (1 / p) + states.p10 + states.p01


def lp_norm_slope_as_printed(
    delta: Delta, states: PairStates, p: Number
) -> Float64[Tensor, "*delta"]:
    r"""$-\frac{p_{11}}{p} (2 - \delta)^{1/p - 1}$: the derivative of `lp_norm_as_printed`.

    The post's line, "−p11p(2−δ)1p−1", has lost its typesetting; this reading of it is a derivative
    at all, though of the wrong expression. It never vanishes, where the true slope for $p > 1$ does
    at $\delta = 1$. For the other reading see `lp_norm_slope_as_printed_literally`.
    """
    d, p = _checked(delta), _exponent(p)
    return -states.p11 / p * (2 - d) ** (1 / p - 1)


def lp_norm_slope_as_printed_literally(
    delta: Delta, states: PairStates, p: Number
) -> Float64[Tensor, "*delta"]:
    r"""$-p_{11}\, p\, (2 - \delta)^{1/p - 1}$: the post's line with p as a factor.

    The derivative of nothing here: it is $p^2$ times the slope of `lp_norm_as_printed`.
    """
    d, p = _checked(delta), _exponent(p)
    return -states.p11 * p * (2 - d) ** (1 / p - 1)


def power_sum(delta: Delta, states: PairStates, p: Number) -> Float64[Tensor, "*delta"]:
    r"""$\mathbb E \sum_j |z_j|^p = p_{11} \left((1 - \delta)^p + 1\right) + p_{10} + p_{01}$.

    The post states this penalty and then computes with the norm. As $p \to 0$ it becomes `l0`.

    **Arguments:**
    - `delta`: degree of absorption.
    - `states`: how often the features fire.
    - `p`: the exponent, positive.

    **Raises:** `ConfigError` if p is not positive.
    """
    d, p = _checked(delta), _exponent(p)
    return states.p11 * ((1 - d) ** p + 1) + states.p10 + states.p01


def power_sum_slope(delta: Delta, states: PairStates, p: Number) -> Float64[Tensor, "*delta"]:
    r"""$-p_{11}\, p\, (1 - \delta)^{p-1}$.

    The post calls the slope "always negative". For $p > 1$ it is 0 at $\delta = 1$; for $p < 1$ it
    is $-\infty$ there.
    """
    d, p = _checked(delta), _exponent(p)
    if states.p11 == 0:
        return torch.zeros_like(d)
    return -states.p11 * p * (1 - d) ** (p - 1)


def l0(delta: Delta, states: PairStates) -> Float64[Tensor, "*delta"]:
    r"""Mean number of firing latents, $p_{11} (1 + 1[\delta < 1]) + p_{10} + p_{01}$.

    Flat, with a fall of $p_{11}$ at full absorption only: counting gives absorption no gradient but
    rewards it all the same.
    """
    d = _checked(delta)
    return states.p11 * (1 + (d < 1).double()) + states.p10 + states.p01


def optimal_delta(states: PairStates, coefficient: Number) -> float:
    r"""The degree of absorption that minimises squared error plus $\lambda\,\times$ plain L1.

    $$\delta^* = \min\left(1, \frac{\lambda p_{11}}{2 p_{01}}\right)$$

    In a hierarchy ($p_{01} = 0$) it is 1 for every $\lambda > 0$; a child that sometimes fires
    alone tempers it. The optimum is within the family: other weights may do better still.

    **Arguments:**
    - `states`: how often the features fire.
    - `coefficient`: $\lambda$, not negative.

    **Returns:** $\delta^*$; 0 where the loss does not depend on $\delta$.

    **Raises:** `ConfigError` if the coefficient is negative.

    >>> round(optimal_delta(PairStates(p11=0.05, p10=0.2, p01=0.01), coefficient=0.1), 12)
    0.25
    """
    gain = _coefficient(coefficient) * states.p11
    if states.p01 == 0:
        return 1.0 if gain > 0 else 0.0
    return min(1.0, gain / (2 * states.p01))


def optimal_delta_decoder_norm(states: PairStates, coefficient: Number) -> float:
    r"""The same for the L1 penalty weighted by decoder norm.

    The loss is convex in $\delta$; its minimum is the root of

    $$2 p_{01} \delta + \lambda \left[(p_{11} + p_{01}) \frac{\delta}{\sqrt{1 + \delta^2}} - p_{11}
      \right] = 0$$

    found by bisection to the last digit, or 1 where the left side is still negative there. As
    longer decoder rows cost, it is never more than `optimal_delta`.

    **Arguments:** as for `optimal_delta`.
    """
    coefficient = _coefficient(coefficient)

    def slope(delta: float) -> float:
        pull = (states.p11 + states.p01) * delta / math.hypot(1.0, delta) - states.p11
        return 2 * states.p01 * delta + coefficient * pull

    if coefficient * states.p11 == 0:
        return 0.0
    if slope(1.0) <= 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(100):  # until low and high are neighbouring numbers
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2


def orthonormal_pair(
    features: Float[Tensor, "2 d_in"] | None,
) -> Float64[Tensor, "2 d_in"]:
    """Two directions in float64, checked; the axes of the plane for None.

    **Raises:** `ShapeError` unless there are two; `WorldError` unless they are orthonormal.
    """
    if features is None:
        return torch.eye(2, dtype=torch.float64)
    if features.dim() != 2 or features.shape[0] != 2:
        raise ShapeError(
            f"`features` must hold two directions [2, d_in], got {list(features.shape)}."
        )
    rows = features.double()
    # what float32 directions lose to rounding is forgiven
    if not torch.allclose(rows @ rows.T, torch.eye(2).to(rows), atol=1e-6):
        raise WorldError(
            "the two features must have length 1 and stand at right angles, but their inner "
            f"products are {(rows @ rows.T).tolist()}. Use `worlds.directions.orthonormal`."
        )
    return rows


def _checked(delta: Number | Tensor) -> Tensor:
    value = torch.as_tensor(delta, dtype=torch.float64)
    if not bool(((value >= 0) & (value <= 1)).all()):
        raise ConfigError(
            f"delta must lie between 0 (no absorption) and 1 (full absorption), got {delta}."
        )
    return value


def _exponent(p: Number) -> float:
    if not (p > 0 and math.isfinite(p)):
        raise ConfigError(f"the exponent p must be positive, got {p}; for p = 0 use `l0`.")
    return float(p)


def _coefficient(coefficient: Number) -> float:
    if not (coefficient >= 0 and math.isfinite(coefficient)):
        raise ConfigError(f"the coefficient must be finite and not negative, got {coefficient}.")
    return float(coefficient)
