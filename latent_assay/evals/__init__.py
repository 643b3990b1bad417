"""Measurements of what an SAE is good for, most of which need the language model itself."""

from latent_assay.evals.catalogue import EVALUATIONS, Evaluation, evaluation
from latent_assay.evals.consistency_of_sae import consistency_of, semantic_consistency
from latent_assay.evals.core import core_metrics
from latent_assay.evals.first_letter import (
    ENDINGS,
    Concepts,
    FirstLetterConfig,
    concept_evaluations,
    first_letter,
    published_absorption,
    repaired_absorption,
    spelled_words,
)
from latent_assay.evals.labelled import Labelled
from latent_assay.evals.linear_probe import ProbeConfig
from latent_assay.evals.loss_recovered import LossRecovered, loss_recovered
from latent_assay.evals.parts_of_speech import TaggedText, parts_of_speech, python_source, treebank
from latent_assay.evals.perturbation import Documents, PerturbationConfig
from latent_assay.evals.probing import ProbingConfig, probe_labelled, sae_probes, sparse_probing
from latent_assay.evals.removal import (
    TwoConcepts,
    python_two_concepts,
    spurious_correlation_removal,
    targeted_probe_perturbation,
)
from latent_assay.evals.result import (
    EvalResult,
    Value,
    measured,
    not_measurable,
    pooled,
    value,
)
from latent_assay.evals.scr import SCR, scr
from latent_assay.evals.semantic_consistency import (
    SemanticConsistency,
    SemanticConsistencyResult,
)
from latent_assay.evals.splicing import Splice, spliced
from latent_assay.evals.texts import LabelledTexts, python_passages
from latent_assay.evals.tpp import TPP, tpp

__all__ = [
    "ENDINGS",
    "EVALUATIONS",
    "SCR",
    "TPP",
    "Concepts",
    "Documents",
    "EvalResult",
    "Evaluation",
    "FirstLetterConfig",
    "Labelled",
    "LabelledTexts",
    "LossRecovered",
    "PerturbationConfig",
    "ProbeConfig",
    "ProbingConfig",
    "SemanticConsistency",
    "SemanticConsistencyResult",
    "Splice",
    "TaggedText",
    "TwoConcepts",
    "Value",
    "concept_evaluations",
    "consistency_of",
    "core_metrics",
    "evaluation",
    "first_letter",
    "loss_recovered",
    "measured",
    "not_measurable",
    "parts_of_speech",
    "pooled",
    "probe_labelled",
    "published_absorption",
    "python_passages",
    "python_source",
    "python_two_concepts",
    "repaired_absorption",
    "sae_probes",
    "scr",
    "semantic_consistency",
    "sparse_probing",
    "spelled_words",
    "spliced",
    "spurious_correlation_removal",
    "targeted_probe_perturbation",
    "tpp",
    "treebank",
    "value",
]
