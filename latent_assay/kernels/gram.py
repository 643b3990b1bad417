r"""Gradients of small ensembles by hand, without ever forming a reconstruction.

Where an SAE has fewer latents than dimensions, its squared error needs the dimensions only through
inner products. With $a = W_{enc} x$, $c = W_{dec} x$, the Gram matrix $G = W_{dec} W_{dec}^\top$
and $z = \sigma(a + bias)$,

$$d_j \cdot (\hat x - x) = (G z)_j + d_j \cdot b_{dec} - c_j,$$

so that all members together read a shared batch in one wide product and write their gradients in
another. Between the two everything has the size of the latents. Latents come before samples here,
`[member, latent, batch]`, as those products leave them; a sparsifier sees the transposed view.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GramGradients:
    """What a step needs to know of a batch."""

    pre: Float[Tensor, "member latent batch"]
    """Pre-activations."""
    z: Float[Tensor, "member latent batch"]
    """Latent activations."""
    fired: Bool[Tensor, "member latent"]
    """Whether each latent fired; samples of weight 0 do not count."""
    W_enc: Float[Tensor, "member latent d_in"]
    """Gradient of the encoder."""
    W_dec: Float[Tensor, "member latent d_in"]
    """Gradient of the decoder."""
    b_enc: Float[Tensor, "member latent"]
    """Gradient of the encoder's bias."""
    b_dec: Float[Tensor, "member d_in"]
    """Gradient of the decoder's bias."""


@torch.no_grad()
def gram_gradients(
    x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
    weight: Float[Tensor, "*lead batch"] | None,
    *,
    W_enc: Float[Tensor, "member latent d_in"],
    W_dec: Float[Tensor, "member latent d_in"],
    b_enc: Float[Tensor, "member latent"],
    b_dec: Float[Tensor, "member d_in"],
    subtract_b_dec: bool,
    sparsify: Callable[
        [Float[Tensor, "member batch latent"]], Float[Tensor, "member batch latent"]
    ],
    by_sample: bool = False,
    error: Float[Tensor, " member"],
    l1: Float[Tensor, " member"] | None = None,
    by_decoder_norm: bool = True,
) -> GramGradients:
    r"""Gradients of a weighted squared error with an L1 penalty.

    $$\alpha \sum_b w_b \|x_b - \hat x_b\|^2 + \lambda \sum_b w_b \sum_j z_{bj} \|d_j\|$$

    **Arguments:**
    - `x`: activations, one batch shared by all members or one for each.
    - `weight`: $w_b$, for all members or for each; None means one over the batch size.
    - `W_enc`, `W_dec`, `b_enc`, `b_dec`, `subtract_b_dec`: the SAE.
    - `sparsify`: the sparsifier; where it is positive it must return what it was given, and zero
      elsewhere.
    - `by_sample`: whether pre-activations are a product of their own, rounded as the plain formula
      rounds them, so that equal samples stay equal to the last bit.
    - `error`: $\alpha$ of each member.
    - `l1`: $\lambda$ of each member; None without a penalty.
    - `by_decoder_norm`: whether $\|d_j\|$ is in the penalty.
    """
    members, width, d_in = W_enc.shape
    shared = x.dim() == 2
    samples = x.shape[-2]
    bias = b_enc
    if subtract_b_dec:
        bias = torch.baddbmm(b_enc.unsqueeze(-1), W_enc, b_dec.unsqueeze(-1), alpha=-1).squeeze(-1)
    each = x.expand(members, -1, -1)
    wide = shared and not by_sample
    if wide:
        read = torch.cat([W_dec, W_enc]).view(-1, d_in) @ x.mT
        c, a = read.view(2, members, width, samples)
        pre = a.add_(bias.unsqueeze(-1))
    else:  # samples outermost in memory, here and below
        c = (each @ W_dec.mT).mT
        pre = torch.baddbmm(bias.unsqueeze(1), each, W_enc.mT).mT
    z = sparsify(pre.mT).mT
    gram = W_dec @ W_dec.mT
    if wide:
        dz = c.baddbmm_(gram, z, beta=-1)
    else:
        dz = c.mT.baddbmm_(z.mT, gram, beta=-1).mT
    column = (W_dec @ b_dec.unsqueeze(-1)).squeeze(-1)
    if l1 is not None:
        rate = (l1 / (2 * error)).view(-1, 1)
        norm = torch.linalg.vector_norm(W_dec, dim=-1)
        column = column + (rate * norm if by_decoder_norm else rate)
    dz += column.unsqueeze(-1)
    # no gradient where nothing fires; the derivative of ReLU is several times faster than a mask
    dz = torch.ops.aten.threshold_backward(dz, z, 0.0)
    zw = z
    if weight is not None:
        w = weight.view(1, 1, -1) if weight.dim() == 1 else weight.unsqueeze(1)
        dz.mul_(w)
        zw = z * w
    if wide:
        stacked = torch.cat([dz, zw]).view(-1, samples)
        dW_enc, read_dec = (stacked @ x).view(2, members, width, d_in)
    else:
        dW_enc, read_dec = dz @ each, zw @ each
    db_enc = dz.sum(-1)
    total = zw.sum(-1)
    co_firing = zw @ z.mT
    if l1 is not None and by_decoder_norm:
        # a row of length zero has no direction to be pulled along
        pull = torch.where(norm > 0, rate * total / norm, 0.0)
        co_firing.diagonal(dim1=-2, dim2=-1).add_(pull)
    dW_dec = torch.baddbmm(read_dec, co_firing, W_dec, beta=-1)
    dW_dec.addcmul_(total.unsqueeze(-1), b_dec.unsqueeze(1))
    seen = x.sum(-2) if weight is None else (weight.unsqueeze(-2) @ x).squeeze(-2)
    mass: Tensor | int = samples if weight is None else weight.sum(-1, keepdim=True)
    db_dec = (total.unsqueeze(1) @ W_dec).squeeze(1).sub_(seen).add_(mass * b_dec)
    if subtract_b_dec:
        db_dec -= (db_enc.unsqueeze(1) @ W_enc).squeeze(1)
        dW_enc.addcmul_(db_enc.unsqueeze(-1), b_dec.unsqueeze(1), value=-1)
    # the factor of the error, and of the mean if no weights make it
    scale = (2 * error / (samples if weight is None else 1)).view(-1, 1)
    for gradient in (dW_enc, dW_dec):
        gradient.mul_(scale.unsqueeze(-1))
    for gradient in (db_enc, db_dec):
        gradient.mul_(scale)
    return GramGradients(
        pre=pre,
        z=z,
        fired=total > 0,
        W_enc=dW_enc,
        W_dec=dW_dec,
        b_enc=db_enc,
        b_dec=db_dec,
    )
