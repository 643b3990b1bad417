"""Which latents may have to do with which: those whose decoder rows point alike."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEAREST, OPPOSITE = 12, 4
"""How many others are looked at for each latent: with the largest and the smallest cosines."""
_SKETCH = 256
"""Dimensions of the random projection in which the nearest are sought."""
_EXACT = 2**41
"""Up to so many multiplications all pairs are compared exactly."""
_ENTRIES = 2**25
"""Entries of a map of cosines that are held at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """The latents whose decoder rows have the largest and the smallest cosines with each one's."""

    index: Int[Tensor, "latent candidate"]
    """Their indices, largest cosine first; the latent itself where there is no other."""
    cosine: Float[Tensor, "latent candidate"]
    """Their cosines; 0 for the latent itself."""


@torch.no_grad()
def candidates(decoder: Float[Tensor, "latent d_in"], generator: torch.Generator) -> Candidates:
    r"""The twelve nearest and the four most opposite latents of each, by decoder direction.

    Up to $2^{41}$ multiplications all pairs are compared. Beyond, pairs are compared in a random
    projection to 256 dimensions, which keeps cosines to $\pm 1/16$ (one standard deviation), and
    twice as many as are wanted are compared exactly: a cosine beyond $\pm 0.4$ is found, one near
    $\pm 0.2$ may be missed.

    **Arguments:**
    - `decoder`: rows of length one; a zero row is near to none.
    - `generator`: source of the projection.
    """
    width, d_in = decoder.shape
    if width == 1:
        return Candidates(index=torch.zeros(1, 1, dtype=torch.int64), cosine=torch.zeros(1, 1))
    exact = width * width * d_in <= _EXACT or d_in <= _SKETCH
    sketch = decoder
    if not exact:
        projection = torch.randn(d_in, _SKETCH, generator=generator).to(decoder.device)
        sketch = torch.nn.functional.normalize(decoder @ projection, dim=-1)
    nearest = min(NEAREST, width - 1)
    opposite = min(OPPOSITE, width - 1 - nearest)
    found: list[tuple[Tensor, Tensor]] = []
    step = max(1, _ENTRIES // width)
    for start in range(0, width, step):
        rows = torch.arange(start, min(start + step, width), device=decoder.device)
        cosines = sketch[rows] @ sketch.T
        ends = []
        for sign, n in ((1.0, nearest), (-1.0, opposite)):
            if not n:
                continue
            cosines[rows - start, rows] = -2.0 * sign
            best, index = cosines.topk(
                n if exact else min(2 * n, width - 1), dim=-1, largest=sign > 0
            )
            if not exact:
                best, order = _exactly(decoder, rows, index).topk(n, dim=-1, largest=sign > 0)
                index = index.gather(-1, order)
            ends.append((index, best))
        index, cosine = (torch.cat(each, -1) for each in zip(*ends, strict=True))
        cosine, order = cosine.sort(-1, descending=True)
        found.append((index.gather(-1, order), cosine))
    index, cosine = (torch.cat(each) for each in zip(*found, strict=True))
    return Candidates(index=index, cosine=cosine)


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
