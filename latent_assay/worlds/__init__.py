"""Worlds whose true features are known: directions × firing × magnitudes.

    >>> import torch
    >>> from latent_assay.worlds import Constant, Hierarchy, World, directions
    >>> generator = torch.Generator().manual_seed(0)
    >>> world = World(
    ...     directions=directions.orthonormal(2, 50, generator),
    ...     firing=Hierarchy(parents=(None, 0), rates=(0.25, 0.2)),
    ...     magnitudes=Constant(value=1.0),
    ... )
    >>> world.enumerate().probability
    tensor([0.7500, 0.2000, 0.0500])

`World` and the laws are classes; `directions`, `rates` and `presets` are modules; the rest are
functions, among them the named worlds of the literature, such as `hierarchical_demo()`.
"""

from latent_assay.worlds import directions, presets, rates
from latent_assay.worlds.enumeration import Enumeration
from latent_assay.worlds.firing import (
    PATTERN_LIMIT,
    ChildSwitchesParent,
    Conditional,
    Correlation,
    Firing,
    Forest,
    GaussianCopula,
    Hierarchy,
    Independent,
    Link,
    Patterns,
    SideBySide,
    SparseFiring,
    Table,
    correlated,
    correlated_pair,
    nearest_correlation,
    random_correlation,
)
from latent_assay.worlds.magnitudes import (
    Constant,
    Exponential,
    FoldedNormal,
    Linear,
    Magnitudes,
    Normal,
    Uniform,
)
from latent_assay.worlds.presets import (
    PRESETS,
    absorption,
    balance_matryoshka,
    broken_latents,
    hedging_anticorrelated,
    hedging_copula,
    hedging_hierarchical,
    hedging_independent,
    hedging_pair,
    hedging_positive,
    hierarchical_demo,
    imperfect_absorption,
    single_latent,
    sparse_superposition,
    synth_bench,
    unbalanceable_matryoshka,
)
from latent_assay.worlds.statistics import ParentStatistics, Statistics
from latent_assay.worlds.stream import Stream
from latent_assay.worlds.world import Sample, SparseSample, World

__all__ = [
    "PATTERN_LIMIT",
    "PRESETS",
    "ChildSwitchesParent",
    "Conditional",
    "Constant",
    "Correlation",
    "Enumeration",
    "Exponential",
    "Firing",
    "FoldedNormal",
    "Forest",
    "GaussianCopula",
    "Hierarchy",
    "Independent",
    "Linear",
    "Link",
    "Magnitudes",
    "Normal",
    "ParentStatistics",
    "Patterns",
    "Sample",
    "SideBySide",
    "SparseFiring",
    "SparseSample",
    "Statistics",
    "Stream",
    "Table",
    "Uniform",
    "World",
    "absorption",
    "balance_matryoshka",
    "broken_latents",
    "correlated",
    "correlated_pair",
    "directions",
    "hedging_anticorrelated",
    "hedging_copula",
    "hedging_hierarchical",
    "hedging_independent",
    "hedging_pair",
    "hedging_positive",
    "hierarchical_demo",
    "imperfect_absorption",
    "nearest_correlation",
    "presets",
    "random_correlation",
    "rates",
    "single_latent",
    "sparse_superposition",
    "synth_bench",
    "unbalanceable_matryoshka",
]
