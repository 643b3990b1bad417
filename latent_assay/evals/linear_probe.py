r"""Linear probes: directions that tell whether an activation carries a concept."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """How linear probes are trained. The defaults are SAEBench's for SCR and TPP."""

    epochs: int = 20
    """Passes over the samples; the probe is what the last one leaves."""
    batch_size: int = 16
    """Samples per step. Small batches are part of the protocol: they let a probe pick up a spurious
    concept."""
    lr: float = 1e-3
    """Learning rate of AdamW."""
    l1: float = 1e-3
    """Coefficient of the sum of absolute weights."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size) < 1 or self.lr <= 0 or self.l1 < 0:
            raise ConfigError(
                f"a probe needs at least one epoch, one sample per step, lr above 0 and l1 of at "
                f"least 0; received {self}."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearProbes:
    """Probes for several concepts: a sample carries one where $w x + b > 0$."""

    weight: Float[Tensor, "probe d_in"]
    """Directions $w$, for raw activations."""
    bias: Float[Tensor, " probe"]
    """Offsets $b$."""

    def logits(self, x: Float[Tensor, "sample d_in"]) -> Float[Tensor, "sample probe"]:
        """$w x + b$ of every probe."""
        return x @ self.weight.T + self.bias


def fit_probes(
    x: Float[Tensor, "probe sample d_in"],
    y: Bool[Tensor, "probe sample"],
    *,
    config: ProbeConfig | None = None,
    seed: int = 0,
) -> LinearProbes:
    r"""Train probes for several concepts side by side by logistic regression with AdamW.

    $$\min_{w, b} \; \mathbb{E}\big[\text{BCE}(w \tilde x + b, y)\big] + \lambda \|w\|_1,
      \qquad \tilde x = (x - \mu) / s$$

    with $\mu$ the mean and $s$ one number, the root mean square deviation over all coordinates of a
    probe's samples, so that the unit in which activations come changes nothing. The weights of the
    last epoch are kept: no sample outside `x` has a say in which epoch is best.

    **Arguments:**
    - `x`: the samples of each probe; as many for each.
    - `y`: whether they carry its concept.
    - `config`: how to train.
    - `seed`: of the order of the samples.

    **Returns:** probes for raw activations.

    **Raises:** `DataError` if a probe's samples all have one label.
    """
    config = config or ProbeConfig()
    if not bool((y.any(1) & ~y.all(1)).all()):
        raise DataError(
            "a probe needs samples with its concept and samples without; for at least one of "
            f"{len(y)} probes all {y.shape[1]} samples have the same label."
        )
    x = x.detach().float()
    mean = x.mean(1, keepdim=True)
    scale = (x - mean).square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-12)
    standard, target = (x - mean) / scale, y.float()
    count, n, d_in = x.shape
    weight = torch.zeros(count, d_in, requires_grad=True)
    bias = torch.zeros(count, requires_grad=True)
    optimizer = torch.optim.AdamW([weight, bias], lr=config.lr)
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(config.epochs):
            for rows in torch.randperm(n, generator=generator).split(config.batch_size):
                logits = (standard[:, rows] * weight[:, None]).sum(-1) + bias[:, None]
                # summed over probes, so that none feels the company of the others
                loss = (
                    F.binary_cross_entropy_with_logits(logits, target[:, rows], reduction="none")
                    .mean(1)
                    .sum()
                    + config.l1 * weight.abs().sum()
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    raw = weight.detach() / scale[:, 0]
    return LinearProbes(weight=raw, bias=bias.detach() - (raw * mean[:, 0]).sum(-1))


def draw(
    label: Int[Tensor, " sample"], value: int, n: int, generator: torch.Generator
) -> Int[Tensor, " drawn"]:
    """Up to `n` different samples with one label, in random order."""
    rows = (label == value).nonzero().squeeze(-1)
    return rows[torch.randperm(len(rows), generator=generator)[:n]]
