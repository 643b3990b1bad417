r"""Sparsifiers: what turns pre-activations into latent activations.

An SAE computes $pre = W_{enc}(x - b_{dec}) + b_{enc}$ and then $z = \sigma(pre)$; $\sigma$ is the
sparsifier. Every tensor that a sparsifier holds has the leading member axis.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from latent_assay.errors import ConfigError
from latent_assay.kernels import (
    Selection,
    batch_threshold,
    kept_above,
    select_above,
    select_topk,
)

PerMember = int | float | Sequence[int | float]
"""One value for all members, or a sequence with one for each."""


class Sparsifier(nn.Module, ABC):
    """Maps pre-activations to latent activations, member by member.

    A subclass defines `forward`. One that fires few latents also defines `select`, which opens
    the sparse path, and one that behaves differently in training and in use defines `exported`.
    """

    name: ClassVar[str]
    """The word for it in files."""
    compares_samples: ClassVar[bool] = False
    """Whether what fires for one sample depends on the others."""
    is_gate: ClassVar[bool] = False
    """Whether z is the pre-activation where that is positive and fires, and zero elsewhere, the
    gradient being 1 or 0 accordingly."""

    @abstractmethod
    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations.

        **Arguments:**
        - `pre`: pre-activations.
        - `weight`: weight of each sample, summing to 1; matters to batch-wide sparsifiers only.
        """

    def select(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Selection | None:
        """The entries at which `forward` may fire, where it then equals max(pre, 0).

        None if this sparsifier has no such list to offer.
        """
        return None

    @property
    def expected_l0(self) -> float | None:
        """Upper bound of the mean number of firing latents, if there is one by construction."""
        return None

    def exported(self, width: int) -> "Sparsifier":
        """The sparsifier for use after training; it treats every sample alone."""
        return self

    def constrain(self) -> None:
        """Put parameters back where they must be after an optimiser's step."""

    def rescale(self, factor: float) -> None:
        """Keep the same firing when pre-activations are multiplied by a positive factor."""

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` if this sparsifier does not fit so many members and latents."""
        for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
            if tensor.shape[0] != members:
                raise ConfigError(
                    f"{type(self).__name__}.{name} has {tensor.shape[0]} members but the SAE has "
                    f"{members}; give one value, or one for each member."
                )

    def settings(self) -> dict[str, Any]:
        """What describes it in a file, apart from tensors with an entry per latent."""
        return {}

    def shared(self) -> dict[str, Any]:
        """The settings that all members have in common."""
        own = dict(self.named_buffers())
        return {name: value for name, value in self.settings().items() if name not in own}

    def take(self, members: Sequence[int], width: int) -> "Sparsifier":
        """A copy for some of the members and the first `width` latents."""
        copy = deepcopy(self)
        for tensor in copy._own():
            kept = tensor.data[list(members)]
            tensor.data = (kept[:, :width] if kept.dim() > 1 else kept).clone()
        copy.derive()
        return copy

    @staticmethod
    def stack(sparsifiers: Sequence["Sparsifier"], width: int) -> "Sparsifier":
        """One sparsifier for the members of several of one kind, padded with zeros to `width`."""
        first = sparsifiers[0]
        for other in sparsifiers[1:]:
            if type(other) is not type(first):
                raise ConfigError(
                    f"cannot stack a {type(first).__name__} SAE with a {type(other).__name__} one; "
                    "members of one SAE share their sparsifier. Keep them apart."
                )
            if other.shared() != first.shared():
                raise ConfigError(
                    f"cannot stack {type(first).__name__} SAEs that differ in {first.shared()} and "
                    f"{other.shared()}, which the members of one SAE share. Keep them apart."
                )
        copy = deepcopy(first)
        for tensors in zip(copy._own(), *(each._own() for each in sparsifiers), strict=True):
            tensors[0].data = torch.cat(
                [
                    F.pad(each.data, [0, width - each.shape[1]]) if each.dim() > 1 else each.data
                    for each in tensors[1:]
                ]
            )
        copy.derive()
        return copy

    def derive(self) -> None:
        """Recompute whatever was derived from the tensors; called when they are replaced."""

    def _own(self) -> list[Tensor]:
        return [*self.parameters(), *self.buffers()]


class Identity(Sparsifier):
    r"""No sparsifier at all, $z = pre$: a linear autoencoder."""

    name = "identity"

    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations."""
        return pre


class ReLU(Sparsifier):
    r"""$z = \max(pre, 0)$."""

    name = "relu"
    is_gate = True

    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations."""
        return pre.relu()


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


class TopK(Sparsifier):
    r"""The k largest pre-activations of each sample fire, if positive: $z = \max(TopK(pre), 0)$.

    **Arguments:**
    - `k`: firing latents per sample, one number or one for each member.
    - `members`: number of members, if `k` is one number.

    **Reference:** Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv:2406.04093.
    """

    name = "topk"
    is_gate = True

    def __init__(self, k: PerMember, members: int = 1):
        super().__init__()
        values = _per_member("k", k, members)
        if any(each != int(each) for each in values.tolist()):
            raise ConfigError(
                f"k of TopK must be whole, got {values.tolist()}; BatchTopK may vary."
            )
        # whole numbers, which `.to(torch.bfloat16)` leaves alone
        self.register_buffer("k", values.to(torch.int64))
        self.k: Int[Tensor, " member"]
        self.derive()

    def derive(self) -> None:
        """Read k off the device once, not at every step."""
        self._k_max = int(self.k.max())
        self._uniform = bool((self.k == self._k_max).all())

    def select(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Selection:
        """The k largest of each sample."""
        if self._uniform:
            return select_topk(pre, self._k_max)
        return select_above(pre, self._mask(pre))

    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations."""
        return torch.where(self._mask(pre), pre.relu(), 0.0)

    def _mask(self, pre: Tensor) -> Tensor:
        index = pre.detach().topk(self._k_max, dim=-1, sorted=not self._uniform).indices
        rank = torch.arange(self._k_max, device=pre.device)
        keep = (rank < self.k.view(-1, 1, 1)).expand(index.shape)
        return torch.zeros_like(pre, dtype=torch.bool).scatter_(-1, index, keep)

    @property
    def expected_l0(self) -> float:
        """The largest k."""
        return float(self._k_max)

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` if k exceeds the width."""
        super().check(members, width)
        _check_k(self.k, width)

    def settings(self) -> dict[str, Any]:
        """The values of k."""
        return {"k": self.k.tolist()}


class BatchTopK(Sparsifier):
    r"""The $kB$ largest pre-activations of the whole batch fire, if positive; k is per sample.

    Samples that need more latents take them from samples that need fewer. All entries equal to
    the smallest that fires do fire (see `batch_threshold`).

    After training a sample must not depend on its neighbours, so a threshold takes over:
    `threshold` follows the batch threshold $\tau$ in training,
    $\theta \leftarrow \theta + r(\tau - \theta)$, and in evaluation mode and in files this is a
    JumpReLU with it.

    **Arguments:**
    - `k`: mean number of firing latents per sample, one number or one for each member.
    - `members`: number of members, if `k` is one number.
    - `threshold_rate`: $r$.

    **Reference:** Bussmann et al. 2024, "BatchTopK Sparse Autoencoders", arXiv:2412.06410.
    """

    name = "batchtopk"
    is_gate = True
    compares_samples = True

    def __init__(self, k: PerMember, members: int = 1, threshold_rate: float = 0.01):
        super().__init__()
        self.register_buffer("k", _per_member("k", k, members))
        self.k: Float[Tensor, " member"]
        # NaN until the first batch
        self.register_buffer("threshold", torch.full_like(self.k, math.nan))
        self.threshold: Float[Tensor, " member"]
        self.threshold_rate = threshold_rate
        self.derive()

    def derive(self) -> None:
        """Read k off the device once, not at every step."""
        self._l0 = float(self.k.max())

    def select(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Selection:
        """The entries at or above this batch's threshold; in evaluation above the running one."""
        return select_above(pre, pre > self._cut(pre, weight).view(-1, 1, 1))

    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations; in training mode the running threshold moves a step."""
        return kept_above(pre, self._cut(pre, weight))

    def _cut(self, pre: Tensor, weight: Tensor | None) -> Float[Tensor, " member"]:
        """The value above which latents fire; in training mode the running threshold moves."""
        pre = pre.detach()
        if not self.training:
            return self._running().to(pre.dtype)
        threshold = batch_threshold(pre, self.k, weight)
        with torch.no_grad():
            known = torch.where(self.threshold.isnan(), threshold, self.threshold)
            moved = known + self.threshold_rate * (threshold - known)
            # a batch with NaN must not poison the threshold; `fit` reports it
            self.threshold.copy_(torch.where(moved.isfinite(), moved, self.threshold))
        # entries equal to the threshold fire, those that are not positive do not
        return threshold.nextafter(torch.full_like(threshold, -math.inf)).clamp_min(0)

    def _running(self) -> Float[Tensor, " member"]:
        if bool(self.threshold.isnan().any()):
            raise ConfigError(
                "this BatchTopK has no threshold yet: it has seen no batch in training mode. Train "
                "it, or call `sae.train()` to select within the batch."
            )
        return self.threshold.clamp_min(0)

    @property
    def expected_l0(self) -> float:
        """The largest k."""
        return self._l0

    def exported(self, width: int) -> Sparsifier:
        """A JumpReLU with the running threshold for every latent."""
        return JumpReLU(self._running().unsqueeze(-1).repeat(1, width))

    def rescale(self, factor: float) -> None:
        """Multiply the running threshold."""
        self.threshold.mul_(factor)

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` if k exceeds the width."""
        super().check(members, width)
        _check_k(self.k, width)

    def settings(self) -> dict[str, Any]:
        """The values of k and the rate of the threshold."""
        return {"k": self.k.tolist(), "threshold_rate": self.threshold_rate}


def _per_member(name: str, value: PerMember, members: int) -> Float[Tensor, " member"]:
    values = [float(value)] * members if isinstance(value, int | float) else [*map(float, value)]
    if not values or not all(math.isfinite(each) and each > 0 for each in values):
        raise ConfigError(f"{name} must be positive, got {value!r}.")
    return torch.tensor(values, dtype=torch.float64)


def _check_k(k: Tensor, width: int) -> None:
    if float(k.max()) > width:
        raise ConfigError(
            f"k is {float(k.max()):g} but the SAE has only {width} latents; choose k below the "
            "width."
        )


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
