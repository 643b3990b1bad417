"""Reports: one HTML page that works offline, and the same content as JSON."""

from latent_assay.report.browsing import browser_of
from latent_assay.report.claim import Claim, ClaimGroup, ClaimOverview
from latent_assay.report.content import (
    CosineMap,
    CosineMaps,
    Curve,
    Firing,
    FiringTable,
    Histogram,
    Prose,
    TrainingCurves,
)
from latent_assay.report.contexts import ContextConfig, LatentContexts, latent_contexts
from latent_assay.report.document import Report
from latent_assay.report.latents import Corpus, LatentBrowser, LatentPages
from latent_assay.report.metrics_table import Cell, Column, MetricsTable, Row
from latent_assay.report.reading import Reading
from latent_assay.report.strict_json import unpack

__all__ = [
    "Cell",
    "Claim",
    "ClaimGroup",
    "ClaimOverview",
    "Column",
    "ContextConfig",
    "Corpus",
    "CosineMap",
    "CosineMaps",
    "Curve",
    "Firing",
    "FiringTable",
    "Histogram",
    "LatentBrowser",
    "LatentContexts",
    "LatentPages",
    "MetricsTable",
    "Prose",
    "Reading",
    "Report",
    "Row",
    "TrainingCurves",
    "browser_of",
    "latent_contexts",
    "unpack",
]
