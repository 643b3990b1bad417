"""How often latents fire, and how strongly."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Real
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.metrics.accumulator import Accumulator, Sums
from latent_assay.metrics.registry import Measured
from latent_assay.metrics.samples import existing, per_member, readable, weighted


@dataclass(frozen=True, kw_only=True)
class SparsityResult(Measured):
    """Firing of each member, and of each of its latents."""

    l0: Float64[Tensor, " member"]
    """Mean number of latents that fire on a sample."""
    l1: Float64[Tensor, " member"]
    """Mean over samples of the summed magnitudes |z|."""
    frac_alive: Float64[Tensor, " member"]
    """Share of latents that fired at least once."""
    n_dead: Float64[Tensor, " member"]
    """Number of latents that never fired."""
    density: Float64[Tensor, "member latent"]
    """Share of samples on which the latent fires."""
    firing_mean: Float64[Tensor, "member latent"]
    """Mean of |z| over the samples on which it fires; NaN if it never does."""
    firing_max: Float64[Tensor, "member latent"]
    """Largest |z|; 0 if it never fires."""
    dead: Bool[Tensor, "member latent"]
    """Never fired on the `n` samples seen. Padding is not dead: it does not exist."""
    n: int
    """Number of samples with positive weight; "dead" means nothing without it."""
    weight: float
    """Sum of the weights."""


@dataclass(frozen=True, kw_only=True)
class _SparsitySums(Sums):
    firing: Float64[Tensor, "member latent"]
    """Weight of the samples on which the latent fires."""
    magnitude: Float64[Tensor, "member latent"]
    """Weighted sum of |z|."""
    largest: Float64[Tensor, "member latent"]
    """Largest |z|."""

    @property
    def sizes(self) -> dict[str, int]:
        return {"member": self.firing.shape[0], "latent": self.firing.shape[1]}

    def __add__(self, other: "_SparsitySums") -> "_SparsitySums":
        return _SparsitySums(
            n=self.n + other.n,
            weight=self.weight + other.weight,
            firing=self.firing + other.firing,
            magnitude=self.magnitude + other.magnitude,
            largest=torch.maximum(self.largest, other.largest),
        )


_BLOCK = 256
"""Samples that are read at once."""


class Sparsity(Accumulator[_SparsitySums]):
    r"""Streams firing statistics.

    A latent *fires* on a sample if its latent activation is not 0, whatever its sign, so signed
    sparsifiers are counted correctly. With weights $w_s$ (1 unless given) and $W = \sum_s w_s$:

    - L0: $\sum_s w_s \sum_j [z_{sj} \ne 0] / W$; L1: $\sum_s w_s \sum_j |z_{sj}| / W$.
    - density of latent $j$: $\sum_s w_s [z_{sj} \ne 0] / W$.
    - firing mean of latent $j$: mean of $|z_{sj}|$ over the samples on which it fires.
    - dead: never fired on the samples seen. Samples of weight 0 were not seen.

    A latent activation of NaN counts as firing, and makes L1 NaN.

    >>> seen = Sparsity()
    >>> seen.update(torch.tensor([[[0.0, 2.0], [0.0, 4.0]]]))
    >>> result = seen.result()
    >>> result.l0.item(), result.firing_mean[0, 1].item(), result.dead[0].tolist()
    (1.0, 3.0, [True, False])
    """

    def update(
        self,
        z: Float[Tensor, "member batch latent"],
        weight: Real[Tensor, " batch"] | None = None,
    ) -> None:
        """Include a batch.

        **Arguments:**
        - `z`: latent activations.
        - `weight`: weight of each sample, such as a probability or a number of repetitions.

        **Raises:** `ShapeError` if the shapes do not fit; `DataError` for bad weights.
        """
        z = per_member(z, "z", "latent")
        w, (z,) = weighted(weight, z)
        if not len(w):
            return
        firing = torch.zeros(z.shape[::2], dtype=torch.float64, device=z.device)
        magnitude, largest = torch.zeros_like(firing), torch.zeros_like(firing)
        # A few samples at a time, so that the float64 copy of z stays small and in the cache.
        for block, weights in zip(z.split(_BLOCK, dim=1), w.split(_BLOCK), strict=True):
            size = block.double().abs()
            firing += weights @ (size != 0).double()
            magnitude += weights @ size
            largest = torch.maximum(largest, size.amax(dim=1))
        self._include(
            _SparsitySums(
                n=len(w), weight=w.sum(), firing=firing, magnitude=magnitude, largest=largest
            )
        )

    def result(self, mask: Bool[Tensor, "member latent"] | None = None) -> SparsityResult:
        """What has been measured so far.

        **Arguments:**
        - `mask`: True where a latent exists; False marks the padding of narrower members.

        **Raises:** `DataError` if no sample has been seen; `ShapeError` if `mask` does not fit.
        """
        seen = self._seen()
        exists = existing(mask, tuple(seen.firing.shape), seen.firing.device)
        density = torch.where(exists, seen.firing / seen.weight, 0.0)
        dead = exists & (seen.firing == 0)
        n_dead = dead.double().sum(-1)
        return SparsityResult(
            l0=density.sum(-1),
            l1=torch.where(exists, seen.magnitude, 0.0).sum(-1) / seen.weight,
            frac_alive=1 - n_dead / exists.double().sum(-1),
            n_dead=n_dead,
            density=density,
            firing_mean=torch.where(
                exists & (seen.firing > 0), seen.magnitude / seen.firing, torch.nan
            ),
            firing_max=torch.where(exists, seen.largest, 0.0),
            dead=dead,
            n=seen.n,
            weight=seen.weight.item(),
        )


@dataclass(frozen=True, kw_only=True)
class DensityHistogram:
    """How many latents fire how often."""

    edges: Float64[Tensor, " edge"]
    """Edges of the bins of log10 density, ascending, the last at 0 (fires on every sample)."""
    counts: Float64[Tensor, "member bin"]
    """Number of latents in each bin; those rarer than the first edge are in the first bin."""
    never: Float64[Tensor, " member"]
    """Number of latents of density 0, which have no logarithm."""


def density_histogram(
    density: Float[Tensor, "member latent"],
    mask: Bool[Tensor, "member latent"] | None = None,
    *,
    decades: int = 8,
    bins_per_decade: int = 4,
) -> DensityHistogram:
    """Histogram of log10 firing density over the latents of each member.

    **Arguments:**
    - `density`: share of samples on which each latent fires, as in `SparsityResult.density`.
    - `mask`: True where a latent exists; False marks padding.
    - `decades`: how far below 1 the bins reach.
    - `bins_per_decade`: bins for each factor of ten.

    **Raises:** `ConfigError` if there would be no bin; `ShapeError` if `mask` does not fit.

    >>> histogram = density_histogram(torch.tensor([[0.0, 0.5, 0.02]]), decades=2)
    >>> histogram.counts.sum().item(), histogram.never.item()
    (2.0, 1.0)
    """
    if decades < 1 or bins_per_decade < 1:
        raise ConfigError(
            f"`decades` is {decades} and `bins_per_decade` is {bins_per_decade}; both must be at "
            "least 1."
        )
    density = readable(density).double()
    exists = existing(mask, tuple(density.shape), density.device)
    bins = decades * bins_per_decade
    fires = exists & (density > 0)
    place = (density.clamp_min(10.0**-decades).log10() + decades) * bins_per_decade
    index = place.nan_to_num(0.0).floor().long().clamp(0, bins - 1)
    counts = density.new_zeros(density.shape[0], bins)
    counts.scatter_add_(1, index, fires.double())
    return DensityHistogram(
        edges=torch.linspace(-decades, 0, bins + 1, dtype=torch.float64, device=density.device),
        counts=counts,
        never=(exists & (density == 0)).double().sum(-1),
    )
