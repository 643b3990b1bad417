"""Features that fire where correlated Gaussian variables exceed thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.firing.correlation import Correlation
from latent_assay.worlds.firing.coupled import Coupled, bounds
from latent_assay.worlds.firing.independent import Independent
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.firing.normal import both_exceed
from latent_assay.worlds.firing.sparse import SparseFiring
from latent_assay.worlds.rates import checked_rates, in_words


@dataclass(frozen=True, kw_only=True)
class GaussianCopula(Firing):
    r"""Correlated firing with exact rates.

    $$a_i = [\, g_i > \Phi^{-1}(1 - p_i) \,], \qquad g \sim N(0, C)$$

    The marginals are $p_i$ whatever $C$ is. The correlation of the *binary* variables is weaker
    than that of the Gaussian ones, the more so the rarer the features;
    `binary_correlation` computes it, and `correlated` finds the $C$ for a wanted one.

    The matrix was factorised when the `Correlation` was made, so a draw is one matrix product.

    **Raises:** `WorldError` if a rate is no probability or the sizes differ.
    """

    rates: Sequence[float]
    """How often each feature fires, $p_i$."""
    correlation: Correlation
    """The Gaussian variables' correlation, $C$."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", checked_rates(self.rates))
        if self.correlation.n_features != len(self.rates):
            raise WorldError(
                f"the correlation is one of {self.correlation.n_features} features, but there "
                f"are rates for {len(self.rates)}. Give one rate for each feature."
            )

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.rates)

    @property
    def summary(self) -> str:
        """The law in a few words."""
        rank = self.correlation.factor.shape[1]
        return f"Gaussian copula of rank {rank}, {in_words(self.rates)}"

    @property
    def marginals(self) -> Float64[Tensor, " feature"]:
        """How often each feature fires: its rate."""
        return torch.tensor(self.rates, dtype=torch.float64)

    @property
    def why_not_finite(self) -> str:
        """What keeps the patterns from being enumerated."""
        return "firing is a Gaussian copula, whose pattern probabilities have no closed form"

    def sample(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n feature"]:
        """Draw `n` patterns from `rank` normal numbers each, and one for each own part."""
        device = generator.device
        factor, spread, thresholds = self._once(device, lambda: self._constants(device))
        shared = torch.randn(n, factor.shape[0], generator=generator, device=device)
        if spread is None:
            return shared @ factor > thresholds
        own = torch.randn(n, self.n_features, generator=generator, device=device)
        return torch.addmm(own.mul_(spread), shared, factor) > thresholds

    def sample_sparse(self, n: int, generator: torch.Generator) -> SparseFiring:
        """Draw `n` patterns as a list, at the cost of the shared part and little more."""
        device = generator.device
        coupled = self._once(
            (device, "coupled"), lambda: self.deciding(torch.arange(self.n_features), device)
        )
        cells, _ = coupled.draw(n, generator)
        return SparseFiring.gathered(cells, n=n, n_features=self.n_features)

    @cached_property
    def sparse_cost(self) -> float:
        """About how many features `sample_sparse` looks at one by one in a sample."""
        spread, shared = self.correlation.diagonal.sqrt(), self.correlation.factor.norm(dim=1)
        _, proposed = bounds(-torch.special.ndtri(self.marginals), spread, shared)
        return torch.where(proposed > 0, 2 * proposed, self.marginals.ceil()).sum().item()

    def deciding(self, first: Int64[Tensor, " first"], device: torch.device) -> Coupled:
        """The same law, drawn piece by piece: some features at once, others where asked for."""
        return Coupled(self.marginals, self.correlation, first, device)

    def binary_correlation(self) -> Float64[Tensor, "feature feature"]:
        r"""The exact correlation of the firing of each pair.

        $$\rho_{ij} = \frac{P(i, j) - p_i p_j}{\sqrt{p_i (1 - p_i) p_j (1 - p_j)}}$$

        with $P(i, j)$ from the bivariate normal distribution. NaN for a feature that always or
        never fires.
        """
        p = self.marginals
        varies = ((p > 0) & (p < 1)).nonzero()[:, 0]
        matrix = torch.full((p.numel(), p.numel()), torch.nan, dtype=torch.float64)
        i, j = varies[torch.triu_indices(varies.numel(), varies.numel(), offset=1)]
        thresholds = -torch.special.ndtri(p)
        latent = self.correlation.matrix[i, j].clamp(-1.0, 1.0)
        joint = both_exceed(thresholds[i], thresholds[j], latent)
        sd = (p * (1 - p)).sqrt()
        matrix[i, j] = matrix[j, i] = (joint - p[i] * p[j]) / (sd[i] * sd[j])
        matrix[varies, varies] = 1.0
        return matrix

    def _constants(self, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor]:
        """Factor [rank, feature], spread of the own parts if there are any, thresholds."""
        diagonal = self.correlation.diagonal
        return (
            self.correlation.factor.T.contiguous().to(device, torch.float32),
            diagonal.sqrt().to(device, torch.float32) if diagonal.any() else None,
            # -ndtri(p) rather than ndtri(1 - p), which loses the digits of small rates
            (-torch.special.ndtri(self.marginals)).to(device, torch.float32),
        )


def decisions(
    rates: Sequence[float], correlation: Correlation | None
) -> Independent | GaussianCopula:
    """What features decide before a hierarchy acts on them, coupled or not."""
    if correlation is None:
        return Independent(rates=rates)
    return GaussianCopula(rates=rates, correlation=correlation)
