"""What features decide on their own, drawn only where it matters."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

Decide = Callable[[Int64[Tensor, " asked"], Int64[Tensor, " asked"]], Bool[Tensor, " asked"]]
"""Given samples and features, none twice and none of those drawn first: which of them fire."""

# The rate of points at which a feature stays silent with probability 2^-53, half of what
# float64 can tell from none: the rate of a feature that always fires.
ALWAYS = 36.7368005696771


class Deciding(ABC):
    """Draws some features in every sample, and any others in the samples that are asked for."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> tuple[Int64[Tensor, " point"], Decide]:
        """Draw `n` samples.

        **Returns:** sample × number of first features + place among them for each that fires, in
        any order, possibly repeated; and what decides other features of the same samples.
        """


class Points:
    r"""Points on the cells of a samples × features matrix: a Poisson number on each.

    A feature with rate $p$ gets $\mathrm{Poisson}(\lambda)$ points in each sample, where
    $\lambda = -\log(1 - p)$, so that at least one falls with probability
    $1 - e^{-\lambda} = p$. All points together are a Poisson number too, so that many are thrown,
    each at a sample and, by Walker's alias method, at a feature. The cost is that of the points.
    """

    def __init__(self, rates: Float64[Tensor, " feature"], device: torch.device) -> None:
        self.rates = poisson_rates(rates)
        self.total = self.rates.sum().item()
        keep, other = alias_table(self.rates)
        self.keep, self.other = keep.to(device), other.to(device)
        self.device = device

    def throw(self, n: int, generator: torch.Generator) -> Int64[Tensor, " point"]:
        """Throw on `n` samples: sample × number of features + feature, in no order."""
        expected = torch.tensor([n * self.total], dtype=torch.float64, device=self.device)
        count = int(torch.poisson(expected, generator=generator))
        places = self.keep.numel()
        # One number holds it all: its whole part is the sample, its fraction the slot and the toss.
        thrown = torch.rand(count, generator=generator, device=self.device, dtype=torch.float64)
        thrown *= n
        row = thrown.floor()
        thrown.sub_(row).mul_(places)
        slot = thrown.long()
        kept = thrown.sub_(slot) < self.keep.index_select(0, slot)
        feature = torch.where(kept, slot, self.other.index_select(0, slot))
        return row.long().mul_(places).add_(feature)


class Apart(Deciding):
    """Features that decide independently."""

    def __init__(
        self,
        rates: Float64[Tensor, " feature"],
        first: Int64[Tensor, " first"],
        device: torch.device,
    ) -> None:
        self.points = Points(rates[first], device)
        self.rates = rates.to(device)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Int64[Tensor, " point"], Decide]:
        """Throw points on the first features; toss for the others."""

        def decide(
            rows: Int64[Tensor, " asked"], features: Int64[Tensor, " asked"]
        ) -> Bool[Tensor, " asked"]:
            drawn = torch.rand(
                rows.shape, generator=generator, device=rows.device, dtype=torch.float64
            )
            return drawn < self.rates.index_select(0, features)

        return self.points.throw(n, generator), decide


def poisson_rates(rates: Float64[Tensor, " feature"]) -> Float64[Tensor, " feature"]:
    r"""$-\log(1 - p)$: how many points each feature gets, on average."""
    return -torch.log1p(-rates).clamp(min=-ALWAYS)


def alias_table(
    weights: Float64[Tensor, " place"],
) -> tuple[Float64[Tensor, " place"], Int64[Tensor, " place"]]:
    """Walker's table: a fair slot is kept with its first number, else goes to its second.

    Slot $i$ stands for place $i$ and one other, so that a draw takes one slot and one toss.

    **Reference:** Vose 1991, A linear algorithm for generating random numbers with a given
    distribution.
    """
    n, total = weights.numel(), weights.sum().item()
    keep, other = [1.0] * n, list(range(n))
    if total > 0:
        shares = (weights * (n / total)).tolist()
        small = [i for i, share in enumerate(shares) if share < 1]
        large = [i for i, share in enumerate(shares) if share >= 1]
        while small and large:
            poor, rich = small.pop(), large[-1]
            keep[poor], other[poor] = shares[poor], rich
            shares[rich] -= 1 - shares[poor]
            if shares[rich] < 1:
                small.append(large.pop())
        # What rounding left over has a share of 1 but for rounding, or no weight at all.
        heaviest = max(range(n), key=lambda i: float(weights[i]))
        for left in small:
            if weights[left] == 0:
                keep[left], other[left] = 0.0, heaviest
    return torch.tensor(keep, dtype=torch.float64), torch.tensor(other, dtype=torch.int64)
