"""A diagnosis on a page: overview, lists, and the evidence for every latent.

Text comes from `excerpts`, the page from `diagnosis_report`, the overview alone, for another page,
from `overview`.
"""

from latent_assay.diagnosis.pages.diagnosed import DiagnosedSAE
from latent_assay.diagnosis.pages.excerpts import ExcerptConfig, Excerpts, excerpts
from latent_assay.diagnosis.pages.overview import overview
from latent_assay.diagnosis.pages.page import diagnosis_report, write_page

__all__ = [
    "DiagnosedSAE",
    "ExcerptConfig",
    "Excerpts",
    "diagnosis_report",
    "excerpts",
    "overview",
    "write_page",
]
