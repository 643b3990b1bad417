"""What is measured of each latent, before anybody judges it."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


class Tier(StrEnum):
    """How much was looked at."""

    WEIGHTS = "weights"
    """The SAE's weights alone."""
    ACTIVATIONS = "activations"
    """Its weights, and activations that it read."""
    CONTINUATION = "continuation"
    """The same, and what its latents handed over when it was trained on with new ones."""


class Role(IntEnum):
    """What another latent is to this one; `share` is what it takes part with."""

    CHILD = 0
    """Carries this latent's feature; share: of this latent's feature's samples that it took."""
    PARENT = 1
    """Is carried by this latent; share: of the parent's direction in this decoder row."""
    DUPLICATE = 2
    """Same direction, same samples; share: cosine of the decoder rows."""
    SIBLING = 3
    """Same direction, other samples; share: cosine of the decoder rows."""
    PART = 4
    """One of those this latent is composed of; share: its part of this decoder row."""
    HEDGED = 5
    """The latent nearest to a direction that this one hedges; share: signed part of it."""


ROLES: dict[str, str] = {
    "child": "of that latent's firings are holes of this one",
    "parent": "cosine of the decoder rows",
    "duplicate": "cosine of the decoder rows",
    "sibling": "cosine of the decoder rows",
    "part": "its coefficient in this decoder row",
    "hedged": "signed part of the direction",
}
"""What the share of each role measures, in the order of `Role`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Relatives:
    """Other latents that matter to each latent, one entry per relation, ordered by latent."""

    latent: Int[ndarray, " entry"]
    """Whose relative this is."""
    other: Int[ndarray, " entry"]
    """The other latent; -1 for a direction that no latent is near to."""
    role: Int[ndarray, " entry"]
    """What it is to the first, a `Role`."""
    share: Float[ndarray, " entry"]
    """How much of it; see `Role`."""

    def of(self, latent: int) -> "Relatives":
        """Those of one latent."""
        first, last = np.searchsorted(self.latent, [latent, latent + 1])
        return Relatives(
            latent=self.latent[first:last],
            other=self.other[first:last],
            role=self.role[first:last],
            share=self.share[first:last],
        )

    def __len__(self) -> int:
        return len(self.latent)


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Named columns of numbers, one row per latent, and what a page draws from."""

    tier: Tier
    """What was looked at."""
    width: int
    """Number of latents."""
    n_samples: int
    """How many activations were read; 0 for the weights alone."""
    columns: dict[str, Float[ndarray, " latent"]]
    """The evidence; NaN where a number could not be measured. `COLUMNS` defines each."""
    relatives: Relatives
    """Other latents that matter to each."""
    drawings: dict[str, ndarray] = field(default_factory=dict)
    """Arrays for drawing, one row per latent; `DRAWINGS` defines each."""
