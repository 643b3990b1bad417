"""Features that switch their parent on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.firing.copula import GaussianCopula, decisions
from latent_assay.worlds.firing.correlation import Correlation
from latent_assay.worlds.firing.forest import Forest, equally_long
from latent_assay.worlds.firing.independent import Independent
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.firing.patterns import Patterns
from latent_assay.worlds.firing.sparse import SparseFiring
from latent_assay.worlds.rates import checked_rates, in_words


@dataclass(frozen=True, kw_only=True)
class ChildSwitchesParent(Firing):
    r"""A forest in which a firing child *switches its parent on*.

    Every feature first decides on its own, with its rate. Then, from the leaves upwards, the
    parent of every firing feature fires too:

    $$P(\text{child} \mid \text{parent}) > 0, \qquad
      P(\text{child} \mid \text{not parent}) = 0, \qquad
      P(i) = 1 - \prod_{j \in \text{tree below } i} (1 - p_j)$$

    Here it is the child whose firing is the same as without the link, and the parent's that
    rises. Under `Hierarchy`, where the parent gates the child, it is the other way round.

    With a `correlation` the decisions are coupled by a Gaussian copula; the rates of parents are
    then no longer known exactly (`marginals` is None): measure them.

    **Raises:** `WorldError` if a rate is no probability or the parents form no forest.

    >>> law = ChildSwitchesParent(parents=(None, 0), rates=(0.5, 0.2))
    >>> law.marginals
    tensor([0.6000, 0.2000], dtype=torch.float64)
    """

    parents: Sequence[int | None]
    """Each feature's parent; None for a root."""
    rates: Sequence[float]
    """How often each feature decides to fire, before children switch parents on."""
    correlation: Correlation | None = None
    """What couples the decisions; None for independent ones."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", checked_rates(self.rates))
        forest = Forest.of(self.parents, len(self.rates))
        object.__setattr__(self, "parents", forest.parents)
        _ = self._decisions  # refuses a correlation of the wrong size now rather than later

    @classmethod
    def with_overall_rates(
        cls, *, parents: Sequence[int | None], rates: Sequence[float]
    ) -> "ChildSwitchesParent":
        r"""The same rule, with the rates that result rather than those of the decisions.

        A parent's own decision is made rarer to leave room for its children's:
        $p_i = 1 - (1 - P(i)) / \prod_{\text{children } c} (1 - P(c))$.

        **Arguments:**
        - `parents`: each feature's parent; None for a root.
        - `rates`: how often each feature shall fire, overall.

        **Raises:** `WorldError` if a parent shall fire less often than its children alone make it.
        """
        overall = checked_rates(rates)
        forest = Forest.of(parents, len(overall))
        own = list(overall)
        for parent, children in enumerate(forest.children):
            silent = 1.0
            for child in children:
                silent *= 1 - overall[child]
            if 1 - overall[parent] > silent + 1e-12:
                raise WorldError(
                    f"feature {parent} shall fire at rate {overall[parent]:g}, but its children "
                    f"alone switch it on at {1 - silent:g}. Raise its rate or lower theirs."
                )
            if silent > 0:
                own[parent] = max(0.0, 1 - (1 - overall[parent]) / silent)
        return cls(parents=parents, rates=own)

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
        words = f"{links} child{'' if links == 1 else 'ren'} switching parents on"
        if self.correlation is not None:
            words += ", decisions correlated"
        return f"{words}; {in_words(self.rates)} before"

    @property
    def marginals(self) -> Float64[Tensor, " feature"] | None:
        """How often each feature fires: unless it and all below it are silent."""
        if self.correlation is not None:
            return None
        silent = [1 - rate for rate in self.rates]
        for feature in reversed(self.forest.order):
            parent = self.parents[feature]
            if parent is not None:
                silent[parent] *= silent[feature]
        return 1 - torch.tensor(silent, dtype=torch.float64)

    @property
    def why_not_finite(self) -> str | None:
        """What keeps the patterns from being enumerated."""
        if self.correlation is None:
            return None
        return "firing is a hierarchy whose decisions are coupled by a Gaussian copula"

    def sample(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n feature"]:
        """Draw `n` patterns: first what each feature decides, then the switching."""
        return self._switched(self._decisions.sample(n, generator))

    def sample_sparse(self, n: int, generator: torch.Generator) -> SparseFiring:
        """Draw `n` patterns as a list: first what each feature decides, then its ancestors."""
        device = generator.device
        parents = self._once(
            (device, "parents"),
            lambda: torch.tensor([-1 if p is None else p for p in self.parents], device=device),
        )
        decided = self._decisions.sample_sparse(n, generator)
        cells, rows, features = [decided.cells], decided.rows, decided.features
        for _ in range(max(self.forest.depths)):
            features = parents.index_select(0, features)
            below = features >= 0
            rows, features = rows[below], features[below]
            cells.append(rows * self.n_features + features)
        return SparseFiring.gathered(torch.cat(cells), n=n, n_features=self.n_features)

    @cached_property
    def sparse_cost(self) -> float:
        """About how many features `sample_sparse` looks at in a sample."""
        above = zip(self.rates, self.forest.depths, strict=True)
        return self._decisions.sparse_cost + sum(rate * depth for rate, depth in above)

    @cached_property
    def _decisions(self) -> Independent | GaussianCopula:
        return decisions(self.rates, self.correlation)

    def _switched(self, fires: Bool[Tensor, "n feature"]) -> Bool[Tensor, "n feature"]:
        """Switch parents on, in place, the deepest first."""
        for parents, children in self._once(fires.device, lambda: self._structure(fires.device)):
            fires[:, parents] |= fires[:, children].any(dim=2)
        return fires

    def _structure(
        self, device: torch.device
    ) -> list[tuple[Int64[Tensor, " family"], Int64[Tensor, "family sibling"]]]:
        """Families that can be switched at once: parents of one depth with equally many."""
        depths, children = self.forest.depths, self.forest.children
        found = []
        for depth in range(max(depths), -1, -1):
            parents = [i for i in range(self.n_features) if depths[i] == depth and children[i]]
            families = [children[i] for i in parents]
            for places in equally_long(families):
                found.append(
                    (
                        torch.tensor([parents[place] for place in places], device=device),
                        torch.tensor([families[place] for place in places], device=device),
                    )
                )
        return found

    def _enumerated(self, limit: int) -> Patterns:
        decided = self._decisions.patterns(limit)
        return Patterns(firing=self._switched(decided.firing), probability=decided.probability)
