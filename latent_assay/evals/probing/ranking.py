r"""Which columns tell two classes apart, one by one."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Rule = Literal["standardised", "raw", "mean firing"]
"""In which units the difference of class means is taken."""


def ranked(
    z: Float[Tensor, "sample latent"], labels: Bool[Tensor, " sample"], rule: Rule
) -> Int[Tensor, " latent"]:
    r"""Latents in descending order of the absolute difference of their class means.

    $$ \left| \bar z^{+}_j - \bar z^{-}_j \right| / s_j $$

    - `raw`: $s_j = 1$. As in SAEBench's sparse probing; it favours latents that are large.
    - `standardised`: $s_j$ the standard deviation of $z_j$ over all samples, which makes the ratio
      proportional to the correlation with the label.
    - `mean firing`: $s_j$ the mean of $|z_j|$ where it is not 0, as in SAE-Probes.

    A latent that does not vary comes last.

    **Arguments:**
    - `z`: latent activations.
    - `labels`: which samples are positive.
    - `rule`: the units.
    """
    difference = (z[labels].mean(0) - z[~labels].mean(0)).abs()
    return (difference / unit(z, rule)).argsort(descending=True, stable=True)


def unit(z: Float[Tensor, "sample latent"], rule: Rule) -> Float[Tensor, " latent"]:
    """The $s_j$ of each latent; infinite for one that is constant (or, by mean firing, silent)."""
    if rule == "raw":
        return torch.ones_like(z[0])
    if rule == "standardised":
        scale = z.std(dim=0, correction=0)
        constant = z.amax(0) == z.amin(0)  # whose computed deviation may be a rounding error
    else:
        firing = (z != 0).sum(0)
        scale = z.abs().sum(0) / firing.clamp_min(1)
        constant = firing == 0
    return scale.masked_fill(constant, float("inf"))
