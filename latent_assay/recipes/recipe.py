"""What a recipe returns."""

from typing import NamedTuple

from latent_assay.losses import Objective
from latent_assay.sae import SAE
from latent_assay.training import TrainingConfig


class Recipe(NamedTuple):
    """What `fit` needs."""

    sae: SAE
    """The SAE at its initial weights."""
    objective: Objective
    """What to minimise."""
    config: TrainingConfig
    """The published training settings; `dataclasses.replace` changes some."""
