r"""The weights $\gamma$ of `wsae` from a score for each input dimension."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError


def reweighting(
    scores: Float[Tensor, " d_in"], alpha: int | float | Sequence[int | float]
) -> Float[Tensor, "*member d_in"]:
    r"""Weights of input dimensions from how monosemantic each is taken to be.

    $$\gamma_i = \frac{s_i^\alpha}{\sqrt{\frac1{d_{in}} \sum_j s_j^{2\alpha}}}$$

    so that mean $\gamma^2 = 1$ and losses with different $\alpha$ have comparable sizes. The unit
    of the scores cancels. $\alpha = 0$ weighs all dimensions equally, dead ones (score 0) too. The
    paper takes the variance of the $i$-th dimension for $s_i$ on language models, and semantic
    consistency on images.

    **Arguments:**
    - `scores`: $s_i$, none negative; for example `x.var(0)`.
    - `alpha`: how strongly they count, one number, or one for each member.

    **Returns:** $\gamma$ for all members, or a row for each of them.

    **Raises:** `ConfigError` for scores that are negative, not finite or all zero, and for a
    negative $\alpha$.

    **Reference:** Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse
    Autoencoders and Beyond", equation 17, whose index is that of a latent; the matrix that it
    defines has one entry for each input dimension, which is what is meant here.

    >>> reweighting(torch.tensor([1.0, 7.0]), 1)
    tensor([0.2000, 1.4000])
    """
    s = scores.detach().to(torch.float64)
    if not bool((s.isfinite() & (s >= 0)).all()) or not bool((s > 0).any()):
        raise ConfigError(
            "scores of input dimensions must be finite, none negative and not all zero, got from "
            f"{float(s.min()):g} to {float(s.max()):g}. Check what they were computed from."
        )
    powers = [alpha] if isinstance(alpha, int | float) else list(alpha)
    if not powers or not all(0 <= each < float("inf") for each in powers):
        raise ConfigError(
            f"`alpha` must be 0 or more, one number or one for each member, got {alpha}."
        )
    # relative to the largest, so that no power overflows
    rows = torch.stack([(s / s.max()) ** float(each) for each in powers])
    rows = (rows / rows.square().mean(-1, keepdim=True).sqrt()).to(scores.dtype)
    return rows[0] if isinstance(alpha, int | float) else rows
