"""The best decoder for given states, by brute force, without any of the theory."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.worlds import Enumeration


def least_squares(
    enumeration: Enumeration, tracked: Sequence[int]
) -> tuple[Float64[Tensor, "latent feature"], Float64[Tensor, " feature"]]:
    """The decoder and bias of least expected error for an oracle encoder, by brute force."""
    root = enumeration.probability.double().sqrt().unsqueeze(-1)
    magnitudes = enumeration.magnitudes.double()
    z = torch.cat([torch.ones_like(root), magnitudes[:, list(tracked)]], dim=1)
    found = torch.linalg.lstsq(root * z, root * magnitudes).solution
    return found[1:], found[0]


def scaled(enumeration: Enumeration, magnitudes: Sequence[float]) -> Enumeration:
    """The same states with other magnitudes, features along the axes."""
    values = enumeration.firing * torch.tensor(magnitudes, dtype=torch.float64)
    return Enumeration(
        firing=enumeration.firing,
        magnitudes=values,
        x=values,
        probability=enumeration.probability,
    )
