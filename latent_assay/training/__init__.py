"""Training: the loop, its config, and the state that a checkpoint holds."""

from latent_assay.training.config import TrainingConfig
from latent_assay.training.loop import Trainee, fit, fit_together

__all__ = ["Trainee", "TrainingConfig", "fit", "fit_together"]
