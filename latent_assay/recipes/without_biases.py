"""Tied SAEs without biases: the reweighted one of Cui et al. 2025, and its linear baseline."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.initialisation import Initialisation, tied_random
from latent_assay.losses import Objective, SquaredError
from latent_assay.recipes.ensemble import ensemble
from latent_assay.recipes.recipe import Recipe
from latent_assay.recipes.reweighting import reweighting
from latent_assay.sparsifiers import Identity, PerMember, TopK
from latent_assay.training import TrainingConfig


def linear(
    *,
    d_in: int,
    width: int | Sequence[int],
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 1e-3,
    init: Initialisation | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    """No sparsifier: a tied linear autoencoder without biases.

    The baseline "no activation function" of Cui et al. 2025; it finds principal components.
    """
    e = ensemble(d_in, width, seeds, lr=lr)
    sae = e.sae(
        Identity(),
        init=init or tied_random(),
        b_dec=None,
        dtype=dtype,
        tied=True,
        frozen=("b_enc", "b_dec"),
    )
    return Recipe(sae, Objective([SquaredError()]), TrainingConfig(lr=lr))


def wsae(
    *,
    d_in: int,
    width: int | Sequence[int],
    k: PerMember,
    gamma: Float[Tensor, " d_in"] | Float[Tensor, "member d_in"] | None = None,
    scores: Float[Tensor, " d_in"] | None = None,
    alpha: PerMember = 1.0,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 1e-3,
    init: Initialisation | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    r"""Reweighted SAE: tied, TopK, no biases, and a weight $\gamma_i$ for each input dimension.

    $$E \|\Gamma (x - W^\top TopK(W x))\|^2, \qquad \Gamma = diag(\gamma)$$

    Smaller weights on polysemantic dimensions narrow the gap between reconstructing the activation
    and recovering the features behind it. `gamma` is normalised to mean $\gamma^2 = 1$, so that
    only the proportions matter.

    **Arguments:**
    - `gamma`: weight of each input dimension, for all members or for each.
    - `scores`, `alpha`: instead of `gamma`, what `reweighting` makes it from: a score for each
      input dimension, such as its variance, and the power to which it counts.

    **Reference:** Cui et al. 2025, "On the Theoretical Understanding of Identifiable Sparse
    Autoencoders and Beyond".
    """
    if (gamma is None) == (scores is None):
        raise ConfigError(
            "give either `gamma`, the weights of input dimensions, or `scores` to make them from."
        )
    if scores is not None:
        gamma = reweighting(scores, alpha)
    assert gamma is not None
    if gamma.shape[-1] != d_in or not bool((gamma >= 0).all()) or not bool((gamma > 0).any()):
        raise ConfigError(
            f"gamma must hold {d_in} weights (d_in), none negative and not all zero, got shape "
            f"{list(gamma.shape)} with minimum {float(gamma.min()):g}."
        )
    per_member = gamma.tolist() if gamma.dim() == 2 else None
    e = ensemble(d_in, width, seeds, k=k, lr=lr, gamma=per_member)
    sae = e.sae(
        TopK(k, e.members),
        init=init or tied_random(),
        b_dec=None,
        dtype=dtype,
        tied=True,
        frozen=("b_enc", "b_dec"),
    )
    gamma = gamma / gamma.square().mean(-1, keepdim=True).sqrt()
    return Recipe(sae, Objective([SquaredError(gamma=gamma)]), TrainingConfig(lr=lr))
