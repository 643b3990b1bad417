"""Measurements that need the language model itself, not only its activations."""

from latent_assay.evals.loss_recovered import LossRecovered, loss_recovered
from latent_assay.evals.splicing import Splice, spliced

__all__ = ["LossRecovered", "Splice", "loss_recovered", "spliced"]
