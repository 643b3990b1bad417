"""Features that know nothing of each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from latent_assay.worlds.firing.deciding import Apart, Points, poisson_rates
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.firing.patterns import Patterns, expanded
from latent_assay.worlds.firing.sparse import SparseFiring
from latent_assay.worlds.rates import checked_rates, in_words


@dataclass(frozen=True, kw_only=True)
class Independent(Firing):
    r"""Each feature fires on its own.

    $$P(a) = \prod_i p_i^{a_i} (1 - p_i)^{1 - a_i}$$

    **Raises:** `WorldError` if a rate is no probability.

    >>> law = Independent(rates=[0.5, 0.25])
    >>> law.patterns().probability
    tensor([0.3750, 0.1250, 0.3750, 0.1250], dtype=torch.float64)
    """

    rates: Sequence[float]
    """How often each feature fires, $p_i$."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", checked_rates(self.rates))

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.rates)

    @property
    def summary(self) -> str:
        """The law in a few words."""
        return f"independent, {in_words(self.rates)}"

    @property
    def marginals(self) -> Float64[Tensor, " feature"]:
        """How often each feature fires: its rate."""
        return torch.tensor(self.rates, dtype=torch.float64)

    def sample(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n feature"]:
        """Draw `n` patterns, one uniform number for each feature and sample."""
        device = generator.device
        rates = self._once(device, lambda: torch.tensor(self.rates, device=device))
        return torch.rand(n, len(self.rates), generator=generator, device=device) < rates

    def sample_sparse(self, n: int, generator: torch.Generator) -> SparseFiring:
        """Draw `n` patterns as a list, at the cost of what fires."""
        device = generator.device
        points = self._once((device, "points"), lambda: Points(self.marginals, device))
        return SparseFiring.gathered(points.throw(n, generator), n=n, n_features=len(self.rates))

    @cached_property
    def sparse_cost(self) -> float:
        """About how many features `sample_sparse` looks at in a sample."""
        return poisson_rates(self.marginals).sum().item()

    def deciding(self, first: Int64[Tensor, " first"], device: torch.device) -> Apart:
        """The same law, drawn piece by piece: some features at once, others where asked for."""
        return Apart(self.marginals, first, device)

    def _enumerated(self, limit: int) -> Patterns:
        def chance(
            feature: int, firing: Bool[Tensor, "pattern feature"]
        ) -> Float64[Tensor, " pattern"]:
            return torch.full((firing.shape[0],), self.rates[feature], dtype=torch.float64)

        return expanded(range(self.n_features), self.n_features, chance, limit)
