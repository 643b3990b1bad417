r"""Normalised inputs: what can be folded into an SAE's weights, so that it takes raw activations.

An SAE that was trained on $u = (x - m) M$ reads $x$ once the affine map and its inverse are folded:

$$W_{enc}' = W_{enc} M^\top, \quad W_{dec}' = W_{dec} M^{-1}, \quad b_{dec}' = b_{dec} M^{-1} + m$$

(rows are latents; $b_{enc}' = b_{enc} - m\,W_{enc}'^\top$ where the encoder does not subtract
$b_{dec}$). Normalisations that divide each sample by its own length or deviation are no affine map:
an SAE on them is another function, which no choice of weights can make.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from latent_assay.formats.reading import Formula
from latent_assay.sae import SAE


@dataclass(frozen=True, kw_only=True)
class Scaling:
    r"""$u = s\,x$."""

    factor: float
    """$s$."""

    def folded(self, sae: SAE, unit_rows: bool) -> SAE:
        """The SAE for raw activations.

        Latent activations stay as they were, except where they are measured in units of the
        reconstruction (`unit_rows`): those become units of the raw activation.
        """
        if unit_rows:
            return sae.rescaled(self.factor).eval()
        return _rebuilt(
            sae,
            W_enc=sae.W_enc.data * self.factor,
            W_dec=sae.W_dec.data / self.factor,
            b_enc=sae.b_enc.data,
            b_dec=sae.b_dec.data / self.factor,
        )

    def formula(self, inner: Formula, unit_rows: bool) -> Formula:
        """The format's formula, with scaling before and after."""

        def outer(x: Tensor) -> tuple[Tensor, Tensor]:
            z, x_hat = inner(x * self.factor)
            return (z / self.factor if unit_rows else z), x_hat / self.factor

        return outer


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """$u = (x - m) M$."""

    mean: Tensor
    """$m$, `[d_in]`, in float64."""
    matrix: Tensor
    """$M$, `[d_in, d_in]`, in float64."""
    inverse: Tensor
    """$M^{-1}$, `[d_in, d_in]`, in float64."""

    def folded(self, sae: SAE, unit_rows: bool) -> SAE:
        """The SAE for raw activations; latent activations stay as they were."""
        W_enc = sae.W_enc.data.double() @ self.matrix.T
        b_enc = sae.b_enc.data.double()
        if not sae.subtract_b_dec:
            b_enc = b_enc - W_enc @ self.mean
        return _rebuilt(
            sae,
            W_enc=W_enc,
            W_dec=sae.W_dec.data.double() @ self.inverse,
            b_enc=b_enc,
            b_dec=sae.b_dec.data.double() @ self.inverse + self.mean,
        )

    def formula(self, inner: Formula, unit_rows: bool) -> Formula:
        """The format's formula, with whitening before and its inverse after."""

        def outer(x: Tensor) -> tuple[Tensor, Tensor]:
            z, u_hat = inner((x - self.mean) @ self.matrix)
            return z, u_hat @ self.inverse + self.mean

        return outer


def _rebuilt(sae: SAE, W_enc: Tensor, W_dec: Tensor, b_enc: Tensor, b_dec: Tensor) -> SAE:
    """An untied SAE with other weights, all of them in the type that it had."""
    dtype = sae.W_enc.dtype
    with torch.no_grad():
        return SAE(
            W_enc.to(dtype),
            W_dec.to(dtype),
            b_enc=b_enc.to(dtype),
            b_dec=b_dec.to(dtype),
            sparsifier=sae.sparsifier,
            frozen=sae.frozen,
            subtract_b_dec=sae.subtract_b_dec,
        ).eval()
