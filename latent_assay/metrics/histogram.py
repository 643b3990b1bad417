"""The distribution of each latent's activations: one histogram per latent."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.metrics.accumulator import Accumulator, Sums
from latent_assay.metrics.samples import per_member, readable, shape_of, weighted


@dataclass(frozen=True, kw_only=True)
class LatentHistogramResult:
    """Histograms of |z| over the samples on which each latent fires."""

    edges: Float64[Tensor, "member latent edge"]
    """Edges of the bins, ascending; all 0 for a latent whose given maximum is 0."""
    counts: Float64[Tensor, "member latent bin"]
    """Weight of the firings in each bin [lower, upper); the last bin includes its upper edge."""
    below: Float64[Tensor, "member latent"]
    """Weight of firings weaker than the first edge (logarithmic bins only)."""
    above: Float64[Tensor, "member latent"]
    """Weight of firings stronger than the given maximum."""
    n: int
    """Number of samples with positive weight."""
    weight: float
    """Sum of the weights of all samples, firing or not."""


@dataclass(frozen=True, kw_only=True)
class _HistogramSums(Sums):
    counts: Float64[Tensor, "member latent slot"]
    """Weight below, in each bin, and above."""

    @property
    def sizes(self) -> dict[str, int]:
        members, latents, slots = self.counts.shape
        return {"member": members, "latent": latents, "bins": slots - 2}

    def __add__(self, other: "_HistogramSums") -> "_HistogramSums":
        return _HistogramSums(
            n=self.n + other.n,
            weight=self.weight + other.weight,
            counts=self.counts + other.counts,
        )


class LatentHistogram(Accumulator[_HistogramSums]):
    """Streams one histogram of latent activations per latent.

    The bins are fixed before the first sample, from a maximum per latent that an earlier pass has
    measured (`SparsityResult.firing_max`); were they taken from the first batch, the histogram
    would depend on how the samples were cut into batches. What does not fit is counted in `below`
    and `above`, never dropped. Only firings are counted, by their magnitude |z|; a latent
    activation of NaN is not.

    **Arguments:**
    - `maximum`: upper edge of the last bin of each latent, at least 0.
    - `bins`: number of bins.
    - `scale`: `linear` bins divide [0, maximum]; `log` bins divide the last `decades` factors of
      ten below the maximum.
    - `decades`: reach of logarithmic bins.

    **Raises:** `ConfigError` for settings that make no bins; `ShapeError` or `DataError` for a
    maximum that is not [member, latent].

    >>> seen = LatentHistogram(torch.tensor([[4.0]]), bins=2, scale="linear")
    >>> seen.update(torch.tensor([[[0.0], [1.0], [3.0], [4.0], [5.0]]]))
    >>> seen.result().counts.tolist(), seen.result().above.tolist()
    ([[[1.0, 2.0]]], [[1.0]])
    """

    def __init__(
        self,
        maximum: Float[Tensor, "member latent"],
        *,
        bins: int = 64,
        scale: Literal["linear", "log"] = "linear",
        decades: int = 4,
    ) -> None:
        super().__init__()
        if bins < 1 or decades < 1:
            raise ConfigError(
                f"`bins` is {bins} and `decades` is {decades}; expected at least 1 of each."
            )
        if scale not in ("linear", "log"):
            raise ConfigError(f"`scale` is {scale!r}; expected 'linear' or 'log'.")
        if maximum.dim() != 2:
            raise ShapeError(
                f"`maximum` has shape {shape_of(maximum)}; expected [member, latent], as in "
                "`Sparsity().result().firing_max`."
            )
        maximum = readable(maximum).double()
        if not bool(((maximum >= 0) & maximum.isfinite()).all()):
            raise ConfigError(
                "`maximum` must be finite and at least 0 for every latent; received values from "
                f"{maximum.min().item()} to {maximum.max().item()}."
            )
        self._maximum = maximum
        self._bins = bins
        self._scale = scale
        self._decades = decades

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
        members, _, latents = z.shape
        if (members, latents) != tuple(self._maximum.shape):
            raise ShapeError(
                f"`z` has {members} members of {latents} latents, but the bins were made for "
                f"[member, latent] = {shape_of(self._maximum)}."
            )
        w, (z,) = weighted(weight, z)
        if not len(w):
            return
        slots = self._bins + 2
        member, sample, latent = z.nonzero(as_tuple=True)
        magnitude = z[member, sample, latent].double().abs()
        relative = magnitude / self._maximum.to(z.device)[member, latent]
        if self._scale == "log":
            place = 1 + relative.log10() / self._decades
        else:
            place = relative
        slot = (place * self._bins).nan_to_num(0.0).floor().clamp(-1, self._bins - 1).long() + 1
        slot = torch.where(relative > 1, self._bins + 1, slot)
        counted = torch.where(magnitude.isnan(), 0.0, w[sample])
        counts = torch.zeros(members * latents * slots, dtype=torch.float64, device=z.device)
        counts.index_add_(0, (member * latents + latent) * slots + slot, counted)
        self._include(
            _HistogramSums(n=len(w), weight=w.sum(), counts=counts.view(members, latents, slots))
        )

    def merge(self, other: Accumulator[_HistogramSums]) -> None:
        """Take over what another histogram with the same bins has seen; it stays unchanged.

        **Raises:** `ConfigError` if its bins differ; `ShapeError` if its number of latents does.
        """
        if isinstance(other, LatentHistogram) and other._maximum.shape == self._maximum.shape:
            same = (self._bins, self._scale, self._decades) == (
                other._bins,
                other._scale,
                other._decades,
            )
            if not same or not other._maximum.to(self._maximum.device).equal(self._maximum):
                raise ConfigError(
                    "these histograms have different bins, so their counts cannot be added; "
                    "expected the same `maximum`, `bins`, `scale` and `decades` for both. Give "
                    "every process the maximum of the whole first pass."
                )
        super().merge(other)

    def result(self) -> LatentHistogramResult:
        """What has been measured so far.

        **Raises:** `DataError` if no sample has been seen.
        """
        seen = self._seen()
        steps = torch.linspace(0, 1, self._bins + 1, dtype=torch.float64, device=seen.counts.device)
        if self._scale == "log":
            steps = 10 ** ((steps - 1) * self._decades)
        return LatentHistogramResult(
            edges=self._maximum.to(seen.counts.device).unsqueeze(-1) * steps,
            counts=seen.counts[..., 1:-1],
            below=seen.counts[..., 0],
            above=seen.counts[..., -1],
            n=seen.n,
            weight=seen.weight.item(),
        )
