"""TopK: the k largest of each sample."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.distributed import Ranks, largest_over_ranks
from latent_assay.errors import ConfigError
from latent_assay.kernels import Selection, largest_places, select_topk, select_where
from latent_assay.sparsifiers.number_firing import check_k, k_by_member
from latent_assay.sparsifiers.sparsifier import PerMember, Sparsifier


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
        values = k_by_member(k, members)
        if any(each != int(each) for each in values.tolist()):
            raise ConfigError(
                f"k of TopK must be whole, got {values.tolist()}; BatchTopK may vary."
            )
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
        return select_where(self._mask(pre))

    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations."""
        return torch.where(self._mask(pre), pre.relu(), 0.0)

    def _mask(self, pre: Tensor) -> Tensor:
        if self._uniform:
            index = largest_places(pre.detach(), self._k_max)
        else:  # from the largest down, as members take different numbers of them
            index = pre.detach().topk(self._k_max, dim=-1).indices
        rank = torch.arange(self._k_max, device=pre.device)
        keep = (rank < self.k.view(-1, 1, 1)).expand(index.shape)
        return torch.zeros_like(pre, dtype=torch.bool).scatter_(-1, index, keep)

    def on_rank(self, rows: Int[Tensor, " row"], ranks: Ranks) -> "TopK":
        """One that finds the k largest over all ranks."""
        return TopKOverRanks(self.k.tolist(), ranks)

    @property
    def expected_l0(self) -> float:
        """The largest k."""
        return float(self._k_max)

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` if k exceeds the width."""
        super().check(members, width)
        check_k(self.k, width)

    def settings(self) -> dict[str, Any]:
        """The values of k."""
        return {"k": self.k.tolist()}


class TopKOverRanks(TopK):
    """TopK of a process that holds some of the latents: the k largest of all ranks' latents fire.

    **Arguments:**
    - `k`: as of `TopK`, for each member.
    - `ranks`: all ranks.
    """

    def __init__(self, k: PerMember, ranks: Ranks):
        super().__init__(k)
        self.ranks = ranks

    def select(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Selection:
        """Those of the k largest of each sample that are here."""
        return select_where(self._mask(pre))

    def _mask(self, pre: Tensor) -> Tensor:
        return largest_over_ranks(pre, self.k, self.ranks)

    @property
    def expected_l0(self) -> float:
        """This rank's share of the largest k."""
        return float(self._k_max) / self.ranks.number

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` if it does not fit; k may exceed the latents of one rank."""
        Sparsifier.check(self, members, width)
