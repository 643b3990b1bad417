"""The differentiable ends of the sparse path: encoding and decoding the selected entries."""

from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.kernels.selection import Selection
from latent_assay.kernels.triton.decoding import decode, suffix_sums
from latent_assay.kernels.triton.inverted_index import inverted_index
from latent_assay.kernels.triton.sampled import value_gradient
from latent_assay.kernels.triton.segments import weight_gradient


def sparse_decode(
    value: Float[Tensor, " entry"],
    W_dec: Float[Tensor, "member latent d_in"],
    selection: Selection,
    bounds: tuple[int, ...],
    *,
    prefix: bool = False,
) -> Float[Tensor, "group member batch d_in"]:
    """What each group of latents contributes to the reconstruction, differentiable.

    **Arguments:**
    - `value`: latent activations at the selected places.
    - `W_dec`: decoder directions.
    - `selection`: the places.
    - `bounds`: the end of each group; group g holds latents `bounds[g-1]` to `bounds[g] - 1`.
    - `prefix`: the contribution of all groups up to each, instead of its own.
    """
    flat = W_dec.reshape(-1, W_dec.shape[-1])
    out: Tensor = _Decode.apply(value, flat, selection, bounds, prefix)
    return out.view(len(bounds), selection.members, selection.batch, -1)


def selected_encode(
    x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
    W_enc: Float[Tensor, "member latent d_in"],
    bias: Float[Tensor, "member latent"],
    pre: Float[Tensor, " entry"],
    selection: Selection,
) -> Float[Tensor, " entry"]:
    """max(pre, 0) at the selected places, with gradients for encoder and bias; none for x.

    **Arguments:**
    - `x`: activations, shared by the members or one batch for each.
    - `W_enc`, `bias`: the encoder; only their gradients are computed here.
    - `pre`: pre-activations at the selected places, computed without recording gradients.
    - `selection`: the places.
    """
    out: Tensor = _Encode.apply(
        x, W_enc.reshape(-1, W_enc.shape[-1]), bias.reshape(-1), pre, selection
    )
    return out


@lru_cache(maxsize=64)
def _on(device: torch.device, bounds: tuple[int, ...]) -> Int[Tensor, " bound"]:
    """Bounds as a tensor; kept, since sending them would wait for the device."""
    return torch.tensor(bounds, device=device)


def _by_group(
    selection: Selection, bounds: tuple[int, ...]
) -> tuple[Int[Tensor, "row edge"], Int[Tensor, " entry"] | None]:
    """Where each row's groups begin and end, and the order that puts entries of a group together.

    The order is None if any does.
    """
    row_start = selection.row_start
    if len(bounds) == 1:
        return torch.stack([row_start[:-1], row_start[1:]], dim=1), None
    key, order = (selection.row * selection.width + selection.latent).sort()
    rows = torch.arange(row_start.numel() - 1, device=key.device).unsqueeze(1) * selection.width
    begin = torch.searchsorted(key, rows + _on(key.device, (0, *bounds)))
    return begin, order


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        W_dec: Tensor,
        selection: Selection,
        bounds: tuple[int, ...],
        prefix: bool,
    ) -> Tensor:
        ctx.save_for_backward(value, W_dec)
        ctx.selection, ctx.bounds, ctx.prefix = selection, bounds, prefix
        edge, order = _by_group(selection, bounds)
        column = selection.column
        if order is not None:
            value, column = value[order], column[order]
        return decode(value, column, edge, W_dec, prefix=prefix)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, W_dec = ctx.saved_tensors
        s = ctx.selection
        rows = grad.shape[1]
        if ctx.prefix and len(ctx.bounds) > 1:
            grad = suffix_sums(grad)
        grad = grad.reshape(-1, grad.shape[-1])
        row = s.row
        if len(ctx.bounds) > 1:
            # every entry reads the gradient of its own group
            row = row + rows * torch.searchsorted(
                _on(row.device, ctx.bounds), s.latent.contiguous(), right=True
            )
        grad_value = grad_W = None
        if ctx.needs_input_grad[0]:
            grad_value = value_gradient(grad, W_dec, row, s.column).to(value.dtype)
        if ctx.needs_input_grad[1]:
            index = inverted_index(s)
            grad_W, _ = weight_gradient(index, value, grad, row, dtype=W_dec.dtype)
        return grad_value, grad_W, None, None, None


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W_enc: Tensor, bias: Tensor, pre: Tensor, selection: Selection
    ) -> Tensor:
        ctx.save_for_backward(x, pre)
        ctx.selection = selection
        ctx.dtype = W_enc.dtype
        return pre.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, pre = ctx.saved_tensors
        s = ctx.selection
        grad_pre = grad * (pre > 0)
        # one batch for all members: rows of all members read the same samples
        row = s.row % s.batch if x.dim() == 2 else s.row
        source = x.reshape(-1, x.shape[-1])
        grad_W, grad_bias = weight_gradient(
            inverted_index(s), grad_pre, source, row, dtype=ctx.dtype
        )
        return None, grad_W, grad_bias, None, None
