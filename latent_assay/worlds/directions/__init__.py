"""True directions: one row for each feature, in the space that an SAE reads.

- `orthonormal`: no interference at all; needs at most as many features as dimensions.
- `superposed`: more features than dimensions, with as little interference as can be had.
- `learned`: what the ReLU output model of superposition makes of sparse data.
- `given`: your own.
"""

from latent_assay.worlds.directions.exact import given, orthonormal
from latent_assay.worlds.directions.interference import largest_interference, welch_bound
from latent_assay.worlds.directions.learned import learned
from latent_assay.worlds.directions.superposed import superposed

__all__ = [
    "given",
    "largest_interference",
    "learned",
    "orthonormal",
    "superposed",
    "welch_bound",
]
