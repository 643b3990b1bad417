"""Means and distances from them, without cancellation."""

from jaxtyping import Float64
from torch import Tensor


def centred(
    values: Float64[Tensor, "lead batch variable"], w: Float64[Tensor, " batch"]
) -> tuple[Float64[Tensor, "lead variable"], Float64[Tensor, "lead batch variable"]]:
    """The weighted mean of a batch, and the distance of every value from it.

    Sums of squares are taken of these distances, never as E[x^2] - E[x]^2, which cancels when the
    mean is large. The mean is measured from the first sample, so that a constant gives distances of
    exactly 0.
    """
    origin = values[:, :1]
    mean = origin + (w @ (values - origin)).unsqueeze(1) / w.sum()
    return mean.squeeze(1), values - mean
