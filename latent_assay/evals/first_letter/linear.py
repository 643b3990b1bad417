"""One-against-all linear probes for all concepts at once, trained by gradient descent."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from latent_assay.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """How probes are trained; the defaults are those of SAEBench's first-letter probe."""

    epochs: int = 50
    """Passes over the samples."""
    batch_size: int = 64
    """Samples per step."""
    lr: float = 1e-2
    """Learning rate of Adam at the first epoch."""
    end_lr: float = 1e-5
    """Learning rate after the last; it falls by the same factor every epoch."""
    weight_decay: float = 1e-4
    """L2 penalty, as Adam's weight decay."""
    l1: float = 0.0
    """Coefficient of the summed absolute weights, mean over concepts."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.end_lr <= self.lr:
            raise ConfigError(
                f"epochs {self.epochs}, batch_size {self.batch_size}, lr {self.lr} and end_lr "
                f"{self.end_lr}: expected at least 1 of the former two and 0 < end_lr <= lr."
            )


L1_PROBE = LinearConfig(batch_size=128, weight_decay=1e-6, l1=0.01)
"""How the probe is trained whose largest weights choose latents: as in SAEBench, but in batches of
128, not 4096, which with few words is one step per epoch and leaves the probe near its start."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearProbe:
    """Linear functions of an activation, positive for a concept."""

    weight: Float[Tensor, "concept d_in"]
    """A direction per concept."""
    bias: Float[Tensor, " concept"]
    """A bias per concept."""

    def __call__(self, x: Float[Tensor, "sample d_in"]) -> Float[Tensor, "sample concept"]:
        """Logits."""
        return x @ self.weight.T + self.bias


def train_probe(
    x: Float[Tensor, "sample d_in"],
    labels: Bool[Tensor, "sample concept"],
    config: LinearConfig,
    generator: torch.Generator,
) -> LinearProbe:
    r"""Minimise the cross-entropy of each concept against the rest, classes weighing the same.

    $$ \mathcal L = \operatorname{mean}\,\mathrm{BCE}(w_c \cdot x + b_c;\ y_c)
       + \lambda \operatorname{mean}_c \lVert w_c \rVert_1 $$

    with positives weighed by the number of negatives per positive.

    **Arguments:**
    - `x`, `labels`: samples; every concept needs positives and negatives.
    - `config`: how long and how fast.
    - `generator`: initial weights, and the order of samples.
    """
    n, d_in = x.shape
    bound = 1 / math.sqrt(d_in)
    shape = (labels.shape[1], d_in)
    weight = (torch.rand(shape, generator=generator) * 2 - 1).mul_(bound).requires_grad_()
    bias = (torch.rand(shape[0], generator=generator) * 2 - 1).mul_(bound).requires_grad_()
    y = labels.float()
    positives = y.sum(0)
    balance = (n - positives) / positives
    optimizer = torch.optim.Adam(
        [weight, bias], lr=config.lr, weight_decay=config.weight_decay, foreach=False
    )
    decay = (config.end_lr / config.lr) ** (1 / config.epochs)
    with torch.enable_grad():
        for _ in range(config.epochs):
            order = torch.randperm(n, generator=generator)
            for rows in order.split(config.batch_size):
                logits = x[rows] @ weight.T + bias
                loss = binary_cross_entropy_with_logits(logits, y[rows], pos_weight=balance)
                if config.l1:
                    loss = loss + config.l1 * weight.abs().sum(-1).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            optimizer.param_groups[0]["lr"] *= decay
    return LinearProbe(weight=weight.detach(), bias=bias.detach())
