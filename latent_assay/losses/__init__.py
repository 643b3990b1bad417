"""Losses: an objective is a sum of terms, each with a coefficient per member."""

from latent_assay.losses.auxk import AuxK
from latent_assay.losses.forward import Forward, Progress
from latent_assay.losses.matryoshka import Matryoshka
from latent_assay.losses.orthogonality import ActivationOrthogonality
from latent_assay.losses.reconstruction import SquaredError
from latent_assay.losses.sharded import ShardedForward
from latent_assay.losses.shared_matryoshka import SharedMatryoshka
from latent_assay.losses.sparsity import L0, Lp, TargetL0
from latent_assay.losses.term import Objective, Ramp, Term
from latent_assay.losses.two_peaks import TwoPeaks

__all__ = [
    "L0",
    "ActivationOrthogonality",
    "AuxK",
    "Forward",
    "Lp",
    "Matryoshka",
    "Objective",
    "Progress",
    "Ramp",
    "ShardedForward",
    "SharedMatryoshka",
    "SquaredError",
    "TargetL0",
    "Term",
    "TwoPeaks",
]
