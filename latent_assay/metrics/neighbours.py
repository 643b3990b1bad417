"""Which latents of one SAE resemble each other."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.metrics.directions import row_chunks, unit_rows
from latent_assay.metrics.samples import existing


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The most similar other latents of each latent, most similar first."""

    latent: Int64[Tensor, "*member latent n"]
    """Their indices; -1 where there are not so many."""
    cosine: Float64[Tensor, "*member latent n"]
    """Their cosines; 0 where there are not so many."""


def nearest_latents(
    decoder: Float[Tensor, "*member latent d_in"],
    n: int = 1,
    mask: Bool[Tensor, "*member latent"] | None = None,
) -> Neighbours:
    r"""The `n` other latents of the same member whose decoder directions have the largest cosine.

    Near-duplicates have a cosine near 1. The map of all pairs is never held: rows are compared in
    chunks, so 65,536 latents need some hundred megabytes rather than 32 gigabytes. Candidates are
    found in the decoder's own precision and their cosines then computed in float64.

    **Arguments:**
    - `decoder`: latent directions. A zero row has no neighbours and is nobody's.
    - `n`: how many, at least 1 and fewer than there are latents.
    - `mask`: True where a latent exists; False marks padding.

    **Raises:** `ConfigError` if `n` is out of range; `ShapeError` or `DataError` for directions
    that cannot be compared.

    >>> near = nearest_latents(torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))
    >>> near.latent.squeeze().tolist()
    [1, 2, 1]
    """
    rows = unit_rows(decoder, "decoder")
    latents = rows.shape[-2]
    if not 1 <= n < latents:
        raise ConfigError(
            f"`n` is {n} for an SAE of {latents} latents; expected from 1 to {latents - 1} "
            "neighbours, since a latent is not its own."
        )
    eligible = existing(mask, tuple(rows.shape[:-1]), rows.device) & (rows != 0).any(-1)
    precision = torch.promote_types(decoder.dtype, torch.float32)
    members = [
        _nearest(directions, directions.to(precision), real, n)
        for directions, real in zip(
            rows.reshape(-1, *rows.shape[-2:]), eligible.reshape(-1, latents), strict=True
        )
    ]
    shape = (*rows.shape[:-1], n)
    return Neighbours(
        latent=torch.stack([latent for latent, _ in members]).reshape(shape),
        cosine=torch.stack([cosine for _, cosine in members]).reshape(shape),
    )


def _nearest(
    exact: Float64[Tensor, "latent d_in"],
    quick: Float[Tensor, "latent d_in"],
    eligible: Bool[Tensor, " latent"],
    n: int,
) -> tuple[Int64[Tensor, "latent n"], Float64[Tensor, "latent n"]]:
    index, cosine = [], []
    for chunk in row_chunks(len(exact), len(exact)):
        cosines = quick[chunk] @ quick.T
        cosines.masked_fill_(~eligible, -torch.inf)
        own = torch.arange(chunk.start, chunk.stop, device=exact.device)
        cosines[own - chunk.start, own] = -torch.inf
        best = cosines.topk(n, dim=-1)
        # One neighbour at a time: gathering all of them would need n copies of the decoder.
        value = torch.stack(
            [(exact[chunk] * exact[other]).sum(-1) for other in best.indices.T], dim=-1
        ).clamp(-1, 1)
        found = eligible[chunk].unsqueeze(-1) & best.values.isfinite()
        value = torch.where(found, value, -torch.inf)
        # Float64 may order near-equal candidates differently.
        order = value.argsort(dim=-1, descending=True, stable=True)
        value, found = value.gather(-1, order), found.gather(-1, order)
        index.append(torch.where(found, best.indices.gather(-1, order), -1))
        cosine.append(torch.where(found, value, 0.0))
    return torch.cat(index), torch.cat(cosine)
