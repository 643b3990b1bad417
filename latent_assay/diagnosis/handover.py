"""Which old latents gave most to which new one, when an SAE was extended."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.metrics.directions import row_chunks, unit_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Handover:
    """For each of some new latents, the old ones that changed most along it."""

    new: Int64[Tensor, " case"]
    """Index of the new latent in the extended SAE; the one to which most was given comes first."""
    old: Int64[Tensor, "case rank"]
    """Indices of old latents, the one that changed most first."""
    before: Float64[Tensor, "case rank"]
    """Cosine of the old latent with the new one in the control."""
    after: Float64[Tensor, "case rank"]
    """The same in the extended SAE."""

    @property
    def loss(self) -> Float64[Tensor, "case rank"]:
        """What the old latent gave away, `before - after`.

        Negative if it carried the *absence* of what the new latent stands for, as a latent does
        that hedges an anti-correlated feature.
        """
        return self.before - self.after


@torch.no_grad()
def handover(
    control: Float[Tensor, "latent d_in"],
    extended: Float[Tensor, "latent_and_new d_in"],
    *,
    cases: int = 6,
    top: int = 4,
) -> Handover:
    r"""Which old latents gave most to which new one.

    With rows at length one, old latent $i$ gives to the new latent $u_j$

    $$\ell_{ij} = (d^0_i - d^1_i) \cdot u_j$$

    where $d^0_i$ stands in the control and $d^1_i$ in the extended SAE. New latents are ordered by
    their largest $|\ell_{ij}|$, old ones likewise. Where new latents are not orthogonal, one change
    may appear under several.

    **Arguments:**
    - `control`: decoder rows of one member.
    - `extended`: decoder rows of the same member extended, the new ones last.
    - `cases`: how many new latents, at most.
    - `top`: how many old ones for each, at most.

    **Raises:** `ShapeError` unless `extended` has more rows; `ConfigError` for a count below 1.
    """
    width, total = len(control), len(extended)
    if total <= width:
        raise ShapeError(
            f"the extended decoder must have the {width} latents of the control and new ones "
            f"behind them, got {total} rows."
        )
    if min(cases, top) < 1:
        raise ConfigError(f"`cases` and `top` must be at least 1, got {cases} and {top}.")
    new = unit_rows(extended[width:], "extended")
    best = new.new_zeros(0, total - width)
    index = torch.zeros(0, total - width, dtype=torch.int64, device=new.device)
    for chunk in row_chunks(width, max(total - width, control.shape[1])):
        change = unit_rows(control[chunk], "control") - unit_rows(extended[chunk], "extended")
        size = (change @ new.mT).abs()
        place = torch.arange(chunk.start, chunk.stop, device=new.device)
        index = torch.cat([index, place.unsqueeze(-1).expand(size.shape)])
        best, kept = torch.cat([best, size]).topk(min(top, len(best) + len(size)), dim=0)
        index = index.gather(0, kept)
    order = best[0].argsort(descending=True)[:cases]
    old, chosen = index[:, order].mT, new[order]
    before, after = (
        torch.einsum(
            "krd,kd->kr", unit_rows(rows[old.flatten()], name).view(*old.shape, -1), chosen
        )
        for rows, name in ((control, "control"), (extended, "extended"))
    )
    return Handover(
        new=(order + width).cpu(), old=old.cpu(), before=before.cpu(), after=after.cpu()
    )
