r"""Sparsifiers: what turns pre-activations into latent activations.

An SAE computes $pre = W_{enc}(x - b_{dec}) + b_{enc}$ and then $z = \sigma(pre)$; $\sigma$ is the
sparsifier. Every tensor that a sparsifier holds has the leading member axis.
"""

from latent_assay.sparsifiers.batch_top_k import BatchTopK
from latent_assay.sparsifiers.jump_relu import JumpReLU
from latent_assay.sparsifiers.plain import Identity, ReLU
from latent_assay.sparsifiers.sparsifier import PerMember, Sparsifier
from latent_assay.sparsifiers.top_k import TopK

__all__ = ["BatchTopK", "Identity", "JumpReLU", "PerMember", "ReLU", "Sparsifier", "TopK"]
