"""Calibration on truth: cases whose failures are known exactly, and how well verdicts find them."""

from latent_assay.diagnosis.calibration.cases import QUICK, Case, Effort, cases
from latent_assay.diagnosis.calibration.composition import (
    Composition,
    coefficients,
    composition,
)
from latent_assay.diagnosis.calibration.holes import Hole, children, holes
from latent_assay.diagnosis.calibration.planted import Plan, Planted, planted
from latent_assay.diagnosis.calibration.truth import BARS, Bars, Truth, truth
from latent_assay.diagnosis.calibration.worlds import WORLDS, NamedWorld

__all__ = [
    "BARS",
    "QUICK",
    "WORLDS",
    "Bars",
    "Case",
    "Composition",
    "Effort",
    "Hole",
    "NamedWorld",
    "Plan",
    "Planted",
    "Truth",
    "cases",
    "children",
    "coefficients",
    "composition",
    "holes",
    "planted",
    "truth",
]
