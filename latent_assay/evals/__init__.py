"""Measurements that need the language model itself, not only its activations."""

from latent_assay.evals.loss_recovered import LossRecovered, loss_recovered

__all__ = ["LossRecovered", "loss_recovered"]
