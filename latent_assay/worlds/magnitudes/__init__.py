"""Magnitude laws: how strongly a feature fires when it fires.

- `Constant`, `Linear`: always the same for a feature; such worlds can be enumerated.
- `Normal`, `FoldedNormal`, `Uniform`, `Exponential`: drawn anew for each firing.

A parameter is a number for all features, or a sequence with one for each.
"""

from latent_assay.worlds.magnitudes.constant import Constant, Linear
from latent_assay.worlds.magnitudes.exponential import Exponential
from latent_assay.worlds.magnitudes.law import Magnitudes
from latent_assay.worlds.magnitudes.normal import FoldedNormal, Normal
from latent_assay.worlds.magnitudes.uniform import Uniform

__all__ = ["Constant", "Exponential", "FoldedNormal", "Linear", "Magnitudes", "Normal", "Uniform"]
