"""The identity, and ReLU."""

from jaxtyping import Float
from torch import Tensor

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
