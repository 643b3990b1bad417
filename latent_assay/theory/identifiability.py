r"""When an SAE recovers the truth: losses, extreme sparsity, and which minimisers there are.

Notation. The source writes $x$ for the magnitudes of the true features, $x_p = W_p x$ for the
activation, $W_m$ for the one weight matrix of a tied SAE without biases, $x_m$ for its latent
activations. Here these are `magnitudes` $s$, the activation $x = F^\top s$ with `directions`
$F = W_p^\top$ (a row for each feature), `W` $= W_m$ (a row for each latent), and $z$:

$$x = F^\top s, \qquad z = \sigma(W x), \qquad \hat x = W^\top z$$

A sparsifier $\sigma$ is any function of pre-activations: `torch.relu`, `top_k.top_k` with its k set
by `functools.partial`, or `torch.nn.Identity()` for none.

**Reference:** Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse
Autoencoders and Beyond", called *the source* below. Where it is wrong its formula stands here as
`..._as_printed`. Its two theorems are in `minimisers`, its decomposition of the loss is in
`decomposition`, its counterexamples are in `counterexamples`.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.theory.states import Number


def superposition_loss(
    directions: Float[Tensor, "feature d_in"],
    magnitudes: Float[Tensor, "sample feature"],
    probability: Float[Tensor, " sample"] | None = None,
) -> Float64[Tensor, ""]:
    r"""How well features can be read back from the activation by their own directions.

    $$\mathbb E \, \|s - \mathrm{ReLU}(F F^\top s)\|^2$$

    Its minimum defines the directions of the source's toy world (`worlds.directions.learned`).

    **Arguments:**
    - `directions`: F.
    - `magnitudes`: samples of s.
    - `probability`: of each sample; None for equal ones.

    **Reference:** equation 3 of the source, from Elhage et al. 2022, arXiv:2209.10652.
    """
    rows, s = _pair(directions, magnitudes)
    return expectation((s - torch.relu(s @ rows @ rows.mT)).square().sum(-1), probability)


def latent_activations(
    W: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    magnitudes: Float[Tensor, "sample feature"],
    *,
    sparsifier: Callable[[Tensor], Tensor] = torch.relu,
) -> Float64[Tensor, "sample latent"]:
    r"""$z = \sigma(W F^\top s)$, equation 4.

    **Arguments:**
    - `W`: one row for each latent, encoder and decoder at once.
    - `directions`: F.
    - `magnitudes`: samples of s.
    - `sparsifier`: $\sigma$.

    **Raises:** `ShapeError` if the shapes do not fit.
    """
    rows, s = _pair(directions, magnitudes)
    if W.dim() != 2 or W.shape[1] != rows.shape[1]:
        raise ShapeError(
            f"W has shape {list(W.shape)} but the directions have d_in {rows.shape[1]}; W must be "
            "[latent, d_in]."
        )
    return sparsifier(s @ rows @ W.double().mT)


def sae_loss(
    W: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    magnitudes: Float[Tensor, "sample feature"],
    probability: Float[Tensor, " sample"] | None = None,
    *,
    gamma: Float[Tensor, " d_in"] | None = None,
    sparsifier: Callable[[Tensor], Tensor] = torch.relu,
) -> Float64[Tensor, ""]:
    r"""The expected error of the activation, reweighted or not.

    $$\mathbb E \, \|\Gamma (x - W^\top \sigma(W x))\|^2, \qquad \Gamma = \mathrm{diag}(\gamma)$$

    **Arguments:**
    - `W`: one row for each latent.
    - `directions`: F.
    - `magnitudes`: samples of s.
    - `probability`: of each sample; None for equal ones.
    - `gamma`: a weight for each dimension of the activation; None for ones.
    - `sparsifier`: $\sigma$.

    **Returns:** the loss, differentiable in `W`.

    **Raises:** `ShapeError` if the shapes do not fit.

    **Reference:** equations 6 and 14.
    """
    rows, s = _pair(directions, magnitudes)
    z = latent_activations(W, rows, s, sparsifier=sparsifier)
    error = s @ rows - z @ W.double()
    return expectation(error.square() @ squared_gamma(rows, gamma), probability)


def feature_loss(
    W: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    magnitudes: Float[Tensor, "sample feature"],
    probability: Float[Tensor, " sample"] | None = None,
    *,
    sparsifier: Callable[[Tensor], Tensor] = torch.relu,
) -> Float64[Tensor, ""]:
    r"""How far the latent activations are from the features' magnitudes, latent i for feature i.

    $$\mathbb E \, \|s - \sigma(W x)\|^2$$

    This, and not `sae_loss`, says whether the truth is recovered; but training cannot see it.

    **Arguments:** as for `sae_loss`; as many latents as features.

    **Raises:** `ShapeError` if there are not.

    **Reference:** equation 12.
    """
    rows, s = _pair(directions, magnitudes)
    check_square(W, rows)
    z = latent_activations(W, rows, s, sparsifier=sparsifier)
    return expectation((s - z).square().sum(-1), probability)


def one_sparse_probability(n: int, sparsity: Number) -> float:
    r"""Probability that exactly one feature fires, given that at least one does.

    $$\frac{n S^{n-1} (1 - S)}{1 - S^n} \longrightarrow 1 \qquad (S \to 1)$$

    The limit is slow for many features: for $n = 200$ it is .31 at $S = .99$, .90 at $.999$ and .99
    at $.9999$.

    **Arguments:**
    - `n`: number of features, which fire independently.
    - `sparsity`: S, the probability that a feature is silent, below 1.

    **Raises:** `ConfigError` if a setting is out of range.

    >>> [round(one_sparse_probability(200, s), 2) for s in (0.99, 0.999, 0.9999)]
    [0.31, 0.9, 0.99]
    """
    _check_sparse(n, sparsity)
    # 1 - S^n without the cancellation that S near 1 would bring
    some = -math.expm1(n * math.log(sparsity)) if sparsity > 0 else 1.0
    return n * sparsity ** (n - 1) * (1 - sparsity) / some


def one_sparse_losses(
    W: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    *,
    sparsifier: Callable[[Tensor], Tensor] = torch.relu,
) -> Float64[Tensor, " feature"]:
    r"""The error on each feature when it fires alone at magnitude 1.

    $$\mathcal L_u = \|f_u - W^\top \sigma(W f_u)\|^2$$

    All that matters in the limit of extreme sparsity.

    **Arguments:**
    - `W`: one row for each latent.
    - `directions`: F.
    - `sparsifier`: $\sigma$.
    """
    rows = directions.double()
    alone = torch.eye(len(rows), dtype=torch.float64, device=rows.device)
    z = latent_activations(W, rows, alone, sparsifier=sparsifier)
    return (rows - z @ W.double()).square().sum(-1)


def sparse_limit(
    W: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    sparsity: Number,
    *,
    second_moment: Number = 1 / 3,
    sparsifier: Callable[[Tensor], Tensor] = torch.relu,
) -> Float64[Tensor, ""]:
    r"""`sae_loss` to first order in $1 - S$, for features that fire independently.

    $$S^{n-1} (1 - S) \; \mathbb E[m^2] \sum_u \mathcal L_u$$

    The state in which nothing fires adds nothing. $\sigma$ must scale with its argument, as ReLU
    and Top-k do.

    **Arguments:**
    - `W`: one row for each latent.
    - `directions`: F.
    - `sparsity`: S.
    - `second_moment`: $\mathbb E[m^2]$ of a firing feature's magnitude; ⅓ is that of U[0, 1].
    - `sparsifier`: $\sigma$.

    **Reference:** equation 19, corrected; see `sparse_limit_as_printed`.
    """
    _check_sparse(len(directions), sparsity)
    losses = one_sparse_losses(W, directions, sparsifier=sparsifier)
    chance = sparsity ** (len(directions) - 1) * (1 - sparsity)
    return chance * second_moment * losses.sum()


def sparse_limit_as_printed(
    W: Float[Tensor, "latent d_in"],
    directions: Float[Tensor, "feature d_in"],
    sparsity: Number,
    *,
    sparsifier: Callable[[Tensor], Tensor] = torch.relu,
) -> Float64[Tensor, ""]:
    r"""$n S^{n-1} (1 - S) \sum_u \mathcal L_u$: the last line of equation 19.

    The factor n and the sum over u count the same thing twice, and the square of the magnitude is
    missing, so the value is $n / \mathbb E[m^2]$ times too large; where the loss is zero does not
    change. (In equations 18 and 19 $W_p^\top \sigma(\cdot)$ should also read $W_p \sigma(\cdot)$.)
    """
    n = len(directions)
    return n * sparse_limit(W, directions, sparsity, second_moment=1.0, sparsifier=sparsifier)


def expectation(
    values: Float[Tensor, " sample"], probability: Float[Tensor, " sample"] | None = None
) -> Float64[Tensor, ""]:
    """The mean of values over samples, weighted if the samples have probabilities.

    **Arguments:**
    - `values`: one for each sample.
    - `probability`: of each sample; None for equal ones.
    """
    values = values.double()
    return values.mean() if probability is None else probability.double() @ values


def check_square(W: Tensor, directions: Tensor) -> None:
    """Raise `ShapeError` unless there are as many latents as features."""
    if W.shape[0] != directions.shape[0]:
        raise ShapeError(
            f"latent i is compared with feature i, but there are {W.shape[0]} latents and "
            f"{directions.shape[0]} features; give as many of one as of the other."
        )


def squared_gamma(
    directions: Float[Tensor, "feature d_in"], gamma: Float[Tensor, " d_in"] | None
) -> Float64[Tensor, " d_in"]:
    """The diagonal of Γ², ones for None.

    **Raises:** `ShapeError` unless there is one weight for each dimension of the activation.
    """
    if gamma is None:
        return torch.ones_like(directions[0], dtype=torch.float64)
    if gamma.shape != directions.shape[1:]:
        raise ShapeError(
            f"gamma has shape {list(gamma.shape)} but the activation has d_in "
            f"{directions.shape[1]}; give one weight for each of its dimensions."
        )
    return gamma.double().square()


def _pair(directions: Tensor, magnitudes: Tensor) -> tuple[Tensor, Tensor]:
    if directions.dim() != 2 or magnitudes.dim() != 2 or directions.shape[0] != magnitudes.shape[1]:
        raise ShapeError(
            f"directions have shape {list(directions.shape)} and magnitudes "
            f"{list(magnitudes.shape)}; expected [feature, d_in] and [sample, feature]."
        )
    return directions.double(), magnitudes.double()


def _check_sparse(n: int, sparsity: Number) -> None:
    if n < 1 or not 0 <= sparsity < 1:
        raise ConfigError(
            f"expected at least one feature and a sparsity from 0 up to but not including 1, got "
            f"{n} and {sparsity}."
        )
