"""Pure measurements: they take tensors, know nothing of SAEs, and have one implementation each.

Everything has a leading member axis and is invariant to batch size: sums are kept in float64, and
any split of the same samples gives the same numbers. Nothing here carries a gradient.

- Streaming, with `update`, `merge` and `result`: `Reconstruction`, `Sparsity`, `LatentHistogram`,
  `Classification`, `Correlation`, `NthDecoderProjection`. Every `update` takes an optional weight
  per sample, such as the probability of a pattern in an enumerated world.
- From weights alone: `recovery`, `mmcs`, `mcc`, `uniqueness`, `match`, `nearest_feature`,
  `nearest_latents`, `decoder_pairwise_cosine`, and the cosine maps.
- Between a control and an extended SAE: `hedging_degree`; of any change: `change_in_span`.
- Over members: `summary`.
- By name: `METRICS`, with direction, unit, version and a sentence for each headline number.
"""

from latent_assay.metrics.classification import (
    Classification,
    ClassificationResult,
    CofiringCounts,
)
from latent_assay.metrics.correlation import Correlation, CorrelationResult
from latent_assay.metrics.decoder_projection import (
    NthDecoderProjection,
    NthDecoderProjectionResult,
)
from latent_assay.metrics.directions import (
    cosine_map,
    encoder_cosine_map,
    encoder_decoder_cosine,
    project_on_span,
)
from latent_assay.metrics.hedging_degree import HedgingDegree, change_in_span, hedging_degree
from latent_assay.metrics.histogram import LatentHistogram, LatentHistogramResult
from latent_assay.metrics.matching import Match, assign, match, mcc
from latent_assay.metrics.neighbours import Neighbours, nearest_latents
from latent_assay.metrics.pairwise_cosine import decoder_pairwise_cosine
from latent_assay.metrics.reconstruction import Reconstruction, ReconstructionResult
from latent_assay.metrics.recovery import (
    NearestFeature,
    mmcs,
    nearest_feature,
    recovery,
    uniqueness,
)
from latent_assay.metrics.registry import METRICS, Measured, Metric, metric
from latent_assay.metrics.sparsity import (
    DensityHistogram,
    Sparsity,
    SparsityResult,
    density_histogram,
)
from latent_assay.metrics.uncertainty import MeanSd, summary

__all__ = [
    "METRICS",
    "Classification",
    "ClassificationResult",
    "CofiringCounts",
    "Correlation",
    "CorrelationResult",
    "DensityHistogram",
    "HedgingDegree",
    "LatentHistogram",
    "LatentHistogramResult",
    "Match",
    "MeanSd",
    "Measured",
    "Metric",
    "NearestFeature",
    "Neighbours",
    "NthDecoderProjection",
    "NthDecoderProjectionResult",
    "Reconstruction",
    "ReconstructionResult",
    "Sparsity",
    "SparsityResult",
    "assign",
    "change_in_span",
    "cosine_map",
    "decoder_pairwise_cosine",
    "density_histogram",
    "encoder_cosine_map",
    "encoder_decoder_cosine",
    "hedging_degree",
    "match",
    "mcc",
    "metric",
    "mmcs",
    "nearest_feature",
    "nearest_latents",
    "project_on_span",
    "recovery",
    "summary",
    "uniqueness",
]
