r"""Which weights are minimisers under extreme sparsity: two theorems, and what they leave out.

Theorem 1 says that $W = F$ is a minimiser, theorem 2 that there is no other if there are as many
latents as features. In the notation of `identifiability`: a W is a minimiser with no error left if
$W^\top \sigma(W f_u) = f_u$ for every feature u. The proof of theorem 2 takes this for equivalent
to a vanishing gradient, but at $W = 0$ the gradient vanishes and nothing is reconstructed.

**Reference:** Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse
Autoencoders and Beyond", called *the source*.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError, WorldError

# Inner products that should be 0 or 1 may miss it by this much, the rounding of float32.
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class RecoveryConditions:
    r"""Under which conditions $W = F$ has no error on single features (theorem 1, completed).

    The theorem states only enough latents and extreme sparsity. Its proof needs more than that.
    """

    unit_length: bool
    r"""All directions have length 1. At length c a feature keeps the error $c^2 (1 - c^2)^2$."""
    distinct: bool
    """No two directions are equal."""
    non_positive: bool
    r"""$f_i \cdot f_j \le 0$ for all $i \ne j$. Then there are at most `most_features_for_relu`."""

    @property
    def with_relu(self) -> bool:
        """Whether it holds for ReLU."""
        return self.unit_length and self.non_positive

    @property
    def with_top_1(self) -> bool:
        """Whether it holds for Top-1, which needs nothing of the interference."""
        return self.unit_length and self.distinct


def recovery_conditions(directions: Float[Tensor, "feature d_in"]) -> RecoveryConditions:
    """Check what $W = F$ needs to be a minimiser under extreme sparsity.

    **Arguments:**
    - `directions`: F.

    >>> pentagon = torch.arange(5) * 2 * math.pi / 5
    >>> found = recovery_conditions(torch.stack([pentagon.cos(), pentagon.sin()], dim=1))
    >>> found.with_relu, found.with_top_1
    (False, True)
    """
    rows = directions.double()
    gram = rows @ rows.mT
    other = gram - torch.diag(gram.diagonal())
    return RecoveryConditions(
        unit_length=bool(((gram.diagonal() - 1).abs() < ROUNDING).all()),
        distinct=bool((torch.pdist(rows) > ROUNDING).all()),
        non_positive=bool((other < ROUNDING).all()),
    )


def most_features_for_relu(d_in: int) -> int:
    r"""$2 d$: no more non-zero vectors in $d$ dimensions have pairwise inner products $\le 0$.

    So theorem 1 cannot hold for ReLU in the source's own experiment, 200 features in 20 dimensions.

    **Arguments:**
    - `d_in`: d.
    """
    return 2 * d_in


def largest_k(directions: Float[Tensor, "feature d_in"], width: int) -> int:
    r"""The largest k for which Top-k keeps only latent u when feature u fires alone, for $W = F$.

    1 if any two directions have a positive inner product: the next entry kept is then one that
    should be zero. Else $n_m - p$, with p the most negative interferences that one feature has.
    Directions must be distinct and of length 1.

    **Arguments:**
    - `directions`: F.
    - `width`: $n_m$, number of latents; those beyond the features are zero rows.

    **Raises:** `ConfigError` if there are fewer latents than features.
    """
    rows = directions.double()
    gram = rows @ rows.mT
    positive = (gram - torch.diag(gram.diagonal()) > ROUNDING).any()
    return 1 if bool(positive) else largest_k_as_printed(directions, width)


def largest_k_as_printed(directions: Float[Tensor, "feature d_in"], width: int) -> int:
    r"""$n_m - p$, whatever the interference: the source has the condition $1 < k \le n_m - p$.

    With a gram row (1, .6, 0, 0) and no negative inner product at all, $p = 0$, and any k up to 4
    should do; but Top-2 keeps 1 and .6. And $k = 1$, which the source leaves out, always works.
    """
    rows = directions.double()
    if width < len(rows):
        raise ConfigError(
            f"{len(rows)} features need as many latents, got a width of {width}; give the "
            "number of rows of W."
        )
    return width - int((rows @ rows.mT < -ROUNDING).sum(-1).max())


def simplex(d_in: int) -> Float64[Tensor, "feature d_in"]:
    r"""$d + 1$ unit vectors in d dimensions, every two with inner product $-1/d$.

    In the plane it is the Mercedes star: three vectors at 120°.

    **Arguments:**
    - `d_in`: d, at least 1.

    **Raises:** `ConfigError` if it is less.
    """
    if d_in < 1:
        raise ConfigError(f"a simplex needs at least one dimension, got d_in {d_in}.")
    columns = torch.zeros(d_in + 1, d_in, dtype=torch.float64)
    for j in range(d_in):  # an orthonormal basis of all vectors whose entries sum to 0
        columns[: j + 1, j] = 1 / math.sqrt((j + 1) * (j + 2))
        columns[j + 1, j] = -(j + 1) / math.sqrt((j + 1) * (j + 2))
    return math.sqrt((d_in + 1) / d_in) * columns


def reflected_minimiser(
    directions: Float[Tensor, "feature d_in"],
) -> Float64[Tensor, "latent d_in"]:
    r"""$W = -\sqrt d\, F$ for a simplex F: a counterexample to the uniqueness claimed by theorem 2.

    The theorem says that under extreme sparsity $W = F$ is the *only* minimiser if there are as
    many latents as features. For a simplex all its conditions hold, and yet

    $$\mathrm{ReLU}(W f_u)_j = \frac{1}{\sqrt d} \; (j \ne u), \quad 0 \; (j = u), \qquad
      W^\top z = -\sum_{j \ne u} f_j = f_u$$

    has no error either. d latents fire for each feature and no latent stands for one; for $d \ge 3$
    there are mixtures of the two as well. (Every permutation of F is another minimiser; that alone
    refutes the wording. With Top-1, and latent activations that are not negative, there are only
    these.)

    **Arguments:**
    - `directions`: a simplex, see `simplex`.

    **Raises:** `WorldError` if the directions are no simplex.
    """
    rows = directions.double()
    n, d_in = rows.shape
    expected = torch.eye(n).to(rows) * (1 + 1 / d_in) - 1 / d_in
    if n != d_in + 1 or not torch.allclose(rows @ rows.mT, expected, atol=ROUNDING):
        raise WorldError(
            "this minimiser is for a simplex, d + 1 unit vectors with inner products -1/d, but the "
            f"{n} directions in {d_in} dimensions are none. Use `simplex`."
        )
    return -math.sqrt(d_in) * rows
