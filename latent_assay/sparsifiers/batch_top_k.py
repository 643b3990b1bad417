"""BatchTopK: the largest of the whole batch."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.distributed import Ranks, threshold_over_ranks
from latent_assay.errors import ConfigError
from latent_assay.kernels import (
    Selection,
    batch_threshold,
    below,
    kept_above,
    select_above,
    select_largest,
)
from latent_assay.sparsifiers.jump_relu import JumpReLU
from latent_assay.sparsifiers.number_firing import check_k, k_by_member
from latent_assay.sparsifiers.sparsifier import PerMember, Sparsifier


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
        self.register_buffer("k", k_by_member(k, members))
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
        if not self.training or weight is not None:
            return select_above(pre, self._cut(pre, weight))
        threshold, selection = self._largest(pre.detach())
        self._follow(threshold)
        return selection

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
        threshold = self._of_batch(pre, weight)
        self._follow(threshold)
        # entries equal to the threshold fire, those that are not positive do not
        return below(threshold)

    @torch.no_grad()
    def _follow(self, threshold: Float[Tensor, " member"]) -> None:
        """Move the running threshold towards a batch's."""
        known = torch.where(self.threshold.isnan(), threshold, self.threshold)
        moved = known + self.threshold_rate * (threshold - known)
        # a batch with NaN must not poison the threshold; `fit` reports it
        self.threshold.copy_(torch.where(moved.isfinite(), moved, self.threshold))

    def _largest(
        self, pre: Float[Tensor, "member batch latent"]
    ) -> tuple[Float[Tensor, " member"], Selection]:
        """The threshold of a batch of equal weights, and what fires."""
        return select_largest(pre, self.k)

    def _of_batch(self, pre: Tensor, weight: Tensor | None) -> Float[Tensor, " member"]:
        return batch_threshold(pre, self.k, weight)

    def _running(self) -> Float[Tensor, " member"]:
        if bool(self.threshold.isnan().any()):
            raise ConfigError(
                "this BatchTopK has no threshold yet: it has seen no batch in training mode. Train "
                "it, or call `sae.train()` to select within the batch."
            )
        return self.threshold.clamp_min(0)

    def on_rank(self, rows: Int[Tensor, " row"], ranks: Ranks) -> "BatchTopK":
        """One whose threshold is that of all ranks' latents."""
        return BatchTopKOverRanks(self, ranks)

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
        check_k(self.k, width)

    def settings(self) -> dict[str, Any]:
        """The values of k and the rate of the threshold."""
        return {"k": self.k.tolist(), "threshold_rate": self.threshold_rate}


class BatchTopKOverRanks(BatchTopK):
    """BatchTopK of a process that holds some of the latents; the threshold is that of all ranks'.

    **Arguments:**
    - `whole`: the sparsifier of all latents.
    - `ranks`: all ranks.
    """

    def __init__(self, whole: BatchTopK, ranks: Ranks):
        super().__init__(whole.k.tolist(), threshold_rate=whole.threshold_rate)
        self.threshold = whole.threshold.clone()
        self.ranks = ranks

    def _of_batch(self, pre: Tensor, weight: Tensor | None) -> Float[Tensor, " member"]:
        return threshold_over_ranks(pre, self.k, weight, self.ranks)

    def _largest(
        self, pre: Float[Tensor, "member batch latent"]
    ) -> tuple[Float[Tensor, " member"], Selection]:
        threshold = self._of_batch(pre, None)
        return threshold, select_above(pre, below(threshold))

    @property
    def expected_l0(self) -> float:
        """This rank's share of the largest k."""
        return self._l0 / self.ranks.number

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` if it does not fit; k may exceed the latents of one rank."""
        Sparsifier.check(self, members, width)
