"""Features whose chance to fire depends on whether one other fires."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.firing.forest import Forest
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.firing.patterns import Patterns, expanded
from latent_assay.worlds.rates import checked_rates


@dataclass(frozen=True, kw_only=True)
class Link:
    """One feature's dependence on another.

    **Raises:** `WorldError` if a chance is no probability.
    """

    feature: int
    """The feature that depends."""
    on: int
    """The feature that it depends on."""
    fires: float
    """P(feature fires | `on` fires)."""
    silent: float
    """P(feature fires | `on` is silent)."""

    def __post_init__(self) -> None:
        fires, silent = checked_rates((self.fires, self.silent), "P(feature | fires, silent)")
        object.__setattr__(self, "fires", fires)
        object.__setattr__(self, "silent", silent)


@dataclass(frozen=True, kw_only=True)
class Conditional(Firing):
    r"""Pairwise conditional firing: a tree-shaped Bayesian network.

    A feature with a link fires with one probability when the feature it depends on fires, and
    with another when that is silent; the rest are independent:

    $$P(j) = P(j \mid i) P(i) + P(j \mid \neg i) (1 - P(i))$$

    Positive correlation for $P(j \mid i) > P(j \mid \neg i)$, negative for the reverse, and a
    strict hierarchy, $i$ the parent of $j$, for $P(j \mid \neg i) = 0$.
    Links may be chained, but each feature depends on at most one other; use a `Table` for more.

    **Raises:** `WorldError` if a feature has neither rate nor link or has both, or if links form
    a circle.

    >>> law = Conditional(rates=(0.25, None), links=[Link(feature=1, on=0, fires=0.2, silent=0.1)])
    >>> law.marginals
    tensor([0.2500, 0.1250], dtype=torch.float64)
    """

    rates: Sequence[float | None]
    """How often each feature without a link fires; None for a feature with a link."""
    links: Sequence[Link]
    """The dependences, at most one for each feature."""

    def __post_init__(self) -> None:
        rates = tuple(None if rate is None else float(rate) for rate in self.rates)
        links = tuple(self.links)
        checked_rates([rate or 0.0 for rate in rates])
        linked: set[int] = set()
        for link in links:
            if not 0 <= link.feature < len(rates):
                raise WorldError(
                    f"a link is for feature {link.feature}, but there are only features 0 "
                    f"to {len(rates) - 1}. Give `rates` an entry for every feature, None if linked."
                )
            if link.feature in linked:
                raise WorldError(
                    f"feature {link.feature} has two links, but can depend on one other only. "
                    "Use a `Table` for features that depend on several."
                )
            linked.add(link.feature)
        for feature, rate in enumerate(rates):
            if (rate is None) != (feature in linked):
                has = "both a rate and a link" if rate is not None else "neither a rate nor a link"
                raise WorldError(
                    f"feature {feature} has {has}. Give a linked feature the rate None, "
                    "and every other a probability."
                )
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "links", links)
        _ = self._dependence  # refuses circles now rather than later

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.rates)

    @cached_property
    def forest(self) -> Forest:
        """Links whose feature never fires without the other: those make parents and children."""
        parents: list[int | None] = [None] * self.n_features
        for link in self.links:
            if link.silent == 0:
                parents[link.feature] = link.on
        return Forest(tuple(parents))

    @property
    def summary(self) -> str:
        """The law in a few words."""
        if len(self.links) > 4:
            return f"conditional, {len(self.links)} links"
        return "conditional, " + ", ".join(
            f"P({link.feature}|{link.on}) {link.fires:.3g} and "
            f"P({link.feature}|not {link.on}) {link.silent:.3g}"
            for link in self.links
        )

    @property
    def marginals(self) -> Float64[Tensor, " feature"]:
        """How often each feature fires, by the law of total probability along the links."""
        overall = [0.0] * self.n_features
        for feature in self._dependence.order:
            fires, silent = self._chances[feature]
            on = self._dependence.parents[feature]
            given = 1.0 if on is None else overall[on]
            overall[feature] = fires * given + silent * (1 - given)
        return torch.tensor(overall, dtype=torch.float64)

    def sample(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n feature"]:
        """Draw `n` patterns, one uniform number for each feature and sample.

        The number says what a feature does in either case; chains of cases are then composed.
        """
        device = generator.device
        fires, silent, jumps = self._once(device, lambda: self._constants(device))
        drawn = torch.rand(n, self.n_features, generator=generator, device=device)
        if_fires, if_silent = drawn < fires, drawn < silent
        for step, jump in enumerate(jumps, start=1):
            # Compose "what I do, given what it does" with the same of the one it depends on.
            # A feature without a link does the same in both cases, so it ends every chain.
            above = if_fires.index_select(1, jump)
            composed = torch.where(above, if_fires, if_silent)
            if step < len(jumps):  # the last step settles every chain: both cases agree
                above = if_silent.index_select(1, jump)
                if_silent = torch.where(above, if_fires, if_silent)
            if_fires = composed
        return if_fires

    def _constants(
        self, device: torch.device
    ) -> tuple[
        Float[Tensor, " feature"], Float[Tensor, " feature"], list[Int64[Tensor, " feature"]]
    ]:
        """Each feature's two chances, and the jumps along the chains of links."""
        fires, silent = (
            torch.tensor(each, device=device) for each in zip(*self._chances, strict=True)
        )
        return fires, silent, [jump.to(device) for jump in self._dependence.jumps()]

    @cached_property
    def _dependence(self) -> Forest:
        on: list[int | None] = [None] * self.n_features
        for link in self.links:
            on[link.feature] = link.on
        return Forest(tuple(on))

    @cached_property
    def _chances(self) -> tuple[tuple[float, float], ...]:
        """For each feature, its chance when the one it depends on fires, and when it is silent."""
        linked = {link.feature: (link.fires, link.silent) for link in self.links}
        return tuple(
            linked[feature] if rate is None else (rate, rate)
            for feature, rate in enumerate(self.rates)
        )

    def _enumerated(self, limit: int) -> Patterns:
        def chance(
            feature: int, firing: Bool[Tensor, "pattern feature"]
        ) -> Float64[Tensor, " pattern"]:
            fires, silent = self._chances[feature]
            on = self._dependence.parents[feature]
            given = torch.ones(firing.shape[0]).bool() if on is None else firing[:, on]
            return given.double() * fires + (~given).double() * silent

        return expanded(self._dependence.order, self.n_features, chance, limit)
