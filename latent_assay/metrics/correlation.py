"""Correlations between latent activations and the magnitudes of features, or any two such sets."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from latent_assay.metrics.accumulator import Accumulator, Sums
from latent_assay.metrics.moments import centred
from latent_assay.metrics.samples import per_member, shared_or_per_member, weighted


@dataclass(frozen=True, kw_only=True)
class CorrelationResult:
    """Second moments of two sets of variables."""

    correlation: Float64[Tensor, "member left right"]
    """Pearson correlation; 0 where a variable does not vary."""
    covariance: Float64[Tensor, "member left right"]
    """Covariance, dividing by the sum of weights."""
    left_mean: Float64[Tensor, "member left"]
    """Means of the left variables."""
    right_mean: Float64[Tensor, "member right"]
    """Means of the right variables."""
    left_sd: Float64[Tensor, "member left"]
    """Standard deviations of the left variables, dividing by the sum of weights."""
    right_sd: Float64[Tensor, "member right"]
    """Standard deviations of the right variables, likewise."""
    n: int
    """Number of samples with positive weight."""
    weight: float
    """Sum of the weights."""


@dataclass(frozen=True, kw_only=True)
class _CrossSums(Sums):
    left_mean: Float64[Tensor, "member left"]
    right_mean: Float64[Tensor, "lead right"]
    left_spread: Float64[Tensor, "member left"]
    """Sum of squared distances from the mean."""
    right_spread: Float64[Tensor, "lead right"]
    cross: Float64[Tensor, "member left right"]
    """Sum of products of distances from the means."""

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(("member", "left", "right"), self.cross.shape, strict=True))

    def __add__(self, other: "_CrossSums") -> "_CrossSums":
        weight = self.weight + other.weight
        share = other.weight / weight
        left = other.left_mean - self.left_mean
        right = other.right_mean - self.right_mean
        both = self.weight * share
        return _CrossSums(
            n=self.n + other.n,
            weight=weight,
            left_mean=self.left_mean + left * share,
            right_mean=self.right_mean + right * share,
            left_spread=self.left_spread + other.left_spread + left.square() * both,
            right_spread=self.right_spread + other.right_spread + right.square() * both,
            cross=self.cross + other.cross + left.unsqueeze(-1) * right.unsqueeze(-2) * both,
        )


class Correlation(Accumulator[_CrossSums]):
    r"""Streams Pearson correlations of every left with every right variable.

    $$r_{ab} = \frac{\sum_s w_s (l_{sa} - \bar l_a)(r_{sb} - \bar r_b)}
      {\sqrt{\sum_s w_s (l_{sa} - \bar l_a)^2 \sum_s w_s (r_{sb} - \bar r_b)^2}}$$

    Left are usually latent activations, right the magnitudes of true features, or the latent
    activations of a second SAE on the same samples; `assign` matches the two sets by the result.
    Distances from the mean are merged as in `Reconstruction`, so large means do no harm.

    >>> seen = Correlation()
    >>> seen.update(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[2.0, 7.0], [1.0, 7.0]]))
    >>> seen.result().correlation.round(decimals=6).tolist()
    [[[-1.0, 0.0]]]
    """

    def update(
        self,
        left: Float[Tensor, "member batch left"],
        right: Float[Tensor, "*lead batch right"],
        weight: Real[Tensor, " batch"] | None = None,
    ) -> None:
        """Include a batch.

        **Arguments:**
        - `left`: values of the left variables.
        - `right`: values of the right variables, shared by all members or one set per member.
        - `weight`: weight of each sample, such as a probability or a number of repetitions.

        **Raises:** `ShapeError` if the shapes do not fit; `DataError` for bad weights.
        """
        left = per_member(left, "left", "left")
        members, batch, _ = left.shape
        right = shared_or_per_member(
            right, "right", "right", members=members, batch=batch, beside="left"
        )
        w, (left, right) = weighted(weight, left, right)
        if not len(w):
            return
        left, right = left.double(), right.double()
        left_mean, left = centred(left, w)
        right_mean, right = centred(right, w)
        self._include(
            _CrossSums(
                n=len(w),
                weight=w.sum(),
                left_mean=left_mean,
                right_mean=right_mean,
                left_spread=w @ left.square(),
                right_spread=w @ right.square(),
                cross=left.mT @ (right * w.unsqueeze(-1)),
            )
        )

    def result(self) -> CorrelationResult:
        """What has been measured so far.

        **Raises:** `DataError` if no sample has been seen.
        """
        seen = self._seen()
        members = len(seen.cross)
        right_spread = seen.right_spread.expand(members, -1)
        scale = seen.left_spread.sqrt().unsqueeze(-1) * right_spread.sqrt().unsqueeze(-2)
        correlation = torch.where(scale > 0, seen.cross / scale, 0.0).clamp(-1, 1)
        return CorrelationResult(
            correlation=correlation,
            covariance=seen.cross / seen.weight,
            left_mean=seen.left_mean,
            right_mean=seen.right_mean.expand(members, -1),
            left_sd=(seen.left_spread / seen.weight).sqrt(),
            right_sd=(right_spread / seen.weight).sqrt(),
            n=seen.n,
            weight=seen.weight.item(),
        )
