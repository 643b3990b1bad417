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
    below,
    is_largest,
    kept_above,
    largest_places,
    rows_at,
    select_above,
    select_largest,
    select_topk,
    select_where,
)
from latent_assay.kernels.sparse import SparseLatents, sparse_latents
from latent_assay.kernels.sparse_gradients import Rescue, SparseGradients, sparse_gradients
from latent_assay.kernels.workspace import Workspace

__all__ = [
    "GramGradients",
    "Rescue",
    "Selection",
    "SparseGradients",
    "SparseLatents",
    "Workspace",
    "batch_threshold",
    "below",
    "force_path",
    "gram_gradients",
    "is_largest",
    "kept_above",
    "largest_places",
    "prefers_gram",
    "prefers_sparse",
    "rows_at",
    "select_above",
    "select_largest",
    "select_topk",
    "select_where",
    "sparse_gradients",
    "sparse_latents",
    "uses_triton",
]
