"""GroupMax: one latent of each group fires. Only for SAEs that others trained with it."""

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.kernels import Selection, select_where
from latent_assay.sparsifiers import Sparsifier


class GroupMax(Sparsifier):
    r"""The largest pre-activation of each of `k` groups of consecutive latents fires, if positive.

    $$z_j = \max(pre_j, 0)\; 1\left[j = \arg\max_{i \in G(j)} \max(pre_i, 0)\right]$$

    Never more than k latents fire, as with TopK, but none can fire beside a larger one of its
    group. `sparsify` offers it; no other tool's layout has a word for it, so it is read only.

    **Arguments:**
    - `k`: the number of groups; it divides the width.
    """

    name = "groupmax"
    is_gate = True

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def _mask(self, pre: Tensor) -> Tensor:
        grouped = pre.relu().unflatten(-1, (self.k, -1))
        first = grouped.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(grouped, dtype=torch.bool).scatter_(-1, first, True).flatten(-2)

    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations."""
        return torch.where(self._mask(pre), pre.relu(), 0.0)

    def select(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Selection:
        """The largest of each group."""
        return select_where(self._mask(pre))

    @property
    def expected_l0(self) -> float:
        """The number of groups."""
        return float(self.k)

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` unless the groups are of equal size."""
        super().check(members, width)
        if self.k < 1 or width % self.k:
            raise ConfigError(
                f"GroupMax with k = {self.k} needs a width that is a multiple of it, got {width}."
            )

    def settings(self) -> dict[str, int]:
        """The number of groups."""
        return {"k": self.k}
