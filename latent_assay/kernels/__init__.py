"""Fast paths behind plain functions.

The dense formulas stand beside their users as anyone would write them (`DenseLatents` in `sae`, the
`forward` of every sparsifier); what is here computes the same numbers faster and is held against
them by the tests. `dispatch` decides which one runs.
"""

from latent_assay.kernels.dispatch import force_path, prefers_gram, prefers_sparse, uses_triton
from latent_assay.kernels.gram import GramGradients, gram_gradients
from latent_assay.kernels.selection import (
    Selection,
    batch_threshold,
    kept_above,
    largest_places,
    select_above,
    select_topk,
    select_where,
)
from latent_assay.kernels.sparse import SparseLatents, sparse_latents

__all__ = [
    "GramGradients",
    "Selection",
    "SparseLatents",
    "batch_threshold",
    "force_path",
    "gram_gradients",
    "kept_above",
    "largest_places",
    "prefers_gram",
    "prefers_sparse",
    "select_above",
    "select_topk",
    "select_where",
    "sparse_latents",
    "uses_triton",
]
