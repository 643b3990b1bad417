"""How often features really fire, alone and together."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from latent_assay.errors import ConfigError, WorldError
from latent_assay.worlds.firing import PATTERN_LIMIT, Firing, SparseFiring

# Entries (samples × features) that are drawn at once.
ENTRIES = 2**23


@dataclass(frozen=True, kw_only=True, eq=False)
class ParentStatistics:
    r"""How the firing of each parent and child go together; one entry for each link.

    A probability whose condition never occurred is NaN.
    """

    parent: Int64[Tensor, " link"]
    """The parents."""
    child: Int64[Tensor, " link"]
    """Their children."""
    parent_given_child: Float64[Tensor, " link"]
    """P(parent | child): 1, or the link is no hierarchy."""
    child_given_parent: Float64[Tensor, " link"]
    """P(child | parent)."""
    child_given_no_parent: Float64[Tensor, " link"]
    """P(child | not parent): 0, or the link is no hierarchy."""
    parent_given_child_error: Float64[Tensor, " link"]
    """Standard error of P(parent | child)."""
    child_given_parent_error: Float64[Tensor, " link"]
    """Standard error of P(child | parent)."""
    child_given_no_parent_error: Float64[Tensor, " link"]
    """Standard error of P(child | not parent)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    r"""Firing rates, correlations and parent-child rates, exact or measured.

    Standard errors are those of independent samples, $\sqrt{p (1 - p) / n}$ for a probability,
    with $p$ as measured; 0 for exact values. An event that never occurred in $n$ samples is
    measured as 0 with error 0: its rate is then below $3/n$ with 95% confidence.
    """

    n: int | None
    """Number of samples; None if the values are exact."""
    l0: float
    """Mean number of firing features."""
    l0_error: float
    """Standard error of `l0`."""
    rates: Float64[Tensor, " feature"]
    """How often each feature fires."""
    rates_error: Float64[Tensor, " feature"]
    """Standard error of `rates`."""
    joint: Float64[Tensor, "feature feature"] | None
    """How often each pair fires together; None if pairs were not counted."""
    parents: ParentStatistics
    """The same for parents and children."""

    @property
    def correlation(self) -> Float64[Tensor, "feature feature"]:
        r"""Correlation of the firing of each pair.

        $$\rho_{ij} = \frac{p_{ij} - p_i p_j}{\sqrt{p_i (1 - p_i) p_j (1 - p_j)}}$$

        NaN where a feature always or never fires.

        **Raises:** `WorldError` if pairs were not counted.
        """
        p, joint = self.rates, self._counted()
        sd = (p * (1 - p)).clamp(min=0).sqrt()
        return (joint - torch.outer(p, p)) / torch.outer(sd, sd)

    @property
    def correlation_error(self) -> Float64[Tensor, "feature feature"]:
        r"""Standard error of `correlation`.

        The root of $\mathbb E\,\psi^2 / n$, where $\psi = u v - \rho (u^2 + v^2) / 2$ is the
        correlation's influence function and $u$, $v$ the standardised firing of the two.

        **Raises:** `WorldError` if pairs were not counted.
        """
        if self.n is None:
            return torch.zeros_like(self._counted())
        p, joint, rho = self.rates, self._counted(), self.correlation
        sd = (p * (1 - p)).clamp(min=0).sqrt()
        on, off = (1 - p) / sd, -p / sd  # standardised values of firing and of silence
        either = p[:, None], p[None, :]
        cells = (
            (joint, on, on),
            (either[0] - joint, on, off),
            (either[1] - joint, off, on),
            (1 - either[0] - either[1] + joint, off, off),
        )
        variance = torch.zeros_like(joint)
        for probability, u, v in cells:
            squares = u.square()[:, None] + v.square()[None, :]
            influence = torch.outer(u, v) - rho * squares / 2
            variance += probability * influence.square()
        return (variance.clamp(min=0) / self.n).sqrt()

    @property
    def given_firing(self) -> Float64[Tensor, "feature feature"]:
        """P(column fires | row fires); NaN in the row of a feature that never fires.

        **Raises:** `WorldError` if pairs were not counted.
        """
        return self._counted() / self.rates[:, None]

    @property
    def given_silent(self) -> Float64[Tensor, "feature feature"]:
        """P(column fires | row is silent); NaN in the row of a feature that always fires.

        **Raises:** `WorldError` if pairs were not counted.
        """
        return (self.rates - self._counted()) / (1 - self.rates[:, None])

    def __str__(self) -> str:
        source = "exact" if self.n is None else f"measured on {self.n:,} samples"
        l0 = _with_error(self.l0, self.l0_error)
        lines = [f"Firing statistics of {self.rates.numel()} features, {source}: L0 {l0}"]
        shown = min(self.rates.numel(), 20)
        for i in range(shown):
            rate = _with_error(self.rates[i].item(), self.rates_error[i].item())
            lines.append(f"  feature {i}: rate {rate}")
        if shown < self.rates.numel():
            lines.append(f"  and {self.rates.numel() - shown} more")
        links = self.parents
        for at in range(min(links.parent.numel(), 20)):
            p, c = int(links.parent[at]), int(links.child[at])
            child = _with_error(
                links.child_given_parent[at].item(), links.child_given_parent_error[at].item()
            )
            lines.append(
                f"  P({c} | {p}) {child}, P({c} | not {p}) "
                f"{links.child_given_no_parent[at].item():.4g}, "
                f"P({p} | {c}) {links.parent_given_child[at].item():.4g}"
            )
        if links.parent.numel() > 20:
            lines.append(f"  and {links.parent.numel() - 20} more links")
        return "\n".join(lines)

    def _counted(self) -> Float64[Tensor, "feature feature"]:
        if self.joint is None:
            raise WorldError(
                "pairs were not counted in these statistics. Measure them with `pairwise=True`."
            )
        return self.joint


def firing_statistics(
    firing: Firing,
    n: int | None = None,
    generator: torch.Generator | None = None,
    *,
    pairwise: bool = True,
    limit: int = PATTERN_LIMIT,
) -> Statistics:
    """Statistics of a firing law: exact from its patterns, or measured on samples.

    **Arguments:**
    - `firing`: the law.
    - `n`: number of samples; None for exact values.
    - `generator`: source of randomness, needed with `n`; its device does the work.
    - `pairwise`: whether to count every pair, a feature × feature matrix.
    - `limit`: the greatest number of patterns for exact values.

    **Raises:** `WorldError` if exact values are asked for and there are none, `ConfigError` if `n`
    comes without a generator or is below 1.
    """
    links = torch.tensor(firing.forest.links, dtype=torch.int64).reshape(-1, 2).T
    if n is None:
        patterns = firing.patterns(limit)
        weights = patterns.probability
        fires = patterns.firing.double()
        counts = _Counts.of(fires, weights, links, pairwise)
    else:
        if generator is None or n < 1:
            raise ConfigError(
                f"got n = {n} and {'no ' if generator is None else 'a '}generator, but measuring "
                "needs at least one sample and a torch.Generator to draw with."
            )
        counts = _measured(firing, n, generator, links, pairwise)
    return _statistics(counts, n, links)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counts:
    """Sums over samples, or probabilities of patterns."""

    total: float
    l0: float
    l0_squared: float
    each: Tensor
    pairs: Tensor | None
    linked: Tensor

    @classmethod
    def of(cls, fires: Tensor, weights: Tensor | None, links: Tensor, pairwise: bool) -> "_Counts":
        """Count in rows of `fires`, each weighted by `weights` or by 1."""
        weighted = fires if weights is None else fires * weights[:, None]
        l0 = fires.sum(dim=1, dtype=torch.float64)
        weight = torch.ones_like(l0) if weights is None else weights
        parent, child = links.to(fires.device)
        return cls(
            total=weight.sum().item(),
            l0=(weight @ l0).item(),
            l0_squared=(weight @ l0.square()).item(),
            each=weighted.sum(dim=0, dtype=torch.float64).cpu(),
            pairs=(weighted.T @ fires).double().cpu() if pairwise else None,
            linked=(weighted[:, parent] * fires[:, child]).sum(dim=0, dtype=torch.float64).cpu(),
        )

    @classmethod
    def listed(cls, firing: SparseFiring, links: Tensor) -> "_Counts":
        """The same counts, but for pairs, from a list of what fires."""
        cells, features = firing.cells, firing.features
        l0 = firing.starts.diff().double()
        parent, child = links.to(cells.device)
        parents = torch.full((firing.n_features,), -1, device=cells.device)
        parents[child] = parent  # a feature has at most one
        above = parents.index_select(0, features)
        linked = above >= 0
        features, wanted = features[linked], (cells - features + above)[linked]
        place = torch.searchsorted(cells, wanted)
        # what is searched for may lie beyond the last cell
        there = cells.index_select(0, place.clamp(max=cells.numel() - 1)) == wanted
        both = torch.bincount(features[there], minlength=firing.n_features)
        return cls(
            total=float(firing.n),
            l0=l0.sum().item(),
            l0_squared=l0.square().sum().item(),
            each=torch.bincount(firing.features, minlength=firing.n_features).double().cpu(),
            pairs=None,
            linked=both[child].double().cpu(),
        )

    def plus(self, other: "_Counts") -> "_Counts":
        """The counts of both."""
        both = self.pairs is not None and other.pairs is not None
        return _Counts(
            total=self.total + other.total,
            l0=self.l0 + other.l0,
            l0_squared=self.l0_squared + other.l0_squared,
            each=self.each + other.each,
            pairs=self.pairs + other.pairs if both else None,  # type: ignore[operator]
            linked=self.linked + other.linked,
        )


def _measured(
    firing: Firing, n: int, generator: torch.Generator, links: Tensor, pairwise: bool
) -> _Counts:
    listed = firing.sparse and not pairwise
    entries = max(1, int(firing.sparse_cost)) if listed else firing.n_features
    # Counts in float32 are exact up to 2^24, far above a chunk.
    chunk = max(1, min(n, ENTRIES // entries, 2**20))
    counts: _Counts | None = None
    for start in range(0, n, chunk):
        size = min(chunk, n - start)
        if listed:
            found = _Counts.listed(firing.sample_sparse(size, generator), links)
        else:
            fires = firing.sample(size, generator).float()
            found = _Counts.of(fires, None, links, pairwise)
        counts = found if counts is None else counts.plus(found)
    assert counts is not None  # n is at least 1
    return counts


def _statistics(counts: _Counts, n: int | None, links: Tensor) -> Statistics:
    total = counts.total
    rates = counts.each / total
    l0 = counts.l0 / total
    spread = math.sqrt(max(counts.l0_squared / total - l0**2, 0.0))
    parent, child = links
    p, c, both = rates[parent], rates[child], counts.linked / total
    conditionals = {
        "parent_given_child": (both / c, c),
        "child_given_parent": (both / p, p),
        "child_given_no_parent": ((c - both).clamp(min=0.0) / (1 - p), 1 - p),
    }
    values = {name: value for name, (value, _) in conditionals.items()}
    errors = {
        f"{name}_error": _error(value, None if n is None else n * share)
        for name, (value, share) in conditionals.items()
    }
    return Statistics(
        n=n,
        l0=l0,
        l0_error=0.0 if n is None else spread / math.sqrt(n),
        rates=rates,
        rates_error=_error(rates, None if n is None else torch.full_like(rates, n)),
        joint=None if counts.pairs is None else counts.pairs / total,
        parents=ParentStatistics(parent=parent, child=child, **values, **errors),
    )


def _error(probability: Tensor, n: Tensor | None) -> Tensor:
    if n is None:
        return torch.zeros_like(probability)
    return (probability * (1 - probability)).clamp(min=0.0).div(n).sqrt()


def _with_error(value: float, error: float) -> str:
    return f"{value:.4g}" if error == 0 else f"{value:.4g} ± {error:.1g}"
