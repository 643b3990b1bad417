"""Firing laws: which features fire together, and how often.

- `Independent`: each feature on its own.
- `Hierarchy`: the parent gates the child. `ChildSwitchesParent`: the child switches the parent on.
- `Conditional`: P(j | i) and P(j | not i), pair by pair.
- `GaussianCopula`: correlated, from a `Correlation` in full or of low rank.
- `correlated_pair`, `correlated`: with a wanted correlation of the firing itself.
- `Table`: any finite law, pattern by pattern.
- `SideBySide`: several of these at once.
"""

from latent_assay.worlds.firing.binary import correlated, correlated_pair
from latent_assay.worlds.firing.conditional import Conditional, Link
from latent_assay.worlds.firing.copula import GaussianCopula
from latent_assay.worlds.firing.correlation import (
    Correlation,
    nearest_correlation,
    random_correlation,
)
from latent_assay.worlds.firing.forest import Forest
from latent_assay.worlds.firing.hierarchy import Hierarchy
from latent_assay.worlds.firing.independent import Independent
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.firing.patterns import PATTERN_LIMIT, Patterns
from latent_assay.worlds.firing.side_by_side import SideBySide
from latent_assay.worlds.firing.sparse import SparseFiring
from latent_assay.worlds.firing.switches import ChildSwitchesParent
from latent_assay.worlds.firing.table import Table

__all__ = [
    "PATTERN_LIMIT",
    "ChildSwitchesParent",
    "Conditional",
    "Correlation",
    "Firing",
    "Forest",
    "GaussianCopula",
    "Hierarchy",
    "Independent",
    "Link",
    "Patterns",
    "SideBySide",
    "SparseFiring",
    "Table",
    "correlated",
    "correlated_pair",
    "nearest_correlation",
    "random_correlation",
]
