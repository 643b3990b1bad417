r"""Directions of features that no latent stands for, as the residuals show them.

A feature without a latent is present in few residuals and absent from most, so along its direction
they are skewed. With residuals whitened, $\tilde e = W (e - \bar e)$, the fixed points of

$$w \leftarrow \frac{\sum_s \tilde e_s (\tilde e_s \cdot w)^2}{\| \cdot \|}$$

are directions of largest skewness (independent components). The search begins, for each latent, at
its own decoder row, and so ends at the feature of which the row carries most.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

_STEPS = 15
_COMPONENTS = 256
_LEAST = 1e-3
_CHUNK = 2048


@torch.no_grad()
def residual_sources(
    residual: Float[Tensor, "sample d_in"], decoder: Float[Tensor, "latent d_in"]
) -> tuple[Float[Tensor, "latent d_in"], Float[Tensor, "latent d_in"]]:
    r"""For each latent, the residual's source that its decoder row carries most of.

    **Arguments:**
    - `residual`: residuals of samples that were drawn whatever fired.
    - `decoder`: rows of length one.

    **Returns:** directions $u$ of length one, along which the source adds to residuals; and
    readings $q$ with $q \cdot u = 1$, which other sources do not disturb. Zeros where residuals do
    not vary.
    """
    centred = residual - residual.mean(0)
    covariance = (centred.T @ centred).double() / max(1, len(residual))
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > _LEAST * values[-1].clamp_min(1e-30)
    values, vectors = values[kept][-_COMPONENTS:], vectors[:, kept][:, -_COMPONENTS:]
    if not len(values) or float(values[-1]) <= 1e-12:
        return torch.zeros_like(decoder), torch.zeros_like(decoder)
    whiten = (vectors / values.sqrt()).to(decoder.dtype)
    colour = (vectors * values.sqrt()).to(decoder.dtype)
    white = centred @ whiten
    found_u, found_q = [], []
    for rows in decoder.split(_CHUNK):
        # the row read in terms of sources: what part of each component it carries
        w = normalize(rows @ whiten, dim=-1)
        for _ in range(_STEPS):
            w = normalize((w @ white.T).square() @ white, dim=-1)
        u, q = w @ colour.T, w @ whiten.T
        length = u.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        found_u.append(u / length)
        found_q.append(q * length)
    return torch.cat(found_u), torch.cat(found_q)
