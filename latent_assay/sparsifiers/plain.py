"""The identity, and ReLU."""

from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.distributed import Ranks
from latent_assay.sparsifiers.sparsifier import Sparsifier


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

    def on_rank(self, rows: Int[Tensor, " row"], ranks: Ranks) -> "Identity":
        """The same: latents do not look at one another."""
        return self


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

    def on_rank(self, rows: Int[Tensor, " row"], ranks: Ranks) -> "ReLU":
        """The same: latents do not look at one another."""
        return self
