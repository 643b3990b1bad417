"""What a report shows of a diagnosis: an overview by verdict, and a page for every latent."""

from latent_assay.report.diagnosis.explorer import DiagnosedLatents, DiagnosisExplorer
from latent_assay.report.diagnosis.overview import (
    AdviceLine,
    Named,
    Piece,
    SAEVerdicts,
    VerdictLine,
    VerdictOverview,
)

__all__ = [
    "AdviceLine",
    "DiagnosedLatents",
    "DiagnosisExplorer",
    "Named",
    "Piece",
    "SAEVerdicts",
    "VerdictLine",
    "VerdictOverview",
]
