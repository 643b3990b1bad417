"""Groups of features that know nothing of each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.firing.forest import Forest
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.firing.patterns import Patterns, check_limit
from latent_assay.worlds.firing.sparse import SparseFiring


@dataclass(frozen=True, kw_only=True)
class SideBySide(Firing):
    r"""Several laws at once, independent of each other, their features numbered on.

    $$P(a, b) = P_1(a) \, P_2(b)$$

    The first law's features come first. So a pair with a given correlation can stand beside
    independent features, or hierarchies of different kinds beside each other.

    **Raises:** `WorldError` if there is no law.
    """

    parts: Sequence[Firing]
    """The laws."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts:
            raise WorldError("`parts` is empty, but a world has at least one feature.")

    @property
    def n_features(self) -> int:
        """Number of features."""
        return sum(part.n_features for part in self.parts)

    @property
    def summary(self) -> str:
        """The law in a few words."""
        return " | ".join(part.summary for part in self.parts)

    @cached_property
    def forest(self) -> Forest:
        """Who must fire when whom does."""
        parents: list[int | None] = []
        for part in self.parts:
            start = len(parents)
            parents += [None if p is None else p + start for p in part.forest.parents]
        return Forest(tuple(parents))

    @property
    def marginals(self) -> Float64[Tensor, " feature"] | None:
        """How often each feature fires, if every part knows."""
        known = [part.marginals for part in self.parts]
        exact = [each for each in known if each is not None]
        return torch.cat(exact) if len(exact) == len(known) else None

    @property
    def why_not_finite(self) -> str | None:
        """What keeps the patterns from being enumerated: whatever keeps a part's."""
        reasons = [part.why_not_finite for part in self.parts if part.why_not_finite is not None]
        return "; ".join(dict.fromkeys(reasons)) or None

    def sample(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n feature"]:
        """Draw `n` patterns, part by part."""
        return torch.cat([part.sample(n, generator) for part in self.parts], dim=1)

    def sample_sparse(self, n: int, generator: torch.Generator) -> SparseFiring:
        """Draw `n` patterns as a list, part by part."""
        cells, start = [], 0
        for part in self.parts:
            drawn = part.sample_sparse(n, generator)
            cells.append(drawn.rows * self.n_features + drawn.features + start)
            start += part.n_features
        return SparseFiring.gathered(torch.cat(cells), n=n, n_features=self.n_features)

    @cached_property
    def sparse_cost(self) -> float:
        """About how many features `sample_sparse` looks at in a sample, over all parts."""
        return sum(part.sparse_cost for part in self.parts)

    def _enumerated(self, limit: int) -> Patterns:
        joined = self.parts[0].patterns(limit)
        for part in self.parts[1:]:
            added = part.patterns(limit)
            left, right = joined.probability.numel(), added.probability.numel()
            check_limit(left * right, limit)
            joined = Patterns(
                firing=torch.cat(
                    [joined.firing.repeat_interleave(right, dim=0), added.firing.repeat(left, 1)],
                    dim=1,
                ),
                probability=torch.outer(joined.probability, added.probability).flatten(),
            )
        return joined
