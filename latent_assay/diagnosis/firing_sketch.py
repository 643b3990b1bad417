"""Whole samples of firing: which latents fired, and how strongly, in a fair few of the samples."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

SAMPLES = 2**16
"""Samples that are kept."""
STRONGEST = 64
"""Latents that are kept of each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FiringSketch:
    """A fair sample of samples, with their strongest latents. Activations are in units of x."""

    latent: Int[Tensor, "sample strongest"]
    """Which latents."""
    value: Float[Tensor, "sample strongest"]
    """Their activations; 0 where fewer fired."""
    width: int
    """Number of latents."""

    def firings_of(self, most: int) -> Int[Tensor, "latent place"]:
        """The first samples in which each latent fired; -1 where it fired in fewer.

        **Arguments:**
        - `most`: how many samples of each latent.
        """
        sample, place = self.value.nonzero(as_tuple=True)
        latent = self.latent[sample, place]
        order = latent.sort(stable=True).indices
        latent, sample = latent[order], sample[order]
        count = torch.bincount(latent, minlength=self.width)
        number = torch.arange(len(latent)) - (count.cumsum(0) - count)[latent]
        kept = number < most
        found = torch.full((self.width, most), -1, dtype=torch.int64)
        found[latent[kept], number[kept]] = sample[kept]
        return found


class Sketching:
    """Takes batches and keeps of all samples a fair few.

    Every sample draws a number from 0 to 1; those below a bar are kept. When too many are, the bar
    is halved, and those no longer below it go.
    """

    def __init__(self, width: int, generator: torch.Generator):
        # a draw of its own: what else is kept of the activations does not depend on it
        self._generator = torch.Generator().manual_seed(generator.initial_seed())
        self._width, self._bar = width, 1.0
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []
        self._n = 0

    def take(self, z: Float[Tensor, "batch latent"]) -> None:
        """A batch of latent activations."""
        draw = torch.rand(len(z), generator=self._generator)
        kept = draw < self._bar
        if not bool(kept.any()):
            return
        some = z if bool(kept.all()) else z[kept]
        latent = some.abs().topk(min(STRONGEST, self._width), dim=-1).indices
        self._parts.append((draw[kept], latent.to(torch.int32), some.gather(-1, latent)))
        self._n += len(some)
        while self._n > SAMPLES:
            self._bar /= 2
            self._parts = [
                tuple(each[draw < self._bar] for each in (draw, index, value))  # type: ignore[misc]
                for draw, index, value in self._parts
            ]
            self._n = sum(len(draw) for draw, _, _ in self._parts)

    def done(self) -> FiringSketch:
        """What was kept."""
        if not self._parts:
            nothing = torch.zeros(0, min(STRONGEST, self._width))
            return FiringSketch(latent=nothing.to(torch.int64), value=nothing, width=self._width)
        _, latent, value = (torch.cat(each) for each in zip(*self._parts, strict=True))
        return FiringSketch(latent=latent.to(torch.int64), value=value, width=self._width)
