r"""Why each condition of identifiability is needed: small worlds in which recovery fails.

Three of the four counterexamples of the source are wrong or incomplete. Each stands here corrected,
and as printed, as data with which the claim can be checked by brute force. All but the third use
the directions

$$f_1 = (1, 0), \quad f_2 = (0, 1), \quad f_3 = (0, -1)$$

which are also those of the source's example 1 on the choice of weights. Notation as in
`identifiability`; the source counts features from 1, and so do the formulas here.

**Reference:** Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse
Autoencoders and Beyond", §3.2.2, called *the source*.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.theory.states import Number


@dataclass(frozen=True, kw_only=True, eq=False)
class Counterexample:
    """Features, weights, and the latent activations that are claimed for them."""

    directions: Float64[Tensor, "feature d_in"]
    """The true features."""
    magnitudes: Float64[Tensor, "sample feature"]
    """What fires, one sample a row."""
    W: Float64[Tensor, "latent d_in"]
    """The weights in question."""
    z: Float64[Tensor, "sample latent"]
    """The latent activations that are claimed to follow."""


def example_directions() -> Float64[Tensor, "3 2"]:
    r"""$f_1 = (1, 0)$, $f_2 = (0, 1)$, $f_3 = (0, -1)$: dimension 2 is shared by two features."""
    return _matrix([[1, 0], [0, 1], [0, -1]])


def dense_features() -> Counterexample:
    r"""Counterexample 1, corrected: without sparsity the truth may be gone from the activation.

    With $W = F$ and ReLU, $s = (1, 1, 1)$ gives $z = (1, 0, 0)$: features 2 and 3 cancel. No SAE,
    nor any other function of the activation, could do better, as $(1, 0, 0)$ makes the same
    activation.
    """
    rows = example_directions()
    return Counterexample(
        directions=rows, magnitudes=_matrix([[1, 1, 1]]), W=rows, z=_matrix([[1, 0, 0]])
    )


def dense_features_as_printed() -> Counterexample:
    r"""Counterexample 1 as printed: $s = (1, 1, 0)$ is claimed to give $z = (1, 0, 0)$.

    It gives $z = (1, 1, 0) = s$: the truth is recovered. The printed z belongs to (1, 1, 1).
    """
    rows = example_directions()
    return Counterexample(
        directions=rows, magnitudes=_matrix([[1, 1, 0]]), W=rows, z=_matrix([[1, 0, 0]])
    )


def no_sparsifier() -> Counterexample:
    r"""Counterexample 2, right as printed: without a sparsifier the optimum is not unique.

    Any W with $W^\top W = I$ is one. The one given reconstructs every activation and encodes
    $s = (0, 0, 1)$ as $(0, -1, 0)$. Its z is for the sparsifier `torch.nn.Identity()`.
    """
    return Counterexample(
        directions=example_directions(),
        magnitudes=_matrix([[0, 0, 1]]),
        W=_matrix([[1, 0], [0, 1], [0, 0]]),
        z=_matrix([[0, -1, 0]]),
    )


def l1_loss(
    W: Float[Tensor, "*grid latent"], coefficient: Number, *, squared: bool = False
) -> Float64[Tensor, "*grid"]:
    r"""The loss of counterexample 3: one dimension, features $1$ and $-1$, no sparsifier, L1.

    $$\left|1 - \|w\|_2^2\right| + \lambda \|w\|_1, \qquad
      \text{squared:} \quad \left(1 - \|w\|_2^2\right)^2 + \lambda \|w\|_1$$

    The same for either feature, which make the activations 1 and −1.

    **Arguments:**
    - `W`: the latents' only weights, along the last axis.
    - `coefficient`: $\lambda$.
    - `squared`: whether the error is squared. The source has it not squared here.
    """
    w = W.double()
    error = (1 - w.square().sum(-1)).abs()
    return (error.square() if squared else error) + coefficient * w.abs().sum(-1)


def l1_directions() -> Float64[Tensor, "2 1"]:
    """The features of counterexample 3, 1 and −1 in one dimension."""
    return _matrix([[1], [-1]])


def l1_minimisers(
    coefficient: Number, *, squared: bool = False
) -> Float64[Tensor, "minimiser latent"]:
    r"""Counterexample 3, corrected: all minimisers of `l1_loss` for two latents.

    For given $\|w\|_2 = r$ the L1 norm is least on an axis, where the loss is
    $1 - r^2 + \lambda r$, concave in r. So the minimisers are

    - $(\pm 1, 0)$ and $(0, \pm 1)$ with loss $\lambda$, for $\lambda < 1$,
    - $(0, 0)$ with loss 1, for $\lambda > 1$; at $\lambda = 1$ all five.

    None recovers both features: a linear latent that is 1 for the first is −1 for the second. (Each
    feature *alone* is recovered by one of the four, so a world in which only the first ever fires,
    as in the source, proves nothing.)

    If the error is squared, r is the largest root of $r^3 - r + \lambda / 4 = 0$, $.9304$ at
    $\lambda = .5$, and 0 takes over at $\lambda = \frac43 \sqrt{\frac23} = 1.089$.

    **Arguments:**
    - `coefficient`: $\lambda > 0$.
    - `squared`: whether the error is squared.

    **Raises:** `ConfigError` if the coefficient is not positive.
    """
    if not (coefficient > 0 and math.isfinite(coefficient)):
        raise ConfigError(
            f"the coefficient must be positive, got {coefficient}; at 0 every w of length 1 is a "
            "minimiser."
        )
    limit = 4 / 3 * math.sqrt(2 / 3) if squared else 1.0
    found: list[list[Number]] = []
    if coefficient <= limit:
        # Viète's formula for the largest of three real roots
        cube = math.acos(-3 * math.sqrt(3) / 8 * coefficient) / 3 if squared else 0.0
        r = 2 / math.sqrt(3) * math.cos(cube) if squared else 1.0
        found += [[r, 0], [-r, 0], [0, r], [0, -r]]
    if coefficient >= limit:
        found += [[0, 0]]
    return _matrix(found)


def l1_minimiser_as_printed(coefficient: Number) -> Float64[Tensor, " latent"]:
    r"""Counterexample 3 as printed: $w = (t, t)$ up to signs, $t = \min(\lambda, \sqrt 2) / 2$.

    For $\lambda < \sqrt 2$ it is the point of *largest* loss on the diagonal up to $\|w\|_2 = 1$:
    $1 + \lambda^2 / 2$, at $\lambda = .5$ 1.125, where 0 has 1 and the minimisers have .5.

    **Arguments:**
    - `coefficient`: $\lambda$.
    """
    t = min(coefficient / 2, math.sqrt(2) / 2)
    return torch.tensor([t, t], dtype=torch.float64)


def too_few_latents() -> Counterexample:
    r"""Counterexample 4, completed: two latents cannot serve three features, each firing alone.

    If z consisted of the magnitudes of any two features, the activation of the third would be
    reconstructed as 0. Indeed no W of two latents has less than the error 5/7, summed over the
    three features; the W given attains it, with latents that each stand for two features at once:

    $$W = \begin{pmatrix} a & b \\ a & -b \end{pmatrix}, \qquad a^2 = \frac27, \quad b^2 = \frac67$$
    """
    a, b = math.sqrt(2 / 7), math.sqrt(6 / 7)
    return Counterexample(
        directions=example_directions(),
        magnitudes=torch.eye(3, dtype=torch.float64),
        W=_matrix([[a, b], [a, -b]]),
        z=_matrix([[a, a], [b, 0], [0, b]]),
    )


def too_few_latents_as_printed() -> Counterexample:
    r"""Counterexample 4 as printed has only $s = (0, 0, 1)$ and rules out only $z = (s_1, s_2)$.

    That much is true. But the W given here, $((1, 0), (0, -1))$, reconstructs this s perfectly and
    recovers $(s_1, s_3) = (0, 1)$, "part of the monosemantic features". Features 2 and 3 must both
    occur, as in `too_few_latents`.
    """
    return Counterexample(
        directions=example_directions(),
        magnitudes=_matrix([[0, 0, 1]]),
        W=_matrix([[1, 0], [0, -1]]),
        z=_matrix([[0, 1]]),
    )


def _matrix(rows: Sequence[Sequence[Number]]) -> Float64[Tensor, "row column"]:
    return torch.tensor(rows, dtype=torch.float64)
