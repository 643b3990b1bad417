r"""What an SAE's loss has to do with recovering the features, and what reweighting can do about it.

With the notation of `identifiability`, $e = s - z$ and $\Gamma = \mathrm{diag}(\gamma)$,

$$\mathbb E \|\Gamma (x - \hat x)\|^2 = \mathbb E \Big[
    \underbrace{\|e\|^2}_{features}
  + \underbrace{\|\Gamma (W - F)^\top z\|^2}_{mismatch}
    \underbrace{- 2\, z^\top (W - F) \Gamma^2 F^\top e}_{cross}
  + \underbrace{e^\top (F \Gamma^2 F^\top - I)\, e}_{interference} \Big]$$

since $\Gamma (x - \hat x) = \Gamma F^\top e - \Gamma (W - F)^\top z$. Training sees the left side;
the first term on the right is what one wants. The second and third vanish at $W = F$, the last
depends on $\Gamma$.

**Reference:** Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse
Autoencoders and Beyond", theorems 3 ($\Gamma = I$) and 4; equations 13, 15, 28 and 30 there have
the sign of the third term wrong. Equations 16 and 17 are corrected here too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.theory.identifiability import (
    check_square,
    expectation,
    latent_activations,
    squared_gamma,
)
from latent_assay.theory.states import Number


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """The four parts of an SAE's expected loss."""

    features: Float64[Tensor, ""]
    r"""$\mathbb E \|s - z\|^2$: how far the truth is from recovered."""
    mismatch: Float64[Tensor, ""]
    r"""$\mathbb E \|\Gamma (W - F)^\top z\|^2$."""
    cross: Float64[Tensor, ""]
    r"""$-2\, \mathbb E\, z^\top (W - F) \Gamma^2 F^\top (s - z)$."""
    interference: Float64[Tensor, ""]
    r"""$\mathbb E\, (s - z)^\top (F \Gamma^2 F^\top - I) (s - z)$."""

    @property
    def total(self) -> Float64[Tensor, ""]:
        """Their sum: the loss itself."""
        return self.features + self.mismatch + self.cross + self.interference

    @property
    def gap(self) -> Float64[Tensor, ""]:
        """By how much the loss misses the first part."""
        return self.mismatch + self.cross + self.interference


def decomposition(
    W: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    magnitudes: Float[Tensor, "sample feature"],
    probability: Float[Tensor, " sample"] | None = None,
    *,
    gamma: Float[Tensor, " d_in"] | None = None,
    sparsifier: Callable[[Tensor], Tensor] = torch.relu,
) -> Decomposition:
    r"""The parts of `identifiability.sae_loss`; they sum to it exactly.

    An identity: it holds for every W, every $\Gamma$ and every sparsifier.

    **Arguments:**
    - `W`: one row for each latent, as many as features.
    - `directions`: F.
    - `magnitudes`: samples of s.
    - `probability`: of each sample; None for equal ones. The expectation covers all four parts.
    - `gamma`: the diagonal of $\Gamma$; None for ones, which is theorem 3.
    - `sparsifier`: $\sigma$.

    **Raises:** `ShapeError` if latents and features are not equally many.
    """
    rows, s, weights = directions.double(), magnitudes.double(), W.double()
    check_square(weights, rows)
    square = squared_gamma(rows, gamma)
    z = latent_activations(weights, rows, s, sparsifier=sparsifier)
    error, difference = s - z, weights - rows
    seen = error @ rows * square  # Γ² Fᵀ e, sample by sample
    return Decomposition(
        features=expectation(error.square().sum(-1), probability),
        mismatch=expectation(((z @ difference).square() * square).sum(-1), probability),
        cross=expectation(-2 * ((z @ difference) * seen).sum(-1), probability),
        interference=expectation(
            ((error @ rows) * seen).sum(-1) - error.square().sum(-1), probability
        ),
    )


def decomposition_as_printed(
    W: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    magnitudes: Float[Tensor, "sample feature"],
    probability: Float[Tensor, " sample"] | None = None,
    *,
    gamma: Float[Tensor, " d_in"] | None = None,
    sparsifier: Callable[[Tensor], Tensor] = torch.relu,
) -> Decomposition:
    r"""Theorems 3 and 4 as the source has them, with $+2$ before the third part.

    Their sum misses the loss by twice that part, so it is right only where the part is zero, at
    $W = F$ for example. One feature in one dimension suffices: $f = 1$, $W = \frac12$, $s = 1$
    gives $z = \frac12$ and the loss $(1 - \frac14)^2 = \frac9{16}$, but a printed sum of
    $\frac1{16}$. (As typeset, the expectation also covers the second part only; here it covers
    all.)

    **Arguments:** as for `decomposition`.
    """
    parts = decomposition(
        W, directions, magnitudes, probability, gamma=gamma, sparsifier=sparsifier
    )
    return replace(parts, cross=-parts.cross)


def weighted_gram(
    directions: Float[Tensor, "feature d_in"], gamma: Float[Tensor, " d_in"]
) -> Float64[Tensor, "feature feature"]:
    r"""$F \Gamma^2 F^\top$, with entries $\sum_q \gamma_q^2 F_{iq} F_{jq}$.

    **Arguments:**
    - `directions`: F.
    - `gamma`: a weight for each dimension of the activation.
    """
    rows = directions.double()
    return rows * squared_gamma(rows, gamma) @ rows.mT


def weighted_gram_as_printed(
    directions: Float[Tensor, "feature d_in"], gamma: Float[Tensor, " feature"]
) -> Float64[Tensor, "feature feature"]:
    r"""Equation 16: entries $\gamma_i^2\, f_i \cdot f_j$, as if each *feature* had a weight.

    But $\gamma$ has an entry for each dimension of the activation, of which there are fewer; and
    the result is not symmetric, though $F \Gamma^2 F^\top$ is.

    **Arguments:**
    - `directions`: F.
    - `gamma`: what equation 16 needs, a weight for each feature.
    """
    rows = directions.double()
    return gamma.double().square().unsqueeze(-1) * (rows @ rows.mT)


def interference_gap(
    directions: Float[Tensor, "feature d_in"], gamma: Float[Tensor, " d_in"] | None = None
) -> float:
    r"""$\|F \Gamma^2 F^\top - I\|_F^2$: how large the last part of the loss can be.

    The source calls the gap zero if $F \Gamma^2 F^\top = I$. That cannot be when there are more
    features than dimensions: the rank of the product is at most d, so the gap is at least
    `smallest_gap`.

    **Arguments:**
    - `directions`: F.
    - `gamma`: the diagonal of $\Gamma$; None for ones.

    >>> example = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> interference_gap(example), round(interference_gap(example, best_gamma(example)), 12)
    (2.0, 1.0)
    """
    rows = directions.double()
    gram = rows * squared_gamma(rows, gamma) @ rows.mT
    return float((gram - torch.eye(len(rows)).to(gram)).square().sum())


def smallest_gap(features: int, d_in: int) -> int:
    r"""$\max(0, n - d)$: no $\Gamma$ at all, diagonal or not, makes `interference_gap` smaller.

    A diagonal one attains it where the d columns of F are at right angles.

    **Arguments:**
    - `features`: n.
    - `d_in`: d.
    """
    return max(0, features - d_in)


def best_gamma(directions: Float[Tensor, "feature d_in"]) -> Float64[Tensor, " d_in"]:
    r"""The diagonal $\Gamma$ that makes `interference_gap` least.

    In $g = \gamma^2$ the gap is a quadratic, so this is a non-negative least squares with d
    unknowns:

    $$\min_{g \ge 0} \; g^\top M g - 2 c^\top g + n, \qquad
      M_{qr} = (w_q \cdot w_r)^2, \quad c_q = \|w_q\|^2$$

    with $w_q$ the q-th column of F: how strongly each feature uses dimension q. Where the columns
    are at right angles, $g_q = 1 / \|w_q\|^2$: a dimension that many features share gets less
    weight, which is the source's principle. Its example 1 has $\gamma = (1, 1/\sqrt 2)$ and a gap
    of 1 instead of 2.

    **Arguments:**
    - `directions`: F.

    **Returns:** $\gamma \ge 0$; 0 for a dimension that no feature uses.
    """
    from scipy.optimize import nnls  # not needed by anyone who only imports this module

    columns = directions.double().mT
    inner = columns @ columns.mT
    # With M = Aᵀ A this is ‖A g - b‖ where Aᵀ b = c: d unknowns instead of n² equations.
    values, vectors = torch.linalg.eigh(inner.square())
    if values[-1] <= 0:
        return torch.zeros_like(values)
    kept = values > values[-1] * 1e-12
    root = values[kept].sqrt().unsqueeze(-1) * vectors[:, kept].mT
    target = (vectors[:, kept].mT @ inner.diagonal()) / values[kept].sqrt()
    solution, _ = nnls(root.cpu().numpy(), target.cpu().numpy())
    return torch.from_numpy(solution).to(columns).sqrt()


def gamma_from_variance(
    variance: Float[Tensor, " d_in"], exponent: Number
) -> Float64[Tensor, " d_in"]:
    r"""$\gamma_i \propto s_i^\alpha$ with the mean of $\gamma^2$ equal to 1.

    $s_i$ is the variance of the *activation* in dimension i, taken as a sign that the dimension is
    not shared by many features. Equation 17 calls it the variance of *SAE latent* i, which cannot
    be, as $\Gamma$ has an entry for each dimension of the activation; and it does not normalise, so
    that $\alpha$ would change the scale of the loss too.

    **Arguments:**
    - `variance`: $s_i$.
    - `exponent`: $\alpha$; 0 is the plain loss.

    **Raises:** `ConfigError` if a variance is negative or not finite, or all of them vanish.

    >>> gamma_from_variance(torch.tensor([1.0, 4.0]), exponent=0.5).square().tolist()
    [0.4, 1.6]
    """
    s = variance.double()
    if not bool((s.isfinite() & (s >= 0)).all()) or not bool((s > 0).any()):
        raise ConfigError(
            "variances must be finite, not negative, and not all zero; check the activations from "
            "which they were computed."
        )
    gamma = (s / s.max()) ** exponent
    return gamma / gamma.square().mean().sqrt()
