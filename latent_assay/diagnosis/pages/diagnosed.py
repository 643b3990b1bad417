"""A diagnosis with what a page shows beside it."""

from dataclasses import dataclass

from latent_assay.diagnosis.calibration.truth import Truth
from latent_assay.diagnosis.diagnosis import Diagnosis
from latent_assay.diagnosis.pages.excerpts import Excerpts


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagnosedSAE:
    """One SAE on the page."""

    name: str
    """Its name."""
    diagnosis: Diagnosis
    """What each latent is made of."""
    excerpts: Excerpts | None = None
    """Where in the text, if there is any."""
    truth: Truth | None = None
    """What each latent truly is, where the features are known."""
