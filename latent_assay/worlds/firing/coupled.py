"""Decisions coupled by a Gaussian copula, drawn without a number for each."""

import math

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from latent_assay.worlds.firing.correlation import Correlation
from latent_assay.worlds.firing.deciding import Decide, Deciding, Points, poisson_rates

# Entries of the shared parts that are computed at once, by the type of device: on the processor
# the few megabytes that caches hold; on any other (`None`) many, for few steps.
ENTRIES: dict[str | None, int] = {"cpu": 2**21, None: 2**26}


class Coupled(Deciding):
    r"""Features that decide to fire where $g = m + s \varepsilon$ exceeds a threshold $t$.

    $m = F \xi$ is what a feature shares with others, and $\varepsilon$ its own. Given $\xi$,
    features are independent and fire with probability $Q((t - m) / s)$, where
    $Q(c) = P(\varepsilon > c)$. So, exactly:

    - Where $m \le b = t - s c$, that probability is at most $Q(c)$: points are thrown at the rate
      of $Q(c)$, and each is kept with the ratio of the rates. Their number is small.
    - Where $m > b$, each feature tosses for itself. There are few such places too.

    With $c = t / (s + \sigma)$, $\sigma^2$ being the variance of $m$, both happen with probability
    $Q(c)$. What is left to do for every feature of every sample is the product $F \xi$ and a
    comparison.
    """

    def __init__(
        self,
        rates: Float64[Tensor, " feature"],
        correlation: Correlation,
        first: Int64[Tensor, " first"],
        device: torch.device,
    ) -> None:
        thresholds, spread = -torch.special.ndtri(rates), correlation.diagonal.sqrt()
        limit, proposed = bounds(
            thresholds[first], spread[first], correlation.factor[first].norm(dim=1)
        )

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, torch.float32).contiguous()

        self.points = Points(proposed, device)
        self.limit = moved(limit)
        self.first_factor = moved(correlation.factor[first].T)
        # side by side, as what is asked of a feature is asked at once
        self.first = moved(torch.stack([thresholds[first], spread[first]], dim=1))
        self.thrown = moved(
            torch.stack([thresholds[first], spread[first], poisson_rates(proposed), limit], dim=1)
        )
        self.factor = moved(correlation.factor)
        self.thresholds, self.spread = moved(thresholds), moved(spread)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Int64[Tensor, " point"], Decide]:
        """Draw the first features block by block; toss for the others."""
        device = generator.device
        shared = torch.randn(n, self.factor.shape[1], generator=generator, device=device)

        def decide(
            rows: Int64[Tensor, " asked"], features: Int64[Tensor, " asked"]
        ) -> Bool[Tensor, " asked"]:
            means = (shared.index_select(0, rows) * self.factor.index_select(0, features)).sum(1)
            return self._tosses(
                means,
                self.thresholds.index_select(0, features),
                self.spread.index_select(0, features),
                generator,
            )

        places = self.limit.numel()
        step = max(1, min(n, ENTRIES.get(device.type, ENTRIES[None]) // places))
        means = torch.empty(step, places, device=device)
        found = [torch.empty(0, dtype=torch.int64, device=device)]
        for start in range(0, n, step):
            block = shared[start : start + step]
            torch.mm(block, self.first_factor, out=means[: block.shape[0]])
            for cells in self._block(means[: block.shape[0]], generator):
                found.append(cells.add_(start * places))
        return torch.cat(found), decide

    def _block(
        self, means: Float[Tensor, "n first"], generator: torch.Generator
    ) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " fired"]]:
        n, places = means.shape
        flat = means.view(-1)

        cells = self.points.throw(n, generator)
        mean = flat.index_select(0, cells)
        asked = self.thrown.index_select(0, cells % places)
        threshold, spread, proposed, limit = asked.unbind(1)
        rate = exceeds((threshold - mean).div_(spread)).neg_().log1p_().neg_()
        drawn = torch.rand(cells.shape, generator=generator, device=cells.device)
        kept = (drawn.mul_(proposed) < rate) & (mean <= limit)

        high = flat_nonzero(means > self.limit)
        threshold, spread = self.first.index_select(0, high % places).unbind(1)
        fires = self._tosses(flat.index_select(0, high), threshold, spread, generator)
        return cells[kept], high[fires]

    def _tosses(
        self,
        means: Float[Tensor, " asked"],
        thresholds: Float[Tensor, " asked"],
        spread: Float[Tensor, " asked"],
        generator: torch.Generator,
    ) -> Bool[Tensor, " asked"]:
        drawn = torch.rand(means.shape, generator=generator, device=means.device)
        return drawn < exceeds((thresholds - means).div_(spread))


def bounds(
    thresholds: Float64[Tensor, " feature"],
    spread: Float64[Tensor, " feature"],
    shared: Float64[Tensor, " feature"],
) -> tuple[Float64[Tensor, " feature"], Float64[Tensor, " feature"]]:
    """The limit of each shared part, and the chance that is proposed for shared parts within it.

    Nothing is proposed where nothing would be gained: for features that fire more often than not,
    that have no own part, or that never fire. The limit then separates nothing.
    """
    cut = thresholds / (spread + shared)
    limit, proposed = thresholds - spread * cut, torch.special.ndtr(-cut)
    tossing, never = (thresholds <= 0) | (spread == 0), thresholds == torch.inf
    limit = limit.masked_fill(tossing, -torch.inf).masked_fill(never, torch.inf)
    # without an own part the shared one alone decides, so the threshold is the limit
    limit = torch.where((spread == 0) & (thresholds > 0), thresholds, limit)
    return limit, proposed.masked_fill(tossing | never, 0.0)


def exceeds(threshold: Float[Tensor, " asked"]) -> Float[Tensor, " asked"]:
    """The chance that a standard normal number exceeds each threshold; may reuse its memory."""
    return threshold.mul_(math.sqrt(0.5)).erfc_().mul_(0.5)


def flat_nonzero(flags: Bool[Tensor, "n feature"]) -> Int64[Tensor, " set"]:
    """Places of the set flags in the flattened matrix, found eight at a time."""
    flat = flags.view(-1)
    whole = flat.numel() // 8 * 8
    words = flat[:whole].view(torch.int64).nonzero()[:, 0]
    places = flat[:whole].view(-1, 8).index_select(0, words).view(-1).nonzero()[:, 0]
    found = words.index_select(0, places >> 3).mul_(8).add_(places & 7)
    return torch.cat([found, flat[whole:].nonzero()[:, 0].add_(whole)])
