"""JumpReLU: a threshold for every latent, trained through a straight-through estimator."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from latent_assay.distributed import Ranks
from latent_assay.errors import ConfigError
from latent_assay.sparsifiers.sparsifier import Sparsifier


class JumpReLU(Sparsifier):
    r"""$z = pre \cdot 1[pre > \theta]$ with a threshold $\theta_j \ge 0$ per latent.

    The step has no gradient, so the threshold learns through a straight-through estimator with a
    rectangular window of width $\varepsilon$ (the bandwidth):

    $$\frac{\partial z}{\partial \theta} = -\frac{\theta}{\varepsilon}\,
      1\left[|pre - \theta| < \varepsilon / 2\right]$$

    Thresholds are trained directly rather than through their logarithm, in which small ones hardly
    move; `fit` keeps them from falling below zero.

    **Arguments:**
    - `threshold`: initial thresholds.
    - `bandwidth`: $\varepsilon$, in units of the pre-activation.

    **Reference:** Rajamanoharan et al. 2024, "Jumping Ahead", arXiv:2407.14435.
    """

    name = "jumprelu"

    def __init__(self, threshold: Float[Tensor, "member latent"], bandwidth: float = 0.001):
        super().__init__()
        if not 0 < bandwidth < math.inf:
            raise ConfigError(
                f"the bandwidth of JumpReLU must be positive, got {bandwidth}; 0.001 is usual for "
                "inputs with unit mean square."
            )
        if threshold.dim() != 2 or not bool((threshold.detach() >= 0).all()):
            raise ConfigError(
                "thresholds of JumpReLU must have shape [member, latent], none negative, got shape "
                f"{list(threshold.shape)}."
            )
        self.threshold = nn.Parameter(threshold)
        self.bandwidth = bandwidth

    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations."""
        return _JumpReLU.apply(pre, self.threshold.unsqueeze(1), self.bandwidth)

    def fires(
        self, pre: Float[Tensor, "member batch latent"]
    ) -> Float[Tensor, "member batch latent"]:
        r"""1 where a latent fires and 0 elsewhere; its sum is an L0 that trains the threshold.

        $$\frac{\partial 1[pre > \theta]}{\partial \theta} = -\frac{1}{\varepsilon}\,
          1\left[|pre - \theta| < \varepsilon / 2\right]$$
        """
        return _Step.apply(pre, self.threshold.unsqueeze(1), self.bandwidth)

    def constrain(self) -> None:
        """Keep thresholds from falling below zero."""
        with torch.no_grad():
            self.threshold.clamp_min_(0)

    def rescale(self, factor: float) -> None:
        """Multiply thresholds and bandwidth."""
        with torch.no_grad():
            self.threshold.mul_(factor)
        self.bandwidth *= factor

    def on_rank(self, rows: Int[Tensor, " row"], ranks: Ranks) -> "JumpReLU":
        """The thresholds of these latents."""
        return JumpReLU(self.threshold.data[:, rows.to(self.threshold.device)], self.bandwidth)

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` unless there is one threshold per latent."""
        super().check(members, width)
        if self.threshold.shape[1] != width:
            raise ConfigError(
                f"JumpReLU has {self.threshold.shape[1]} thresholds but the SAE has {width} "
                "latents."
            )

    def settings(self) -> dict[str, Any]:
        """The bandwidth."""
        return {"bandwidth": self.bandwidth}


class _JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return torch.where(pre > threshold, pre, 0.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        near = (pre - threshold).abs() < ctx.bandwidth / 2
        grad_threshold = -(threshold / ctx.bandwidth) * (grad * near).sum(1, keepdim=True)
        return grad * (pre > threshold), grad_threshold, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        # not pre's type, which under autocast cannot count
        return (pre > threshold).to(threshold.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        near = (pre - threshold).abs() < ctx.bandwidth / 2
        return None, -(grad * near).sum(1, keepdim=True) / ctx.bandwidth, None
