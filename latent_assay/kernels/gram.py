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
    else:
        c = (each @ W_dec.mT).mT
        pre = torch.baddbmm(bias.unsqueeze(1), each, W_enc.mT).mT
    z = sparsify(pre.mT).mT
    # a column of samples' weights times 2 alpha, for every member
    scale = 2 * error.view(-1, 1, 1)
    w = scale / samples if weight is None else scale * _columns(weight)
    reach = (W_dec @ b_dec.unsqueeze(-1)) - c
    gram = W_dec @ W_dec.mT
    if wide:
        dz = torch.baddbmm(reach, gram, z).mul_(w)
    else:  # the same, with samples outermost in memory like everything else
        dz = torch.baddbmm(reach.mT, z.mT, gram).mT.mul_(w)
    wz = z * w
    total = wz.sum(-1)  # [member, latent]
    decoder_pull: Tensor | None = None
    if l1 is not None:
        rate = (l1 / (2 * error)).view(-1, 1)
        if by_decoder_norm:
            norm = torch.linalg.vector_norm(W_dec, dim=-1)
            dz += (rate * norm).unsqueeze(-1) * w
            # a row of length zero has no direction to be pulled along
            decoder_pull = torch.where(norm > 0, rate * total / norm, 0.0)
        else:
            dz += rate.unsqueeze(-1) * w
    dz *= z.sign()  # no gradient where nothing fires; several times faster than a mask
    if wide:
        written_enc, written_dec = (torch.cat([dz, wz]).view(-1, samples) @ x).view(
            2, members, width, d_in
        )
    else:
        written_enc, written_dec = dz @ each, wz @ each
    db_enc = dz.sum(-1)
    co_firing = wz @ z.mT
    if decoder_pull is not None:
        co_firing.diagonal(dim1=-2, dim2=-1).add_(decoder_pull)
    dW_dec = torch.baddbmm(written_dec, co_firing, W_dec, beta=-1)
    dW_dec.addcmul_(total.unsqueeze(-1), b_dec.unsqueeze(1))
    mass = w.expand(members, 1, samples)
    seen = mass.squeeze(1) @ x if shared else (mass @ x).squeeze(1)
    db_dec = torch.baddbmm(seen.unsqueeze(1), total.unsqueeze(1), W_dec, beta=-1).squeeze(1)
    db_dec.addcmul_(mass.sum(-1), b_dec)
    if subtract_b_dec:
        db_dec -= (db_enc.unsqueeze(1) @ W_enc).squeeze(1)
        written_enc.addcmul_(db_enc.unsqueeze(-1), b_dec.unsqueeze(1), value=-1)
    return GramGradients(
        pre=pre,
        z=z,
        fired=total > 0,
        W_enc=written_enc,
        W_dec=dW_dec,
        b_enc=db_enc,
        b_dec=db_dec,
    )


def _columns(weight: Float[Tensor, "*lead batch"]) -> Float[Tensor, "member_or_one 1 batch"]:
    return weight.view(1, 1, -1) if weight.dim() == 1 else weight.unsqueeze(1)
