"""What training is fed with."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class WeightedBatch(NamedTuple):
    """Samples that count differently, such as the patterns of a finite world."""

    x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"]
    """Activations."""
    weight: Float[Tensor, " batch"] | Float[Tensor, "member batch"]
    """Weight of each sample, summing to 1 for every member."""
    samples: int | None = None
    """How many samples the batch stands for, if not one per row."""


Batch = Tensor | WeightedBatch
"""`[batch, d_in]` for all members, `[member, batch, d_in]` with one for each, or weighted."""
