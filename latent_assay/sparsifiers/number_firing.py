"""k, the number of firing latents, of each member."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.sparsifiers.sparsifier import PerMember


def k_by_member(value: PerMember, members: int) -> Float[Tensor, " member"]:
    """One value for each member."""
    values = [float(value)] * members if isinstance(value, int | float) else [*map(float, value)]
    if not values or not all(math.isfinite(each) and each > 0 for each in values):
        raise ConfigError(f"k must be positive, got {value!r}.")
    return torch.tensor(values, dtype=torch.float64)


def check_k(k: Tensor, width: int) -> None:
    """Raise `ConfigError` if k exceeds the width."""
    if float(k.max()) > width:
        raise ConfigError(
            f"k is {float(k.max()):g} but the SAE has only {width} latents; choose k below the "
            "width."
        )
