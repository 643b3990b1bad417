"""What a batch of samples must look like before anything is measured on it."""

import torch
from jaxtyping import Bool, Float, Float64, Real
from torch import Tensor

from latent_assay.errors import DataError, ShapeError


def readable(tensor: Tensor) -> Tensor:
    """The same values without a gradient, on a device that has float64."""
    tensor = tensor.detach()
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def shape_of(tensor: Tensor) -> str:
    """A tensor's shape as it is written in messages."""
    return str(list(tensor.shape))


def per_member(tensor: Float[Tensor, "..."], name: str, last: str) -> Float[Tensor, "..."]:
    """A tensor that must have a member axis, or a `ShapeError` that says how to add one."""
    if tensor.dim() != 3:
        raise ShapeError(
            f"`{name}` has shape {shape_of(tensor)}; expected [member, batch, {last}]. "
            f"A single SAE is one member: pass `{name}[None]`."
        )
    return readable(tensor)


def shared_or_per_member(
    tensor: Real[Tensor, "..."] | Bool[Tensor, "..."],
    name: str,
    last: str,
    *,
    members: int,
    batch: int,
    beside: str,
    size: int | None = None,
) -> Real[Tensor, "lead batch last"] | Bool[Tensor, "lead batch last"]:
    """A tensor with or without member axis, as [1 or member, batch, last].

    **Raises:** `ShapeError` if it does not go with the tensor named `beside`.
    """
    fits = (
        tensor.dim() in (2, 3)
        and tensor.shape[-2] == batch
        and (tensor.dim() == 2 or tensor.shape[0] == members)
        and size in (None, tensor.shape[-1])
    )
    if not fits:
        raise ShapeError(
            f"`{name}` has shape {shape_of(tensor)}; expected [{batch}, {last}], or "
            f"[{members}, {batch}, {last}] with a member axis, to go with `{beside}`. "
            "Both must come from the same samples in the same order."
        )
    tensor = readable(tensor)
    return tensor if tensor.dim() == 3 else tensor[None]


def weighted(
    weight: Real[Tensor, "..."] | None, *tensors: Tensor
) -> tuple[Float64[Tensor, " kept"], tuple[Tensor, ...]]:
    """Float64 weights, and the tensors, without the samples of weight 0.

    Dropping those samples makes "not seen" literal: they do not count in `n`, do not set a maximum,
    and what they contain cannot reach a sum.

    **Arguments:**
    - `weight`: one per sample; ones if None.
    - `tensors`: of shape [lead, batch, last], already checked to have one batch size.

    **Raises:** `ShapeError` if there is not one weight per sample; `DataError` if one is negative
    or not finite.
    """
    batch, device = tensors[0].shape[1], tensors[0].device
    if weight is None:
        return torch.ones(batch, dtype=torch.float64, device=device), tensors
    if weight.shape != (batch,):
        raise ShapeError(
            f"`weight` has shape {shape_of(weight)}; expected one weight per sample, [{batch}]. "
            "Weights are shared by all members."
        )
    weight = readable(weight).to(device=device, dtype=torch.float64)
    if not bool(((weight >= 0) & weight.isfinite()).all()):
        raise DataError(
            "`weight` must be finite and at least 0, like a probability or a number of "
            f"repetitions; received values from {weight.min().item()} to {weight.max().item()}."
        )
    keep = weight > 0
    if not bool(keep.all()):
        weight, tensors = weight[keep], tuple(tensor[:, keep] for tensor in tensors)
    return weight, tensors


def existing(
    mask: Tensor | None, shape: tuple[int, ...], device: torch.device, name: str = "mask"
) -> Tensor:
    """Which latents exist: all of them without a mask. False marks the padding of narrow members.

    **Raises:** `ShapeError` if the mask is not a Boolean for every latent; `DataError` if some
    member has no latent at all.
    """
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    if tuple(mask.shape) != tuple(shape) or mask.dtype != torch.bool:
        raise ShapeError(
            f"`{name}` is {mask.dtype} of shape {shape_of(mask)}; expected torch.bool of shape "
            f"{list(shape)}, True where a latent exists and False where it only pads the width."
        )
    mask = readable(mask).to(device)
    if not bool(mask.any(dim=-1).all()):
        raise DataError(
            f"`{name}` leaves some member without a single latent; expected at least one True in "
            "every row."
        )
    return mask
