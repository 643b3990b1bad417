"""Random numbers, random entries, and how far sums of so many terms may lie apart."""

import torch
from torch import Tensor

from latent_assay.kernels import Selection


def draw(*shape: int, seed: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)


def entries(
    members: int, batch: int, width: int, *, share: float, seed: int, device: torch.device
) -> Selection:
    """A selection in which each latent fires with a probability; some rows stay empty."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(members, batch, width, generator=generator) < share
    return of_mask(mask, device)


def of_mask(mask: Tensor, device: torch.device) -> Selection:
    members, batch, width = mask.shape
    row_start = torch.zeros(members * batch + 1, dtype=torch.int64)
    row_start[1:] = mask.sum(-1).flatten().cumsum(0)
    member, _, latent = mask.nonzero(as_tuple=True)
    return Selection(
        members=members,
        batch=batch,
        width=width,
        row_start=row_start.to(device),
        column=(member * width + latent).to(device),
    )


def close(found: Tensor, exact: Tensor, size: Tensor, inputs: torch.dtype) -> None:
    """Hold a result against the same sum in float64.

    Inputs are taken as they are, so that only two roundings remain: float32 sums err by at most the
    number of terms times 6e-8 times the sum of the terms' sizes (300 terms at most here), and the
    result is rounded to its own type.
    """
    assert found.shape == exact.shape
    allowed = 300 * 6e-8 * size.double() + torch.finfo(found.dtype).eps * exact.abs() + 1e-30
    wrong = (found.double() - exact).abs() - allowed
    assert not wrong.numel() or float(wrong.max()) <= 0, (inputs, float(wrong.max()))
