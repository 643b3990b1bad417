"""How far two computations of the same numbers are apart."""

from jaxtyping import Float
from torch import Tensor


def gap(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> float:
    """The largest |a - b|."""
    return float((a - b).abs().max())
