"""How well activations are reconstructed."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from latent_assay.metrics.accumulator import Accumulator, Sums
from latent_assay.metrics.moments import centred
from latent_assay.metrics.registry import Measured
from latent_assay.metrics.samples import per_member, shared_or_per_member, weighted


@dataclass(frozen=True, kw_only=True)
class ReconstructionResult(Measured):
    """Reconstruction quality of each member."""

    mse: Float64[Tensor, " member"]
    """Squared error summed over d_in, mean over samples."""
    fvu: Float64[Tensor, " member"]
    """Fraction of variance unexplained; NaN if x does not vary."""
    explained_variance: Float64[Tensor, " member"]
    """1 - fvu."""
    cosine: Float64[Tensor, " member"]
    """Mean cosine of x and x_hat; NaN if x is always 0."""
    shrinkage: Float64[Tensor, " member"]
    """Mean of ||x_hat|| / ||x||; NaN if x is always 0."""
    relative_reconstruction_bias: Float64[Tensor, " member"]
    """E||x_hat||^2 / E[x . x_hat]; NaN if the denominator is 0."""
    variance: Float64[Tensor, " member"]
    """E||x - E x||^2, what `fvu` divides `mse` by."""
    n: int
    """Number of samples with positive weight."""
    weight: float
    """Sum of the weights."""


@dataclass(frozen=True, kw_only=True)
class _ReconstructionSums(Sums):
    mean: Float64[Tensor, "lead d_in"]
    """Mean of x; `lead` is 1 while x is shared by all members."""
    spread: Float64[Tensor, " lead"]
    """Sum of squared distances of x from `mean`."""
    nonzero: Float64[Tensor, " lead"]
    """Weight of the samples with x not 0."""
    sums: Float64[Tensor, "quantity member"]
    """Sums of squared error, ||x_hat||^2, x . x_hat, cosine, ||x_hat|| / ||x||."""

    @property
    def sizes(self) -> dict[str, int]:
        return {"member": self.sums.shape[1], "d_in": self.mean.shape[1]}

    def __add__(self, other: "_ReconstructionSums") -> "_ReconstructionSums":
        weight = self.weight + other.weight
        share = other.weight / weight
        shift = other.mean - self.mean
        return _ReconstructionSums(
            n=self.n + other.n,
            weight=weight,
            mean=self.mean + shift * share,
            spread=self.spread + other.spread + shift.square().sum(-1) * (self.weight * share),
            nonzero=self.nonzero + other.nonzero,
            sums=self.sums + other.sums,
        )


class Reconstruction(Accumulator[_ReconstructionSums]):
    r"""Streams reconstruction quality, one number per member.

    With weights $w_s$ (1 unless given), $W = \sum_s w_s$ and $\mu = \sum_s w_s x_s / W$ over *all*
    samples seen:

    - mse: $\sum_s w_s \|x_s - \hat x_s\|^2 / W$. Summed over d_in, so it does not shrink with d_in
      or with the batch.
    - fvu: $\sum_s w_s \|x_s - \hat x_s\|^2 / \sum_s w_s \|x_s - \mu\|^2$, a ratio of sums.
      Reconstructing every sample as $\mu$ scores exactly 1, and a worse reconstruction more than 1.
    - cosine and shrinkage: means of $\cos(x_s, \hat x_s)$ and $\|\hat x_s\| / \|x_s\|$ over samples
      with $x_s \ne 0$, where they are defined. $\hat x_s = 0$ has cosine 0.
    - relative reconstruction bias: $E\|\hat x\|^2 / E[x \cdot \hat x]$, the $\gamma$ for which
      $\hat x / \gamma$ has the least squared error.

    All sums are float64. The squared distances from the mean are formed within each batch and
    merged by the formula of Chan, Golub and LeVeque (1979), so nothing cancels when the mean is far
    larger than the standard deviation. A member whose reconstruction is not finite gets NaN without
    harm to the others.

    **Reference:** relative reconstruction bias: Rajamanoharan et al. 2024, arXiv:2404.16014.

    >>> seen = Reconstruction()
    >>> seen.update(torch.tensor([[0.0], [2.0]]), torch.tensor([[[1.0], [1.0]]]))
    >>> seen.result().fvu
    tensor([1.], dtype=torch.float64)
    """

    def update(
        self,
        x: Float[Tensor, "*lead batch d_in"],
        x_hat: Float[Tensor, "member batch d_in"],
        weight: Real[Tensor, " batch"] | None = None,
    ) -> None:
        """Include a batch.

        **Arguments:**
        - `x`: activations, shared by all members or one batch for each.
        - `x_hat`: their reconstructions.
        - `weight`: weight of each sample, such as the probability of a pattern or a number of
          repetitions; only ratios matter.

        **Raises:** `ShapeError` if the shapes do not fit; `DataError` for bad weights.
        """
        x_hat = per_member(x_hat, "x_hat", "d_in")
        members, batch, d_in = x_hat.shape
        x = shared_or_per_member(
            x, "x", str(d_in), members=members, batch=batch, beside="x_hat", size=d_in
        )
        w, (x, x_hat) = weighted(weight, x, x_hat)
        if len(w):
            self._include(_sums(x.double(), x_hat.double(), w))

    def result(self) -> ReconstructionResult:
        """What has been measured so far.

        **Raises:** `DataError` if no sample has been seen.
        """
        seen = self._seen()
        error, hat_squared, inner, cosine, ratio = seen.sums
        spread = seen.spread.expand_as(error)
        nonzero = seen.nonzero.expand_as(error)
        fvu = _ratio(error, spread)
        return ReconstructionResult(
            mse=error / seen.weight,
            fvu=fvu,
            explained_variance=1 - fvu,
            cosine=_ratio(cosine, nonzero),
            shrinkage=_ratio(ratio, nonzero),
            relative_reconstruction_bias=_ratio(hat_squared, inner),
            variance=spread / seen.weight,
            n=seen.n,
            weight=seen.weight.item(),
        )


def _sums(
    x: Float64[Tensor, "lead batch d_in"],
    x_hat: Float64[Tensor, "member batch d_in"],
    w: Float64[Tensor, " batch"],
) -> _ReconstructionSums:
    mean, distance = centred(x, w)
    length = x.norm(dim=-1)
    length_hat = x_hat.norm(dim=-1)
    inner = (x * x_hat).sum(-1)
    defined = length > 0
    per_sample = torch.stack(
        [
            (x - x_hat).square().sum(-1),
            length_hat.square(),
            inner,
            torch.where(defined & (length_hat != 0), inner / (length * length_hat), 0.0),
            torch.where(defined, length_hat / length, 0.0),
        ]
    )
    return _ReconstructionSums(
        n=len(w),
        weight=w.sum(),
        mean=mean,
        spread=distance.square().sum(-1) @ w,
        nonzero=defined.double() @ w,
        sums=per_sample @ w,
    )


def _ratio(
    numerator: Float64[Tensor, " member"], denominator: Float64[Tensor, " member"]
) -> Float64[Tensor, " member"]:
    return torch.where(denominator != 0, numerator / denominator, torch.nan)
