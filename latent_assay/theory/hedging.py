r"""What the decoder of a too-narrow SAE must look like: hedging as a regression.

Suppose that an SAE has a latent for some features only, the *tracked* ones, and that its encoder is
an oracle: $z_i = a_i m_i$, the magnitude of tracked feature $i$. The squared error is then least
when the decoder is the linear regression of the activation on $[1, z]$,

$$V = \Sigma_z^{-1} \mathrm{Cov}(z, x), \qquad V_0 = \mathbb E x - V^\top \mathbb E z,$$

with $V_0$ as the decoder bias. Tracked features get weight 1 in their own latent. A feature
without a latent, an *orphan* $k$, is spread over the latents that help to predict it: *hedging*.
With one latent, $V_{ik} = \frac{m_k}{m_i} [P(k \mid i) - P(k \mid \neg i)]$.

**Reference:** Chanin et al. 2025, "Feature Hedging", appendix A.4. The formulas there are right.
The theorem's statement is not: see `hedging_theorem`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError, WorldError
from latent_assay.theory.states import Number
from latent_assay.worlds import Enumeration

# Relative size below which an eigenvalue of a covariance is a zero that was rounded.
SINGULAR = 1e-10


@dataclass(frozen=True, kw_only=True, eq=False)
class OracleDecoder:
    """The decoder of least squared error for latents that follow some of the features exactly."""

    tracked: tuple[int, ...]
    """The feature that each latent follows."""
    weights: Float64[Tensor, "latent feature"]
    r"""$V_{ij}$: how much of feature j latent i carries."""
    bias: Float64[Tensor, " feature"]
    r"""$V_{0j}$: how much of feature j the decoder bias carries."""
    W_dec: Float64[Tensor, "latent d_in"]
    """The same decoder in the space of activations."""
    b_dec: Float64[Tensor, " d_in"]
    """The same bias in the space of activations."""
    error: float
    """The expected squared error that remains."""


def oracle_decoder(enumeration: Enumeration, tracked: Sequence[int]) -> OracleDecoder:
    r"""The optimal decoder for latents that follow the tracked features, in any finite world.

    Weighted least squares of x, and of the magnitudes, on $[1, z]$ with the patterns' probabilities
    as weights. Features may have any direction, magnitude and dependence. At full width, all
    features tracked, V is the identity and nothing is hedged (case D).

    **Arguments:**
    - `enumeration`: every activation that can occur, with its probability.
    - `tracked`: the features that have a latent. None at all leaves the mean.

    **Raises:** `WorldError` if a feature does not exist or the tracked ones are linearly dependent
    (one never changes, say, or two always fire together): then the optimum is not unique.

    >>> from latent_assay.theory import PairStates
    >>> world = PairStates.from_conditionals(0.25, given=0.2).enumeration()
    >>> decoder = oracle_decoder(world, tracked=[0])
    >>> [[round(v, 3) for v in row] for row in decoder.weights.tolist()]
    [[1.0, 0.2]]
    """
    magnitudes = enumeration.magnitudes.double()
    x, probability = enumeration.x.double(), enumeration.probability.double()
    tracked = features_of(tracked, magnitudes.shape[1])
    z = magnitudes[:, list(tracked)]
    targets = torch.cat([magnitudes, x], dim=1)
    weights, bias = regression(z, targets, probability)
    n = magnitudes.shape[1]
    x_hat = z @ weights[:, n:] + bias[n:]
    return OracleDecoder(
        tracked=tracked,
        weights=weights[:, :n],
        bias=bias[:n],
        W_dec=weights[:, n:],
        b_dec=bias[n:],
        error=float(probability @ (x - x_hat).square().sum(-1)),
    )


@dataclass(frozen=True, kw_only=True)
class PairWeights:
    """How one latent and the decoder bias share an orphan."""

    latent: float
    r"""$V_{ik}$: the orphan's part in the latent, for one unit of latent activation."""
    bias: float
    r"""$V_{0k}$: the orphan's part in the decoder bias."""

    @property
    def cosine(self) -> float:
        r"""Cosine of the latent's decoder row $f_i + V_{ik} f_k$ with the orphan $f_k$."""
        return self.latent / math.hypot(1.0, self.latent)


def pair_weights(
    *,
    given: Number,
    otherwise: Number,
    tracked_magnitude: Number = 1.0,
    orphan_magnitude: Number = 1.0,
) -> PairWeights:
    r"""One latent that follows feature i, and one orphan k.

    $$V_{ik} = \frac{m_k}{m_i} \left[P(k \mid i) - P(k \mid \neg i)\right],
      \qquad V_{0k} = m_k P(k \mid \neg i)$$

    The bias answers for the orphan while the latent is silent, and the latent corrects that answer
    when it fires. The weight has the sign of the correlation.

    With several *uncorrelated* tracked latents $V_{ik}$ stays as it is, and
    $V_{0k} = m_k P(k) - \sum_i V_{ik} m_i P(i)$.

    **Arguments:**
    - `given`, `otherwise`: $P(k \mid i)$ and $P(k \mid \neg i)$.
    - `tracked_magnitude`, `orphan_magnitude`: $m_i > 0$ and $m_k \ge 0$.

    **Raises:** `ConfigError` if a value is out of range.

    >>> pair_weights(given=0.25, otherwise=0.125)
    PairWeights(latent=0.125, bias=0.125)
    """
    for name, value in {"given": given, "otherwise": otherwise}.items():
        _probability(name, value)
    if not (tracked_magnitude > 0 and orphan_magnitude >= 0):
        raise ConfigError(
            "the tracked magnitude must be positive and the orphan's not negative, got "
            f"{tracked_magnitude} and {orphan_magnitude}."
        )
    ratio = orphan_magnitude / tracked_magnitude
    return PairWeights(
        latent=float(ratio * (given - otherwise)), bias=float(orphan_magnitude * otherwise)
    )


def independent_orphan(
    orphan: Number, *, tracked_magnitude: Number = 1.0, orphan_magnitude: Number = 1.0
) -> PairWeights:
    r"""Case A, independence: $V_{ik} = 0$, $V_{0k} = m_k p_k$. Nothing is hedged.

    **Arguments:**
    - `orphan`: $p_k$, how often the orphan fires.
    - `tracked_magnitude`, `orphan_magnitude`: $m_i$ and $m_k$.
    """
    return pair_weights(
        given=orphan,
        otherwise=orphan,
        tracked_magnitude=tracked_magnitude,
        orphan_magnitude=orphan_magnitude,
    )


def child_orphan(
    tracked: Number,
    orphan: Number,
    *,
    tracked_magnitude: Number = 1.0,
    orphan_magnitude: Number = 1.0,
) -> PairWeights:
    r"""Case B, the orphan is a child: $V_{ik} = \frac{m_k}{m_i} \frac{p_k}{p_i}$, $V_{0k} = 0$.

    **Arguments:**
    - `tracked`, `orphan`: $p_i$ and $p_k \le p_i$, how often parent and child fire.
    - `tracked_magnitude`, `orphan_magnitude`: $m_i$ and $m_k$.

    **Raises:** `ConfigError` if the child fires more often than its parent.
    """
    _probability("tracked", tracked)
    if not 0 <= orphan <= tracked or tracked == 0:
        raise ConfigError(
            f"a child fires at most as often as its parent, which fires at {tracked:g}; got "
            f"{orphan:g}. For a correlation without hierarchy use `pair_weights`."
        )
    return pair_weights(
        given=orphan / tracked,
        otherwise=0.0,
        tracked_magnitude=tracked_magnitude,
        orphan_magnitude=orphan_magnitude,
    )


def exclusive_orphan(
    tracked: Number,
    orphan: Number,
    *,
    tracked_magnitude: Number = 1.0,
    orphan_magnitude: Number = 1.0,
) -> PairWeights:
    r"""Case C, the two never fire together: the latent carries a negative part of the orphan.

    $$V_{ik} = -\frac{m_k}{m_i} \frac{p_k}{1 - p_i}, \qquad V_{0k} = m_k \frac{p_k}{1 - p_i}$$

    **Arguments:**
    - `tracked`, `orphan`: $p_i < 1$ and $p_k \le 1 - p_i$, how often each fires.
    - `tracked_magnitude`, `orphan_magnitude`: $m_i$ and $m_k$.

    **Raises:** `ConfigError` if they fire too often to exclude each other.
    """
    _probability("tracked", tracked)
    if not 0 <= orphan <= 1 - tracked or tracked == 1:
        raise ConfigError(
            f"features that never fire together have rates that sum to at most 1, got {tracked:g} "
            f"and {orphan:g}. For a weaker anti-correlation use `pair_weights`."
        )
    return pair_weights(
        given=0.0,
        otherwise=orphan / (1 - tracked),
        tracked_magnitude=tracked_magnitude,
        orphan_magnitude=orphan_magnitude,
    )


def matched_filter(
    decoder: Float[Tensor, "*member latent d_in"],
) -> Float64[Tensor, "*member latent d_in"]:
    r"""The encoder rows that fit decoder rows best: hedging is symmetric.

    $$w^* = \frac{d}{\|d\|^2} = \arg\min_w \mathbb E\left[\|x - (w \cdot x)\, d\|^2 \mid
      \text{latent fires}\right]$$

    It assumes that the latent fires exactly when its feature does. It is then optimal for every
    distribution of x, and the only optimum on the span of the x at which the latent fires;
    orthogonally to that an encoder is not determined. The assumption fails for positively
    correlated features, where a hedged encoder fires on the orphan alone.

    **Arguments:**
    - `decoder`: decoder rows d. A zero row gets a zero row: it decodes nothing.

    **Reference:** "Feature Hedging", corollary A.4.7.

    >>> matched_filter(torch.tensor([[3.0, 4.0]])).tolist()
    [[0.12, 0.16]]
    """
    rows = decoder.double()
    square = rows.square().sum(-1, keepdim=True)
    return torch.where(square > 0, rows / torch.where(square > 0, square, 1.0), 0.0)


def regression(
    z: Float64[Tensor, "pattern latent"],
    targets: Float64[Tensor, "pattern target"],
    probability: Float64[Tensor, " pattern"],
) -> tuple[Float64[Tensor, "latent target"], Float64[Tensor, " target"]]:
    """Weights and intercept of the weighted least-squares regression of targets on z."""
    probability = probability / probability.sum()
    mean_z, mean_target = probability @ z, probability @ targets
    centred = z - mean_z
    weighted = (probability.unsqueeze(-1) * centred).mT
    covariance = weighted @ centred
    if len(covariance):
        # judged on correlations, so that a feature of small magnitude is not taken for a constant
        spread = covariance.diagonal().sqrt()
        scale = torch.where(spread > SINGULAR * z.abs().amax(0), spread, math.inf)
        eigenvalues = torch.linalg.eigvalsh(covariance / scale.outer(scale))
        if float(eigenvalues.min()) < SINGULAR:
            raise WorldError(
                "the tracked features are linearly dependent in this world: one never changes, or "
                "some always fire together, so that the best decoder is not unique. Track fewer."
            )
    weights = torch.linalg.solve(covariance, weighted @ (targets - mean_target))
    return weights, mean_target - mean_z @ weights


def features_of(features: Sequence[int], n: int) -> tuple[int, ...]:
    """Feature numbers, checked."""
    checked = tuple(int(feature) for feature in features)
    if len(set(checked)) < len(checked) or not all(0 <= feature < n for feature in checked):
        raise WorldError(
            f"features must be different numbers from 0 to {n - 1}, got {list(checked)}."
        )
    return checked


def _probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"`{name}` must be a probability from 0 to 1, got {value}.")
