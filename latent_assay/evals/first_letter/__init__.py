"""Concepts that should have a latent of their own, such as the first letters of words."""

from latent_assay.evals.first_letter.absorption import (
    AbsorptionThresholds,
    RepairedAbsorption,
    SampleAbsorption,
    published_absorption,
    repaired_absorption,
)
from latent_assay.evals.first_letter.assessment import PUBLISHED, FirstLetterConfig
from latent_assay.evals.first_letter.concepts import Concepts
from latent_assay.evals.first_letter.evaluation import concept_evaluations, first_letter
from latent_assay.evals.first_letter.hedging import hedging_share
from latent_assay.evals.first_letter.k_sparse import KSparse, k_sparse
from latent_assay.evals.first_letter.linear import LinearConfig, LinearProbe, train_probe
from latent_assay.evals.first_letter.spelled import ENDINGS, spelled_words
from latent_assay.evals.first_letter.words import vocabulary_words

__all__ = [
    "ENDINGS",
    "PUBLISHED",
    "AbsorptionThresholds",
    "Concepts",
    "FirstLetterConfig",
    "KSparse",
    "LinearConfig",
    "LinearProbe",
    "RepairedAbsorption",
    "SampleAbsorption",
    "concept_evaluations",
    "first_letter",
    "hedging_share",
    "k_sparse",
    "published_absorption",
    "repaired_absorption",
    "spelled_words",
    "train_probe",
    "vocabulary_words",
]
