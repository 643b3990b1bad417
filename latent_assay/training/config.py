"""How to train: steps, learning rate and its schedule, and how often to look and to save."""

import math
from dataclasses import dataclass

from latent_assay.errors import ConfigError
from latent_assay.sparsifiers import PerMember


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How to train. Fields that a member may have for itself take one value or one for each."""

    steps: int = 10_000
    """Number of optimiser steps."""
    lr: PerMember = 3e-4
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates."""
    eps: float = 1e-8
    """Adam's epsilon."""
    clip: PerMember = 1.0
    """Largest norm of a member's gradient; infinity does not clip."""
    lr_warm_up_steps: int = 0
    """Steps over which the learning rate rises in a straight line."""
    lr_decay_steps: int = 0
    """Steps at the end over which it falls in a straight line to zero."""
    dead_after: int = 10_000_000
    """Samples without firing after which a latent is logged as dead."""
    log_every: int = 100
    """Steps between two records."""
    checkpoint_every: int | None = 1_000
    """Steps between two checkpoints, if there is a folder; None writes one at the end only."""
    autocast: bool = False
    """Whether to compute in bfloat16 where that is safe."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "dead_after"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise ConfigError(
                f"`checkpoint_every` must be at least 1 or None, got {self.checkpoint_every}."
            )
        if min(self.lr_warm_up_steps, self.lr_decay_steps) < 0:
            raise ConfigError("warm-up and decay of the learning rate cannot be negative.")
        if self.lr_warm_up_steps + self.lr_decay_steps > self.steps:
            raise ConfigError(
                f"warm-up ({self.lr_warm_up_steps}) and decay ({self.lr_decay_steps}) of the "
                f"learning rate do not fit into {self.steps} steps; shorten them or train longer."
            )
        if not all(0 <= each < 1 for each in self.betas) or not 0 < self.eps < math.inf:
            raise ConfigError(
                f"`betas` must lie from 0 to below 1 and `eps` be positive, got {self.betas} and "
                f"{self.eps}."
            )
        for name in ("lr", "clip"):
            values = getattr(self, name)
            values = [values] if isinstance(values, int | float) else values
            if not values or not all(each > 0 for each in values):
                raise ConfigError(f"`{name}` must be positive, got {getattr(self, name)}.")
            if name == "lr" and math.inf in values:
                raise ConfigError(f"`lr` must be finite, got {self.lr}.")

    def lr_factor(self, step: int) -> float:
        """The schedule's factor on the learning rate at a step, counted from 0."""
        rise = (step + 1) / self.lr_warm_up_steps if step < self.lr_warm_up_steps else 1.0
        left = self.steps - step
        fall = left / self.lr_decay_steps if left < self.lr_decay_steps else 1.0
        return min(rise, fall)
