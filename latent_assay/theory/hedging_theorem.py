r"""What the hedging theorem claims about any narrow SAE, and two worlds in which that is not so.

The theorem says that the weight $V_{ik}$ of an orphan k in the latent of tracked feature i "is
determined by the partial correlation between $f_i$ and $f_k$, scaled by their relative magnitudes",
and that it is zero for independent and not zero for correlated features. Its proof treats tracked
features that are independent of each other. The right statement is that $V_{ik}$ is the partial
*regression coefficient* of k on i given the other tracked features, which `hedging.oracle_decoder`
returns.

**Reference:** Chanin et al. 2025, "Feature Hedging", appendix A.4; counterexamples derived here.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.theory.hedging import SINGULAR, features_of, regression
from latent_assay.worlds import Enumeration


def partial_correlation(
    enumeration: Enumeration, latent: int, orphan: int, given: Sequence[int]
) -> float:
    r"""Correlation of two features' magnitudes once the others are regressed out.

    **Arguments:**
    - `enumeration`: every activation that can occur, with its probability.
    - `latent`, `orphan`: the two features.
    - `given`: the features to hold fixed, without `latent` and `orphan`.

    **Returns:** the partial correlation; 0 if nothing of one of the two remains.
    """
    magnitudes, probability = enumeration.magnitudes.double(), enumeration.probability.double()
    others = magnitudes[:, list(features_of(given, magnitudes.shape[1]))]
    pair = magnitudes[:, list(features_of([latent, orphan], magnitudes.shape[1]))]
    weights, bias = regression(others, pair, probability)
    rest = pair - others @ weights - bias
    covariance = rest.mT @ (probability.unsqueeze(-1) * rest)
    spread = (covariance[0, 0] * covariance[1, 1]).sqrt()
    scale = magnitudes.square().amax()
    return float(covariance[0, 1] / spread) if spread > SINGULAR * scale else 0.0


def weight_as_printed(
    enumeration: Enumeration, tracked: Sequence[int], latent: int, orphan: int
) -> float:
    r"""$\frac{m_k}{m_i} \rho_{ik}$ with the partial correlation $\rho_{ik}$: what the theorem says.

    Sign and zeros are right, the size is not: the factor should be the ratio of the two standard
    deviations that remain when the other tracked features are regressed out. At
    $P(i) = .25$, $P(k \mid i) = .2$, $P(k \mid \neg i) = 0$ it is $V = .2$ where this gives
    $.397$.

    **Arguments:**
    - `enumeration`: every activation that can occur; each feature has one magnitude.
    - `tracked`: the features that have a latent.
    - `latent`: the tracked feature i.
    - `orphan`: k.
    """
    others = [feature for feature in tracked if feature != latent]
    size = enumeration.magnitudes.double().amax(0)
    ratio = float(size[orphan] / size[latent])
    return ratio * partial_correlation(enumeration, latent, orphan, others)


def hedges_as_printed(enumeration: Enumeration, latent: int, orphan: int) -> bool:
    r"""Whether the theorem's claims 1 and 2 predict hedging: if and only if the two correlate.

    "If $f_k$ is correlated with $f_i$, $V_{ik} \ne 0$" and "if $f_k$ is independent of $f_i$,
    $V_{ik} = 0$". Both are true when the tracked features are uncorrelated among themselves. Else
    both can fail: `suppressed_independence` hedges without correlation, and `screened_correlation`
    correlates without hedging.

    **Arguments:**
    - `enumeration`: every activation that can occur, with its probability.
    - `latent`: the tracked feature i.
    - `orphan`: k.
    """
    return abs(partial_correlation(enumeration, latent, orphan, [])) > SINGULAR


def suppressed_independence() -> Enumeration:
    r"""A world in which a latent hedges a feature that is independent of it.

    Features 1 and 2 fire independently with probability ½, and
    $P(0 \mid a_1, a_2) = .1 + .4 a_1 + .4 a_2$. With 0 and 1 tracked, the orphan 2 has covariance 0
    with feature 1 but the weight $-4/21 = -.190$ in its latent: the latent of 0 carries $10/21$ of
    the orphan, too much when it was 1 that made 0 fire, and the latent of 1 takes it back. The bias
    is $5/14$.

    >>> from latent_assay.theory.hedging import oracle_decoder
    >>> weights = oracle_decoder(suppressed_independence(), tracked=[0, 1]).weights
    >>> [round(21 * weight, 9) for weight in weights[:, 2].tolist()]
    [10.0, -4.0]
    """
    firing = _all_patterns(3)
    first = 0.1 + 0.4 * firing[:, 1] + 0.4 * firing[:, 2]
    return _unit_world(firing, 0.25 * _chance(firing[:, 0], first))


def screened_correlation() -> Enumeration:
    r"""A world in which a latent does not hedge a feature that is correlated with it.

    A chain 1 ← 0 → 2: $P(0) = ½$, $P(1 \mid 0) = .8$ and $.2$, $P(2 \mid 0) = .7$ and $.1$. With 0
    and 1 tracked, the orphan 2 has covariance $.09$ with feature 1 and weight 0 in its latent,
    since all that 1 knows about 2 it knows through 0.
    """
    firing = _all_patterns(3)
    second = _chance(firing[:, 1], 0.2 + 0.6 * firing[:, 0])
    third = _chance(firing[:, 2], 0.1 + 0.6 * firing[:, 0])
    return _unit_world(firing, 0.5 * second * third)


def _all_patterns(n: int) -> Float64[Tensor, "pattern feature"]:
    digits = torch.arange(2**n).unsqueeze(-1) >> torch.arange(n - 1, -1, -1)
    return (digits & 1).double()


def _chance(
    fires: Float64[Tensor, " pattern"], probability: Float64[Tensor, " pattern"]
) -> Float64[Tensor, " pattern"]:
    """The probability of what happened: `probability` where it fires, the rest where not."""
    return torch.where(fires > 0, probability, 1 - probability)


def _unit_world(
    firing: Float64[Tensor, "pattern feature"], probability: Float64[Tensor, " pattern"]
) -> Enumeration:
    """Features along the axes with magnitude 1."""
    return Enumeration(firing=firing > 0, magnitudes=firing, x=firing, probability=probability)
