"""Encoding and decoding through the firing latents only.

Of the six large products of an SAE's step (encode, decode and four gradients) only the encoder's
has to be dense: the others involve few firing latents per sample. They run here as products with
a matrix in compressed rows.
"""

import warnings
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from latent_assay.kernels import triton
from latent_assay.kernels.dispatch import uses_triton
from latent_assay.kernels.selection import Selection, by_column

with warnings.catch_warnings():
    # torch announces once per process that compressed rows are in beta; said here, to nobody
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1))


class SparseLatents:
    """Latent activations of which only the firing ones are held.

    Equal, to the rounding of sums, to the dense tensor that `dense` returns, and differentiable.
    """

    def __init__(self, selection: Selection, value: Float[Tensor, " entry"]):
        self.selection = selection
        self.value = value

    def dense(self) -> Float[Tensor, "member batch latent"]:
        """The same activations as a dense tensor."""
        s = self.selection
        flat = self.value.new_zeros(s.members * s.batch * s.width)
        flat = flat.index_put((s.row * s.width + s.latent,), self.value)
        return flat.view(s.members, s.batch, s.width)

    def fired(
        self, weight: Float[Tensor, "*lead batch"] | None = None
    ) -> Bool[Tensor, "member latent"]:
        """Whether each latent fired for at least one sample; samples of weight 0 do not count."""
        s = self.selection
        firing = self.value.detach() != 0
        if weight is not None:
            firing = firing & self._of_rows(weight > 0)
        # a sum rather than an assignment: entries of value zero must not overwrite a firing
        count = torch.zeros(s.members * s.width, device=self.value.device)
        count.index_add_(0, s.column, firing.to(count.dtype))
        return count.view(s.members, s.width) > 0

    def l0(self, weight: Float[Tensor, "*lead batch"] | None = None) -> Float[Tensor, " member"]:
        """Mean number of firing latents per sample."""
        s = self.selection
        firing = (self.value.detach() != 0).to(torch.float64)
        if weight is not None:
            firing = firing * self._of_rows(weight * s.batch)
        count = torch.zeros(s.members, dtype=torch.float64, device=self.value.device)
        return count.index_add_(0, s.column // s.width, firing) / s.batch

    def _of_rows(self, weight: Shaped[Tensor, "*lead batch"]) -> Shaped[Tensor, " entry"]:
        """The weight of the sample that each entry belongs to."""
        s = self.selection
        return weight[s.row % s.batch] if weight.dim() == 1 else weight.flatten()[s.row]

    def decode(
        self, W_dec: Float[Tensor, "member latent d_in"], bounds: tuple[int, ...]
    ) -> list[Float[Tensor, "member batch d_in"]]:
        """What each group of latents contributes to the reconstruction.

        **Arguments:**
        - `W_dec`: decoder directions.
        - `bounds`: the end of each group; group g holds latents `bounds[g-1]` to `bounds[g] - 1`.
        """
        s = self.selection
        if uses_triton(W_dec):
            return list(triton.sparse_decode(self.value, W_dec, s, bounds).unbind(0))
        flat = W_dec.reshape(s.members * s.width, -1)
        shape = (s.members, s.batch, W_dec.shape[-1])
        if bounds == (s.width,):
            product = _SparseDecode.apply(self.value, flat, s.row_start, s.column, s)
            return [product.view(shape)]
        row, latent = s.row, s.latent
        parts, start = [], 0
        for end in bounds:
            inside = ((latent >= start) & (latent < end)).nonzero().squeeze(-1)
            row_start = torch.zeros_like(s.row_start)
            row_start[1:] = torch.bincount(row[inside], minlength=len(s.row_start) - 1).cumsum(0)
            product = _SparseDecode.apply(
                self.value[inside], flat, row_start, s.column[inside], None
            )
            parts.append(product.view(shape))
            start = end
        return parts


def sparse_latents(
    x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
    W_enc: Float[Tensor, "member latent d_in"],
    bias: Float[Tensor, "member latent"],
    pre: Float[Tensor, "member batch latent"],
    selection: Selection,
) -> SparseLatents:
    """Latent activations max(pre, 0) at the selected places, with gradients for those places only.

    **Arguments:**
    - `x`: activations, shared by the members or one batch for each.
    - `W_enc`, `bias`: the encoder; `pre = W_enc x + bias`.
    - `pre`: that product, already computed without recording gradients.
    - `selection`: the entries that may fire.
    """
    if uses_triton(W_enc):
        entries = triton.selected_encode(x, W_enc, bias, selection.gather(pre), selection)
        return SparseLatents(selection, entries)
    value = _SelectedEncode.apply(
        x,
        W_enc.reshape(-1, W_enc.shape[-1]),
        bias.reshape(-1),
        selection.gather(pre),
        selection,
    )
    return SparseLatents(selection, value)


def _transposed(
    value: Float[Tensor, " entry"],
    row: Int[Tensor, " entry"],
    rows: int,
    ordered: tuple[Int[Tensor, " entry"], Int[Tensor, " column_plus_one"]],
) -> Tensor:
    """The transposed matrix in compressed rows, given its entries in the order of columns."""
    order, start = ordered
    return compressed(start, row[order], value[order], (start.numel() - 1, rows))


def compressed(
    row_start: Int[Tensor, " row_plus_one"],
    column: Int[Tensor, " entry"],
    value: Float[Tensor, " entry"],
    shape: tuple[int, int],
) -> Tensor:
    """A matrix in compressed rows."""
    return torch.sparse_csr_tensor(row_start, column, value, shape, check_invariants=False)


class _SelectedEncode(torch.autograd.Function):
    """max(pre, 0) at selected places; backward through the encoder at those places only."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W_enc: Tensor, bias: Tensor, pre: Tensor, selection: Selection
    ) -> Tensor:
        ctx.selection = selection
        ctx.save_for_backward(x, pre)
        ctx.width_flat = W_enc.shape[0]
        return pre.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, pre = ctx.saved_tensors
        s = ctx.selection
        grad_pre = grad * (pre > 0)
        grad_bias = torch.zeros(ctx.width_flat, dtype=grad.dtype, device=grad.device)
        grad_bias.index_add_(0, s.column, grad_pre)
        row = s.row
        if x.dim() == 2:  # one batch for all members: rows of all members read the same samples
            by_latent = _transposed(grad_pre, row % s.batch, s.batch, s.by_column)
            grad_W = by_latent @ x
        else:
            rows = s.members * s.batch
            by_latent = _transposed(grad_pre, row, rows, s.by_column)
            grad_W = by_latent @ x.reshape(rows, -1)
        return None, grad_W, grad_bias, None, None


class _SparseDecode(torch.autograd.Function):
    """The product of a matrix in compressed rows with the decoder."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        W_dec: Tensor,
        row_start: Tensor,
        column: Tensor,
        selection: Selection | None,
    ) -> Tensor:
        ctx.selection = selection
        ctx.save_for_backward(value, W_dec, row_start, column)
        shape = (row_start.numel() - 1, W_dec.shape[0])
        return compressed(row_start, column, value, shape) @ W_dec

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, W_dec, row_start, column = ctx.saved_tensors
        shape = (row_start.numel() - 1, W_dec.shape[0])
        grad = grad.contiguous()
        places = compressed(row_start, column, torch.zeros_like(value), shape)
        grad_value = torch.sparse.sampled_addmm(places, grad, W_dec.mT, beta=0.0).values()
        row = torch.repeat_interleave(
            torch.arange(shape[0], device=column.device),
            row_start.diff(),
            output_size=column.numel(),
        )
        whole = ctx.selection
        ordered = by_column(column, shape[1]) if whole is None else whole.by_column
        grad_W = _transposed(value, row, shape[0], ordered) @ grad
        return grad_value, grad_W, None, None, None
