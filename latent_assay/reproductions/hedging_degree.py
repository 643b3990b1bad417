r"""The hedging degree: how much of a feature an SAE had spread over its latents before it got one.

An SAE is extended by $N$ new latents and trained on, beside a *control* that is trained on without
them. If latents had hedged a feature, and a new latent now takes it over, the old latents lose that
component: their change $\delta$ lies in the span of the new ones. That is what is measured, less
what a subspace of random directions would catch.

**Reference:** Chanin et al. 2025, "Feature Hedging", section 4, equations 5 to 7.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError, ShapeError


@dataclass(frozen=True, kw_only=True, eq=False)
class HedgingDegree:
    """The parts of the metric and its two published forms, for each member."""

    projection: Float64[Tensor, " member"]
    r"""Mean over latents of $\|\mathrm{Proj}(\delta_i, \text{new latents})\|$."""
    baseline: Float64[Tensor, " member"]
    """The same for random subspaces of the same dimension, averaged over them."""

    @property
    def difference(self) -> Float64[Tensor, " member"]:
        """The form of the paper: projection less baseline. May be negative."""
        return self.projection - self.baseline

    @property
    def rescaled(self) -> Float64[Tensor, " member"]:
        r"""The form of the authors' code: $\max(0, (a - b) / (1 - b))$."""
        return (self.difference / (1 - self.baseline)).clamp_min(0)


def hedging_degree(
    control: Float[Tensor, "member latent d_in"],
    extended: Float[Tensor, "member latent_and_new d_in"],
    generator: torch.Generator,
    *,
    baselines: int = 50,
) -> HedgingDegree:
    r"""How far latents moved into the span of latents that were added.

    With all rows at length one, $\delta_i = d^1_i - d^0_i$ over the $L$ latents that both have,

    $$a = \frac1L \sum_i \| Q Q^\top \delta_i \|, \qquad
      b = \mathrm{mean}_r \frac1L \sum_i \| R_r R_r^\top \delta_i \|$$

    where $Q$ is an orthonormal basis of the $N$ new rows and $R_r$ one of $N$ random directions.
    The published equations 5 and 6 disagree on whether latents are rows or columns; here they are
    rows. New rows that depend on one another are counted once; rows of zeros span nothing.

    **Arguments:**
    - `control`: decoder rows of the SAE that was trained on as it was.
    - `extended`: decoder rows of the extended SAE, the new ones last.
    - `generator`: source of the random subspaces.
    - `baselines`: how many of them.

    **Raises:** `ShapeError` unless `extended` has more latents than `control` and else its shape;
    `ConfigError` for no baseline at all.

    >>> before, after = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.eye(3)[None, :2]
    >>> round(hedging_degree(before, after, torch.Generator()).projection.item(), 4)
    0.7071
    """
    width = control.shape[-2]
    same = extended.shape[0] == control.shape[0] and extended.shape[-1] == control.shape[-1]
    if not same or extended.shape[-2] <= width:
        raise ShapeError(
            f"the extended decoder must have the {width} latents of the control and new ones "
            f"behind them, in the same members and d_in, got {list(extended.shape)} beside "
            f"{list(control.shape)}."
        )
    if baselines < 1:
        raise ConfigError(f"`baselines` must be at least 1, got {baselines}.")
    before = F.normalize(control.detach().double(), dim=-1)
    after = F.normalize(extended.detach().double(), dim=-1)
    change = after[:, :width] - before
    new = after[:, width:]
    chance = torch.zeros(len(change), dtype=torch.float64, device=change.device)
    for _ in range(baselines):
        drawn = torch.randn(new.shape, generator=generator, dtype=torch.float64)
        chance += _inside(change, drawn.to(change.device))
    return HedgingDegree(projection=_inside(change, new), baseline=chance / baselines)


def _inside(
    change: Float64[Tensor, "member latent d_in"], rows: Float64[Tensor, "member new d_in"]
) -> Float64[Tensor, " member"]:
    """Mean length of the part of each change that lies in the span of the rows."""
    _, strength, basis = torch.linalg.svd(rows, full_matrices=False)
    # rows that are parallel but for the rounding of float32 are one direction
    independent = strength > 1e-6 * strength.amax(-1, keepdim=True)
    inside = torch.einsum("mld,mnd->mln", change, basis) * independent.unsqueeze(1)
    return inside.norm(dim=-1).mean(-1)
