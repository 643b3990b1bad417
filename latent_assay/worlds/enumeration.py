"""A finite world, pattern by pattern."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Enumeration:
    r"""Everything that a finite world can produce, with its probability.

    Any expectation over the world is a finite sum, without sampling noise:

    $$\mathbb E\, g(x) = \sum_k P_k \, g(x_k)$$

    Patterns are distinct, all of positive probability, and ordered as binary numbers with
    feature 0 as the highest digit.
    """

    firing: Bool[Tensor, "pattern feature"]
    """Which features fire in each pattern."""
    magnitudes: Float[Tensor, "pattern feature"]
    """How strongly; 0 for silent features."""
    x: Float[Tensor, "pattern d_in"]
    """The activation that each pattern makes."""
    probability: Float[Tensor, " pattern"]
    """How probable each pattern is; they sum to 1."""

    def to(
        self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Enumeration":
        """The same on another device or in another precision.

        Raising the precision does not bring back lost digits: enumerate in that precision instead.
        """
        return Enumeration(
            firing=self.firing.to(device=device),
            magnitudes=self.magnitudes.to(device=device, dtype=dtype),
            x=self.x.to(device=device, dtype=dtype),
            probability=self.probability.to(device=device, dtype=dtype),
        )
