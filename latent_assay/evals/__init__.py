"""Measurements of what an SAE is good for, most of which need the language model itself."""

from latent_assay.evals.catalogue import EVALUATIONS, Evaluation, evaluation
from latent_assay.evals.loss_recovered import LossRecovered, loss_recovered
from latent_assay.evals.result import (
    EvalResult,
    Value,
    measured,
    not_measurable,
    pooled,
    value,
)
from latent_assay.evals.splicing import Splice, spliced

__all__ = [
    "EVALUATIONS",
    "EvalResult",
    "Evaluation",
    "LossRecovered",
    "Splice",
    "Value",
    "evaluation",
    "loss_recovered",
    "measured",
    "not_measurable",
    "pooled",
    "spliced",
    "value",
]
