"""What every firing law offers."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.encoding import as_json
from latent_assay.worlds.firing.forest import Forest
from latent_assay.worlds.firing.patterns import PATTERN_LIMIT, Patterns
from latent_assay.worlds.firing.sparse import SparseFiring
from latent_assay.worlds.per_device import PerDevice

# From how many features on, and up to which share of them in a sample's work, only what fires is
# drawn. The rule knows nothing of the machine: a world draws the same samples everywhere.
SPARSE_FEATURES = 1024
SPARSE_SHARE = 1 / 8


class Firing(PerDevice, ABC):
    """Which features fire together, and how often.

    A law is immutable and knows nothing of directions or magnitudes. Drawing uses nothing but
    the generator that it is given, on that generator's device, so equal generators draw equal
    patterns.
    """

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Number of features."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """The law in a few words."""

    @property
    @abstractmethod
    def marginals(self) -> Float64[Tensor, " feature"] | None:
        """How often each feature fires, or None where no exact value is known."""

    @property
    def forest(self) -> Forest:
        """Who must fire when whom does; no feature has a parent unless the law says so."""
        return Forest.flat(self.n_features)

    @property
    def why_not_finite(self) -> str | None:
        """What keeps the patterns from being enumerated; None if nothing does."""
        return None

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n feature"]:
        """Draw `n` independent patterns.

        **Arguments:**
        - `n`: number of samples.
        - `generator`: source of randomness; the result lies on its device.

        **Returns:** which features fire in each sample.
        """

    def sample_sparse(self, n: int, generator: torch.Generator) -> SparseFiring:
        """Draw `n` patterns of the same law as `sample`, by other numbers, as a list.

        Most laws draw no more than fires; a law that cannot makes a list of a matrix.

        **Arguments:** as for `sample`.

        **Returns:** what fires in each sample.
        """
        return SparseFiring.of(self.sample(n, generator))

    @property
    def sparse_cost(self) -> float:
        """About how many features `sample_sparse` looks at in a sample: all, if it cannot choose.

        At least as many as fire.
        """
        return float(self.n_features)

    @cached_property
    def sparse(self) -> bool:
        """Whether worlds draw this law with `sample_sparse`.

        They do if it has 1,024 features or more and looks at no more than an eighth of them.
        """
        return (
            self.n_features >= SPARSE_FEATURES
            and self.sparse_cost <= SPARSE_SHARE * self.n_features
        )

    def patterns(self, limit: int = PATTERN_LIMIT) -> Patterns:
        """Every pattern that can occur, once, with its exact probability, on the CPU.

        **Arguments:**
        - `limit`: the greatest number of patterns that may be built.

        **Raises:** `WorldError` if the law cannot be enumerated or has more patterns than that.
        """
        if self.why_not_finite is not None:
            raise WorldError(
                f"the firing patterns cannot be enumerated: {self.why_not_finite}. "
                "Sample the world instead."
            )
        return self._enumerated(limit).merged()

    def _enumerated(self, limit: int) -> Patterns:
        """Patterns in any order, possibly repeated; only called for a finite law."""
        raise NotImplementedError(f"{type(self).__name__} says that it is finite; it must count.")

    @property
    def description(self) -> dict[str, Any]:
        """The law and its parameters as plain data, ready for JSON."""
        return as_json(self)
