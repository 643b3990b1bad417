r"""Which features clean latents should keep, and which of two a mixed latent turns to.

Features at right angles, each latent equal to one feature: what remains of the squared error is the
variance of the features without a latent, since the decoder bias takes their means,

$$E(S) = \sum_{k \notin S} p_k (1 - p_k)\, m_k^2$$

whatever the correlations.

A latent that has mixed a parent with a child, $d = u f_p + v f_c$, has the pre-activations 0,
$u m_p$ (parent alone) and $u m_p + v m_c$. A mixture of two peaks cuts below or above the middle
one, where the variance between the sides is larger. With $p$ the parent's rate, $q = P(c \mid p)$:

$$B_{low} = p (1 - p) (u m_p + q v m_c)^2, \qquad
  B_{high} = p q (1 - p q) \Big(v m_c + \frac{1 - p}{1 - p q} u m_p\Big)^2$$

After a low cut the latent must fire equally with and without the child: it becomes the parent.
After a high cut it must be silent at the parent alone: it becomes the child.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.theory.single_latent import loss_without_latent


def error_of_clean(variances: Float[Tensor, " feature"], kept: Iterable[int]) -> float:
    """Squared error when exactly these features have a clean latent.

    **Arguments:**
    - `variances`: of every feature's strength, as `variances_of` gives them.
    - `kept`: features with a latent.
    """
    without = torch.ones_like(variances, dtype=torch.bool)
    without[list(kept)] = False
    return float(variances[without].sum())


def variances_of(*, parent: int) -> Float64[Tensor, " feature"]:
    """Variances in the world of twenty features in which 5 and 7 switch a parent on."""
    i = torch.arange(20, dtype=torch.float64)
    rates, magnitudes = 0.3 * (i + 1) / 20, 20 - i
    rates[parent] = 1 - (1 - rates[parent]) * (1 - rates[5]) * (1 - rates[7])
    return loss_without_latent(rates, magnitudes)


def between(
    *, parent_rate: float, given: float, parent_peak: float, child_step: float
) -> tuple[float, float]:
    """The variance between the two sides of a low and of a high cut.

    **Arguments:**
    - `parent_rate`: p.
    - `given`: q.
    - `parent_peak`: u m_p, the pre-activation when the parent fires alone.
    - `child_step`: v m_c, what the child adds.

    >>> low, high = between(parent_rate=0.3, given=0.4, parent_peak=1.0, child_step=0.4)
    >>> low > high  # it becomes the parent
    True
    """
    p, both = parent_rate, parent_rate * given
    low = p * (1 - p) * (parent_peak + given * child_step) ** 2
    high = both * (1 - both) * (child_step + (1 - p) / (1 - both) * parent_peak) ** 2
    return low, high


def turning_point(*, parent_rate: float, given: float, ratio: float = 1.0) -> float:
    r"""The angle between parent (0) and child (π/2) at which the cut goes over from low to high.

    Both variances are squares of forms linear in $u = \cos\theta$ and $v = \sin\theta$.

    **Arguments:**
    - `parent_rate`, `given`: as for `between`.
    - `ratio`: $m_c / m_p$.
    """
    p, both = parent_rate, parent_rate * given
    low, high = math.sqrt(p * (1 - p)), math.sqrt(both * (1 - both))
    parent = low - high * (1 - p) / (1 - both)
    child = ratio * (high - low * given)
    return math.atan2(parent, child)
