"""Which latents may have to do with which: those whose decoder rows point alike."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

CANDIDATES = 16
"""How many others are looked at for each latent."""
_SKETCH = 256
"""Dimensions of the random projection in which the nearest are sought."""
_EXACT = 2**41
"""Up to so many multiplications all pairs are compared exactly."""
_ENTRIES = 2**25
"""Entries of a map of cosines that are held at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The latents whose decoder rows have the largest cosines with each latent's."""

    index: Int[Tensor, "latent candidate"]
    """Their indices, nearest first; the latent itself where there are not so many."""
    cosine: Float[Tensor, "latent candidate"]
    """Their cosines; 0 where there are not so many."""
    opposite: Int[Tensor, " latent"]
    """The latent with the smallest cosine."""
    lowest: Float[Tensor, " latent"]
    """That cosine."""


@torch.no_grad()
def candidates(
    decoder: Float[Tensor, "latent d_in"], generator: torch.Generator, n: int = CANDIDATES
) -> Candidates:
    r"""The nearest other latents of each latent by decoder direction.

    Up to $2^{41}$ multiplications all pairs are compared. Beyond, pairs are compared in a random
    projection to 256 dimensions, which keeps cosines to $\pm 1/16$ (one standard deviation), and
    the $2n$ that seem nearest are compared exactly: a cosine above 0.4 is found, one near 0.2 may
    be missed.

    **Arguments:**
    - `decoder`: rows of length one; a zero row is near to none.
    - `generator`: source of the projection.
    - `n`: how many for each, at most.
    """
    width, d_in = decoder.shape
    n = min(n, width - 1)
    if n < 1:
        own = torch.zeros(width, 1, dtype=torch.int64)
        return Candidates(
            index=own, cosine=torch.zeros(width, 1), opposite=own[:, 0], lowest=torch.zeros(width)
        )
    exact = width * width * d_in <= _EXACT or d_in <= _SKETCH
    if exact:
        sketch, wanted = decoder, n
    else:
        projection = torch.randn(d_in, _SKETCH, generator=generator).to(decoder.device)
        sketch = torch.nn.functional.normalize(decoder @ projection, dim=-1)
        wanted = min(2 * n, width - 1)
    found: list[tuple[Tensor, ...]] = []
    step = max(1, _ENTRIES // width)
    for start in range(0, width, step):
        rows = torch.arange(start, min(start + step, width), device=decoder.device)
        cosines = sketch[rows] @ sketch.T
        cosines[rows - start, rows] = 0.0
        lowest, opposite = cosines.min(-1)
        cosines[rows - start, rows] = -2.0
        best, index = cosines.topk(wanted, dim=-1)
        if not exact:
            best = _exactly(decoder, rows, index)
            best, order = best.topk(n, dim=-1)
            index = index.gather(-1, order)
            lowest = (decoder[rows] * decoder[opposite]).sum(-1)
        found.append((index, best, opposite, lowest))
    index, cosine, opposite, lowest = (torch.cat(each) for each in zip(*found, strict=True))
    return Candidates(index=index, cosine=cosine, opposite=opposite, lowest=lowest)


def _exactly(
    decoder: Float[Tensor, "latent d_in"], rows: Int[Tensor, " row"], index: Int[Tensor, "row n"]
) -> Float[Tensor, "row n"]:
    """Cosines of some latents with the others named for each."""
    parts = []
    step = max(1, _ENTRIES // (index.shape[1] * decoder.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        others = decoder[index[part].flatten()].view(*index[part].shape, -1)
        parts.append(torch.bmm(others, decoder[rows[part]].unsqueeze(-1)).squeeze(-1))
    return torch.cat(parts)
