"""Features that fire only when their parent does."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.firing.copula import GaussianCopula, decisions
from latent_assay.worlds.firing.correlation import Correlation
from latent_assay.worlds.firing.deciding import Deciding
from latent_assay.worlds.firing.forest import Forest, equally_long
from latent_assay.worlds.firing.independent import Independent
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.firing.patterns import Patterns, expanded
from latent_assay.worlds.firing.sparse import SparseFiring
from latent_assay.worlds.rates import checked_rates, in_words

# Sums of probabilities that were meant to be exactly 1 may exceed it by rounding.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Hierarchy(Firing):
    r"""A forest in which the parent *gates* the child.

    A root fires with its rate. A child fires with its rate when its parent fires, and never
    otherwise:

    $$P(\text{child} \mid \text{parent}) = q, \qquad
      P(\text{child} \mid \text{not parent}) = 0, \qquad
      P(\text{child}) = q \, P(\text{parent})$$

    Children decide independently, unless their parent is named in `exclusive`: then at most one
    of them fires, the $k$-th with probability $q_k$, and none with $1 - \sum_k q_k$.
    Distinct trees are independent.

    The parents' firing is the same as without the children. Where instead a child switches its
    parent *on*, use `ChildSwitchesParent`: the two make different worlds.

    With a `correlation` the decisions are coupled by a Gaussian copula before the gates apply.
    Then $q$ is the rate of the decision alone, and the rates that result are no longer known
    exactly (`marginals` is None): measure them.

    **Raises:** `WorldError` if a rate is no probability, the parents form no forest, or the
    rates of exclusive children sum to more than 1.

    >>> law = Hierarchy(parents=(None, 0), rates=(0.25, 0.2))
    >>> law.marginals
    tensor([0.2500, 0.0500], dtype=torch.float64)
    """

    parents: Sequence[int | None]
    """Each feature's parent; None for a root."""
    rates: Sequence[float]
    """P(root), or P(child | parent) for a feature that has a parent."""
    exclusive: bool | Sequence[int] = ()
    """Parents of which at most one child fires; True for every parent."""
    correlation: Correlation | None = None
    """What couples the decisions; None for independent ones."""

    def __post_init__(self) -> None:
        rates = checked_rates(self.rates)
        forest = Forest.of(self.parents, len(rates))
        exclusive = _exclusive_parents(self.exclusive, forest)
        for parent in exclusive:
            total = sum(rates[child] for child in forest.children[parent])
            if total > 1 + ROUNDING:
                raise WorldError(
                    f"the exclusive children of feature {parent} fire with probabilities that "
                    f"sum to {total:.6g} when it does, but at most one of them can fire. "
                    "Lower their rates to sum to at most 1, or let them fire together."
                )
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "parents", forest.parents)
        object.__setattr__(self, "exclusive", exclusive)
        _ = self._decisions  # refuses a correlation of the wrong size now rather than later

    @classmethod
    def with_overall_rates(
        cls,
        *,
        parents: Sequence[int | None],
        rates: Sequence[float],
        exclusive: bool | Sequence[int] = (),
    ) -> "Hierarchy":
        r"""A hierarchy in which every feature, child or not, fires with the rate that is given.

        A child's chance when its parent fires is raised to make up for the times that it does
        not: $P(\text{child} \mid \text{parent}) = p_{child} / p_{parent}$.

        **Arguments:**
        - `parents`: each feature's parent; None for a root.
        - `rates`: how often each feature shall fire, overall.
        - `exclusive`: parents of which at most one child fires; True for every parent.

        **Raises:** `WorldError` if a child shall fire more often than its parent.

        >>> Hierarchy.with_overall_rates(parents=(None, 0), rates=(0.25, 0.05)).rates
        (0.25, 0.2)
        """
        overall = checked_rates(rates)
        forest = Forest.of(parents, len(overall))
        conditional = list(overall)
        for parent, child in forest.links:
            if overall[child] > overall[parent]:
                raise WorldError(
                    f"feature {child} shall fire at rate {overall[child]:g}, but its parent "
                    f"{parent} fires at only {overall[parent]:g} and gates it. "
                    "Lower the child's rate or raise the parent's."
                )
            if overall[child] > 0:
                conditional[child] = overall[child] / overall[parent]
        return cls(parents=parents, rates=conditional, exclusive=exclusive)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.rates)

    @cached_property
    def forest(self) -> Forest:
        """Who must fire when whom does."""
        return Forest(tuple(self.parents))

    @property
    def summary(self) -> str:
        """The law in a few words."""
        links = len(self.forest.links)
        words = f"hierarchy of {links} child{'' if links == 1 else 'ren'}"
        if self._exclusive_parents:
            words += f", siblings exclusive under {len(self._exclusive_parents)} of the parents"
        if self.correlation is not None:
            words += ", decisions correlated"
        return f"{words}; {in_words([self.rates[root] for root in self.forest.roots])} at the roots"

    @property
    def marginals(self) -> Float64[Tensor, " feature"] | None:
        """How often each feature fires: the product of the rates from its root down to it."""
        if self.correlation is not None:
            return None
        return torch.tensor(self._overall, dtype=torch.float64)

    @property
    def why_not_finite(self) -> str | None:
        """What keeps the patterns from being enumerated."""
        if self.correlation is None:
            return None
        return "firing is a hierarchy whose decisions are coupled by a Gaussian copula"

    def sample(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n feature"]:
        """Draw `n` patterns: first what each feature decides, then the gates."""
        device = generator.device
        siblings, jumps = self._once(device, lambda: self._structure(device))
        fires = self._decisions.sample(n, generator)
        for members in siblings:  # [family, sibling]
            wanting = fires[:, members]
            # the first sibling that wants to fire keeps the others from it
            fires[:, members] = wanting & (wanting.cumsum(-1, dtype=torch.int32) == 1)
        for jump in jumps:
            fires &= fires.index_select(1, jump)
        return fires

    def sample_sparse(self, n: int, generator: torch.Generator) -> SparseFiring:
        """Draw `n` patterns as a list: the roots, then the children of what fires."""
        device = generator.device
        families = self._once((device, "families"), lambda: _Families.of(self, device))
        cells, decide = families.deciding.draw(n, generator)
        drawn = SparseFiring.gathered(cells, n=n, n_features=families.roots.numel())
        rows, features = drawn.rows, families.roots.index_select(0, drawn.features)
        found = [rows * self.n_features + features]
        for _ in range(max(self.forest.depths)):
            parents = features
            family, features = families.children_of(parents)
            rows = rows.index_select(0, family)
            fires = decide(rows, features)
            rows, features, family = rows[fires], features[fires], family[fires]
            if self._exclusive_parents:
                # the first sibling that wants to fire keeps the others from it
                first = torch.ones_like(family, dtype=torch.bool)
                torch.ne(family[1:], family[:-1], out=first[1:])
                exclusive = families.exclusive.index_select(0, parents.index_select(0, family))
                kept = first | ~exclusive
                rows, features = rows[kept], features[kept]
            found.append(rows * self.n_features + features)
        return SparseFiring.gathered(torch.cat(found), n=n, n_features=self.n_features)

    @cached_property
    def sparse_cost(self) -> float:
        """About how many features `sample_sparse` looks at in a sample.

        What it looks at among the roots, and every child of what fires. With a `correlation`,
        how often parents fire is taken from the same hierarchy without it.
        """
        roots = list(self.forest.roots)
        rates, correlation = [self.rates[root] for root in roots], self.correlation
        if correlation is not None:
            correlation = Correlation(
                factor=correlation.factor[roots], diagonal=correlation.diagonal[roots]
            )
        children = zip(self._overall, self.forest.children, strict=True)
        return decisions(rates, correlation).sparse_cost + sum(
            rate * len(each) for rate, each in children
        )

    @cached_property
    def _overall(self) -> tuple[float, ...]:
        """How often each feature fires, if decisions are independent."""
        overall = list(self.rates)
        for feature in self.forest.order:
            parent = self.parents[feature]
            if parent is not None:
                overall[feature] *= overall[parent]
        return tuple(overall)

    @cached_property
    def _decisions(self) -> Independent | GaussianCopula:
        return decisions(self._hazards, self.correlation)

    @cached_property
    def _exclusive_parents(self) -> tuple[int, ...]:
        return _exclusive_parents(self.exclusive, self.forest)

    @cached_property
    def _hazards(self) -> tuple[float, ...]:
        r"""The chance of each decision, given that no earlier exclusive sibling took it.

        Sibling $k$ decides with $h_k = q_k / (1 - \sum_{j<k} q_j)$, which makes it the first to
        do so with probability $q_k$. Other features decide with their rate.
        """
        hazards = list(self.rates)
        for parent in self._exclusive_parents:
            left = 1.0
            for child in self.forest.children[parent]:
                rate = self.rates[child]
                # `left` may fall short of the last rate by rounding, even to zero
                hazards[child] = rate if rate == 0 else 1.0 if rate >= left else rate / left
                left -= rate
        return tuple(hazards)

    def _structure(
        self, device: torch.device
    ) -> tuple[list[Int64[Tensor, "family sibling"]], list[Int64[Tensor, " feature"]]]:
        families = [self.forest.children[parent] for parent in self._exclusive_parents]
        families = [family for family in families if len(family) > 1]
        siblings = [
            torch.tensor([families[place] for place in places], device=device)
            for places in equally_long(families)
        ]
        return siblings, [jump.to(device) for jump in self.forest.jumps()]

    def _enumerated(self, limit: int) -> Patterns:
        exclusive = set(self._exclusive_parents)

        def chance(
            feature: int, firing: Bool[Tensor, "pattern feature"]
        ) -> Float64[Tensor, " pattern"]:
            hazard = self._hazards[feature]
            parent = self.parents[feature]
            if parent is None:
                return torch.full((firing.shape[0],), hazard, dtype=torch.float64)
            may = firing[:, parent]
            if parent in exclusive:
                earlier = [child for child in self.forest.children[parent] if child < feature]
                may = may & ~firing[:, earlier].any(dim=1)
            return may.double() * hazard

        return expanded(self.forest.order, self.n_features, chance, limit)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Families:
    """A hierarchy as tensors: who the roots are, and where each feature's children are listed."""

    deciding: Deciding
    roots: Int64[Tensor, " root"]
    children: Int64[Tensor, " child"]
    start: Int64[Tensor, " feature"]
    count: Int64[Tensor, " feature"]
    exclusive: Bool[Tensor, " feature"]

    @classmethod
    def of(cls, law: Hierarchy, device: torch.device) -> "_Families":
        families = law.forest.children
        count = torch.tensor([len(family) for family in families])
        exclusive = torch.zeros(law.n_features, dtype=torch.bool)
        exclusive[list(law._exclusive_parents)] = True
        roots = torch.tensor(law.forest.roots)
        listed = [child for family in families for child in family]
        return cls(
            deciding=law._decisions.deciding(roots, device),
            roots=roots.to(device),
            children=torch.tensor(listed, dtype=torch.int64, device=device),
            start=(count.cumsum(0) - count).to(device),
            count=count.to(device),
            exclusive=exclusive.to(device),
        )

    def children_of(
        self, parents: Int64[Tensor, " parent"]
    ) -> tuple[Int64[Tensor, " child"], Int64[Tensor, " child"]]:
        """All children of some parents: whose place among `parents` theirs has, and which."""
        count = self.count.index_select(0, parents)
        ends = count.cumsum(0)
        family = torch.repeat_interleave(count)
        shift = self.start.index_select(0, parents).sub_(ends).add_(count)
        place = torch.arange(family.numel(), device=family.device)
        listed = place.add_(shift.index_select(0, family))
        return family, self.children.index_select(0, listed)


def _exclusive_parents(exclusive: bool | Sequence[int], forest: Forest) -> tuple[int, ...]:
    """The parents whose children exclude each other, checked, in ascending order."""
    having = [i for i, children in enumerate(forest.children) if children]
    if isinstance(exclusive, bool):
        return tuple(having) if exclusive else ()
    named = sorted({int(parent) for parent in exclusive})
    for parent in named:
        if parent not in having:
            raise WorldError(
                f"`exclusive` names feature {parent}, which has no children. "
                f"Name parents only; here they are {having}."
            )
    return tuple(named)
