r"""Top-k written with ReLU and a step, right and as printed.

**Reference:** Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse
Autoencoders and Beyond", proof of theorem 2.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError


def top_k(pre: Float[Tensor, "*batch latent"], k: int) -> Float[Tensor, "*batch latent"]:
    r"""The k largest entries, whatever their sign, the others zero; $k < n$.

    $$\mathrm{ReLU}(y - c) + c \cdot 1[y > c], \qquad c = y_{(k+1)}$$

    with c the (k+1)-th largest entry. The inequality must be strict. Entries that tie with c are
    dropped. (The sparsifier `TopK` also drops negative entries, as this identity does not.)

    **Arguments:**
    - `pre`: pre-activations y.
    - `k`: how many are kept.

    **Raises:** `ConfigError` unless 1 ≤ k < n.

    >>> top_k(torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]), 2).tolist()
    [5.0, 4.0, 0.0, 0.0, 0.0]
    """
    threshold = _next_largest(pre, k)
    return torch.relu(pre - threshold) + threshold * (pre > threshold)


def top_k_as_printed(pre: Float[Tensor, "*batch latent"], k: int) -> Float[Tensor, "*batch latent"]:
    r"""The same with the step $H(y) = 1[y \ge 0]$ of the source: it keeps k + 1 entries.

    >>> top_k_as_printed(torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]), 2).tolist()
    [5.0, 4.0, 3.0, 0.0, 0.0]
    """
    threshold = _next_largest(pre, k)
    return torch.relu(pre - threshold) + threshold * (pre >= threshold)


def _next_largest(pre: Tensor, k: int) -> Tensor:
    if not 1 <= k < pre.shape[-1]:
        raise ConfigError(
            f"k must be at least 1 and below the number of latents {pre.shape[-1]}, got {k}."
        )
    return pre.topk(k + 1, dim=-1).values[..., -1:]
