r"""Gradients of a large SAE's squared errors by hand, through the firing latents only.

Automatic differentiation copies and adds whole gradient matrices where terms meet. Here every
gradient is written once. The nested reconstructions of a matryoshka SAE come from one sparse
product: the entries of a sample that belong to different levels are given rows of their own,

$$E_{b,m} = b_{dec} - x_b + \sum_{l \le m} \sum_{j \in l} z_{bj} d_j, \qquad
  G_{b,l} = \sum_{m \ge l} 2 \alpha_m w_b E_{b,m},$$

and the same rows read the gradients back: $\partial / \partial z_{bj} = G_{b,l(j)} \cdot d_j$.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.kernels.selection import Selection, is_largest, rows_at
from latent_assay.kernels.sparse import compressed
from latent_assay.kernels.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Rescue:
    """Latents that learn to reconstruct what the others leave over; see `losses.AuxK`."""

    order: Int[Tensor, "member some"]
    """Their indices."""
    hidden: Bool[Tensor, "member some"]
    """Which of these are there only because another member has more."""
    k: int | None
    """How many of them may fire for a sample; None: all."""
    coefficient: Float[Tensor, " member"]
    """What the squared error that they leave counts."""


@dataclass(frozen=True, kw_only=True)
class SparseGradients:
    """The gradients of a step."""

    W_enc: Float[Tensor, "member latent d_in"]
    """Of the encoder."""
    W_dec: Float[Tensor, "member latent d_in"]
    """Of the decoder."""
    b_enc: Float[Tensor, "member latent"]
    """Of the encoder's bias."""
    b_dec: Float[Tensor, "member d_in"]
    """Of the decoder's bias."""


@torch.no_grad()
def sparse_gradients(
    x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
    weight: Float[Tensor, "*lead batch"] | None,
    *,
    W_enc: Float[Tensor, "member latent d_in"],
    W_dec: Float[Tensor, "member latent d_in"],
    b_dec: Float[Tensor, "member d_in"],
    subtract_b_dec: bool,
    pre: Float[Tensor, "member batch latent"],
    selection: Selection,
    value: Float[Tensor, " entry"],
    bounds: Sequence[int],
    error: Float[Tensor, "member level"],
    detached: bool = False,
    rescue: Rescue | None = None,
    memory: tuple[Workspace, Workspace] | None = None,
) -> SparseGradients:
    r"""Gradients of $\sum_m \alpha_m \sum_b w_b \|x_b - \hat x_{b,m}\|^2$, and of AuxK.

    **Arguments:**
    - `x`: activations, one batch shared by all members or one for each.
    - `weight`: $w_b$, for all members or for each; None means one over the batch size.
    - `W_enc`, `W_dec`, `b_dec`, `subtract_b_dec`: the SAE.
    - `pre`: pre-activations.
    - `selection`, `value`: the latents that may fire, and $\max(pre, 0)$ there.
    - `bounds`: where levels end, the last at the SAE's width; one level is a plain SAE.
    - `error`: $\alpha_m$.
    - `detached`: whether a level sees earlier latents as constants (see `losses.Matryoshka`).
    - `rescue`: AuxK, if it has anything to do.
    - `memory`: where the gradients of encoder and decoder are written, over what was there.
    """
    members, width, d_in = W_enc.shape
    batch = x.shape[-2]
    levels = len(bounds)
    total = members * width
    if weight is None:
        share = torch.full((1, 1), 1 / batch, dtype=x.dtype, device=x.device)
    else:
        share = weight if weight.dim() == 2 else weight.unsqueeze(0)

    row, column = _rows_by_level(selection, bounds)
    rows = members * batch * levels
    row_start = torch.zeros(rows + 1, dtype=torch.int64, device=x.device)
    row_start[1:] = torch.bincount(row, minlength=rows).cumsum(0)
    decoder = W_dec.reshape(total, d_in)
    off = compressed(row_start, column, value, (rows, total)) @ decoder
    off = off.view(members, batch, levels, d_in)
    off[:, :, 0].add_(b_dec.unsqueeze(1)).sub_(x)
    for level in range(1, levels):
        off[:, :, level].add_(off[:, :, level - 1])
    missed = off[:, :, -1].clone() if rescue is not None else None
    off.mul_((2 * error).view(members, 1, levels, 1) * share.unsqueeze(-1).unsqueeze(-1))
    b_dec_grad = off.sum((1, 2)) if detached or levels == 1 else None
    if not detached:
        for level in range(levels - 2, -1, -1):
            off[:, :, level].add_(off[:, :, level + 1])
    if b_dec_grad is None:  # the first level's rows now hold the sum over levels
        b_dec_grad = off[:, :, 0].sum(1)
    flat = off.view(rows, d_in)

    places = compressed(row_start, column, torch.zeros_like(value), (rows, total))
    back = torch.sparse.sampled_addmm(places, flat, decoder.mT, beta=0.0).values()
    back = back * (value > 0)
    order, start = selection.by_column
    in_order = row[order]
    room_enc, room_dec = memory or (Workspace(), Workspace())
    W_dec_grad = _product(compressed(start, in_order, value[order], (total, rows)), flat, room_dec)
    b_enc_grad = torch.zeros(total, dtype=x.dtype, device=x.device).index_add_(0, column, back)
    centred = x - b_dec.unsqueeze(1) if subtract_b_dec else x
    sample = torch.div(in_order, levels, rounding_mode="floor")
    if centred.dim() == 2:
        sample, seen = sample % batch, centred
    else:
        seen = centred.reshape(members * batch, d_in)
    by_latent = compressed(start, sample, back[order], (total, len(seen)))
    W_enc_grad = _product(by_latent, seen, room_enc)

    W_enc_grad, W_dec_grad = W_enc_grad.view_as(W_enc), W_dec_grad.view_as(W_dec)
    b_enc_grad = b_enc_grad.view(members, width)
    if rescue is not None and missed is not None:
        _add_rescue(rescue, missed, share, centred, pre, W_dec, W_enc_grad, W_dec_grad, b_enc_grad)
    if subtract_b_dec:
        b_dec_grad = b_dec_grad - (b_enc_grad.unsqueeze(1) @ W_enc).squeeze(1)
    return SparseGradients(W_enc=W_enc_grad, W_dec=W_dec_grad, b_enc=b_enc_grad, b_dec=b_dec_grad)


def _product(
    sparse: Tensor, dense: Float[Tensor, "row d_in"], memory: Workspace
) -> Float[Tensor, "column d_in"]:
    out = memory.room((sparse.shape[0], dense.shape[1]), dense)
    return torch.addmm(out, sparse, dense, beta=0.0, out=out)


def _rows_by_level(
    selection: Selection, bounds: Sequence[int]
) -> tuple[Int[Tensor, " entry"], Int[Tensor, " entry"]]:
    """The row `(member, sample, level)` and the column of each entry, rows rising."""
    if len(bounds) == 1:
        return selection.row, selection.column
    ends = torch.tensor(bounds, device=selection.column.device)
    level = torch.bucketize(selection.latent, ends, right=True)
    return selection.row * len(bounds) + level, selection.column


def _add_rescue(
    rescue: Rescue,
    missed: Float[Tensor, "member batch d_in"],
    share: Float[Tensor, "member_or_one batch_or_one"],
    centred: Tensor,
    pre: Float[Tensor, "member batch latent"],
    W_dec: Float[Tensor, "member latent d_in"],
    W_enc_grad: Float[Tensor, "member latent d_in"],
    W_dec_grad: Float[Tensor, "member latent d_in"],
    b_enc_grad: Float[Tensor, "member latent"],
) -> None:
    r"""Add the gradients of $c \sum_b w_b \|e_b - \hat e_b\|^2$ to those of the latents' rows.

    `missed` is $-e$ and is overwritten.
    """
    members, width, d_in = W_dec.shape
    order = rescue.order
    z = torch.stack([each.index_select(1, rows) for each, rows in zip(pre, order, strict=True)])
    z = z.relu_().masked_fill_(rescue.hidden.unsqueeze(1), 0.0)
    if rescue.k is not None:
        z = z.mul_(is_largest(z, rescue.k))
    directions = rows_at(W_dec, order)
    left = missed.baddbmm_(z, directions)
    left.mul_((2 * rescue.coefficient).view(-1, 1, 1) * share.unsqueeze(-1))
    back = torch.ops.aten.threshold_backward(left @ directions.mT, z, 0.0)
    places = (order + torch.arange(members, device=order.device).unsqueeze(-1) * width).flatten()
    for gradient, found in (
        (W_dec_grad, z.mT @ left),
        (W_enc_grad, back.mT @ centred),
    ):
        gradient.view(-1, d_in).index_add_(0, places, found.reshape(-1, d_in))
    b_enc_grad.view(-1).index_add_(0, places, back.sum(1).flatten())
