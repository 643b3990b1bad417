"""Firing patterns listed one by one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from latent_assay.errors import ShapeError, WorldError
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.firing.patterns import Patterns, check_limit


@dataclass(frozen=True, kw_only=True, eq=False)
class Table(Firing):
    """An explicit table of patterns and their probabilities: any finite law at all.

    Made most readably with `Table.of`.

    **Raises:** `ShapeError` if the parts do not fit, `WorldError` if the probabilities are
    negative or do not sum to 1 within 1e-9.
    """

    firing: Bool[Tensor, "pattern feature"]
    """Which features fire in each pattern. Equal patterns may appear more than once."""
    probability: Float64[Tensor, " pattern"]
    """How probable each pattern is."""

    def __post_init__(self) -> None:
        # clones: the caller's tensors may change later, a law may not
        firing = torch.as_tensor(self.firing).detach().to("cpu", torch.bool).clone()
        probability = torch.as_tensor(self.probability).detach().to("cpu", torch.float64).clone()
        if firing.ndim != 2 or probability.shape != firing.shape[:1] or 0 in firing.shape:
            raise ShapeError(
                f"the patterns have shape {tuple(firing.shape)} and the probabilities "
                f"{tuple(probability.shape)}, but they must be [pattern, feature] and [pattern], "
                "with at least one of each."
            )
        total = probability.sum().item()
        if not (probability >= 0).all() or not abs(total - 1) <= 1e-9:
            raise WorldError(
                f"the probabilities sum to {total:.12g} and the least is "
                f"{probability.min().item():g}, but they must sum to 1 and none be negative. "
                "Divide them by their sum, in float64."
            )
        object.__setattr__(self, "firing", firing)
        object.__setattr__(self, "probability", probability)

    @classmethod
    def of(cls, table: Mapping[Iterable[int], float], *, n_features: int) -> "Table":
        """A table from sets of firing features and their probabilities.

        **Arguments:**
        - `table`: for each pattern the features that fire in it, and its probability.
        - `n_features`: number of features.

        **Raises:** `WorldError` if a feature does not exist, or as for the class.

        >>> law = Table.of({(): 0.6, (0,): 0.3, (0, 1): 0.1}, n_features=2)
        >>> law.marginals
        tensor([0.4000, 0.1000], dtype=torch.float64)
        """
        firing = torch.zeros(len(table), n_features, dtype=torch.bool)
        for row, features in enumerate(table):
            for feature in features:
                if not 0 <= feature < n_features:
                    raise WorldError(
                        f"pattern {tuple(features)} names feature {feature}, but there are only "
                        f"features 0 to {n_features - 1}. Raise `n_features` or mend the pattern."
                    )
                firing[row, feature] = True
        probability = torch.tensor(list(table.values()), dtype=torch.float64)
        return cls(firing=firing, probability=probability)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.firing.shape[1]

    @property
    def summary(self) -> str:
        """The law in a few words."""
        count = self.firing.shape[0]
        return f"table of {count} pattern{'' if count == 1 else 's'}"

    @cached_property
    def marginals(self) -> Float64[Tensor, " feature"]:
        """How often each feature fires."""
        return self.probability @ self.firing.double()

    def sample(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n feature"]:
        """Draw `n` patterns, one uniform number each."""
        device = generator.device
        firing, bounds = self._once(device, lambda: self._constants(device))
        # float64: the number decides between all patterns at once
        drawn = torch.rand(n, generator=generator, device=device, dtype=torch.float64)
        return firing.index_select(0, torch.searchsorted(bounds, drawn, right=True))

    def _constants(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Possible patterns, and the upper bound of each one's share of the unit interval."""
        possible = self.probability > 0
        # The last pattern takes whatever rounding leaves of the interval.
        bounds = self.probability[possible].cumsum(0)[:-1]
        return self.firing[possible].to(device), bounds.to(device)

    def _enumerated(self, limit: int) -> Patterns:
        check_limit(self.firing.shape[0], limit)
        return Patterns(firing=self.firing, probability=self.probability)
