"""One batch's way through an SAE whose latents are divided over processes."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from latent_assay.distributed import Ranks, largest_over_ranks
from latent_assay.losses.forward import Forward
from latent_assay.sae import SAE


class ShardedForward(Forward):
    r"""One batch's way through an SAE of which this process holds some latents.

    Encoding is local. Each rank decodes its own latents, and one exchange adds the parts up:

    $$\hat x = b_{dec} + \sum_{rank} \sum_{j \in rank} z_j d_j$$

    From there on every rank computes the same loss, so gradients need no exchange at all, except
    that of $b_{dec}$: its part through the reconstruction is recorded on the first rank only, its
    part through the encoder where the latents are, and the sum over ranks is the gradient.

    **Arguments:**
    - `sae`: this rank's latents.
    - `x`, `weight`: as of `Forward`, equal on all ranks.
    - `ranks`: all ranks.
    """

    def __init__(
        self,
        sae: SAE,
        x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
        weight: Float[Tensor, "*lead batch"] | None = None,
        *,
        ranks: Ranks,
    ):
        self.ranks = ranks
        super().__init__(sae, x, weight)

    @property
    def bias(self) -> Float[Tensor, "member 1 d_in"]:
        """What the reconstruction begins with."""
        bias = self.sae.b_dec.unsqueeze(1)
        return bias if self.ranks.first else bias.detach()

    def contributions(self, bounds: tuple[int, ...]) -> list[Float[Tensor, "member batch d_in"]]:
        """What each group of latents, on all ranks, adds to the reconstruction.

        **Arguments:**
        - `bounds`: the ends of the groups, counted in this rank's latents.
        """
        parts = super().contributions(bounds)
        if len(parts) == 1:
            return [self.whole(parts[0])]
        return list(self.whole(torch.stack(parts)).unbind())

    def whole(self, part: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """A sum over all latents, from the sum over this rank's."""
        if part.dtype in (torch.bfloat16, torch.float16):
            part = part.float()  # parts are rounded once, when they are added up
        return self.ranks.whole(part)

    def largest(
        self, values: Float[Tensor, "member batch some"], k: int
    ) -> Float[Tensor, "member batch some"]:
        """1 for those of this rank's values that are among the k largest of their sample."""
        return largest_over_ranks(values, k, self.ranks).to(values.dtype)
