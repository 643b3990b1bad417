"""How far the reconstruction is from the activation."""

from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.losses.forward import Forward, Progress
from latent_assay.losses.term import Ramp, Term
from latent_assay.sparsifiers import PerMember


class SquaredError(Term):
    r"""Squared error, **summed over d_in, mean over the batch**.

    $$\frac1B \sum_b \sum_i \gamma_i^2 (x_{bi} - \hat x_{bi})^2$$

    With the sum (rather than a mean over d_in) an L1 coefficient means the same at any d_in.

    **Arguments:**
    - `gamma`: the diagonal of the reweighting matrix $\Gamma$, for all members or for each; None
      is the plain squared error. Normalise it to mean $\gamma^2 = 1$ to keep the scale.

    **Reference:** for $\Gamma$: Cui et al. 2025, "On the Theoretical Understanding of Identifiable
    Sparse Autoencoders and Beyond".
    """

    name = "squared_error"

    def __init__(
        self,
        coefficient: PerMember = 1.0,
        *,
        gamma: Float[Tensor, " d_in"] | Float[Tensor, "member d_in"] | None = None,
        ramp: Ramp | None = None,
    ):
        super().__init__(coefficient, ramp)
        if gamma is not None and not bool((gamma.isfinite() & (gamma >= 0)).all()):
            raise ConfigError(
                "gamma must be finite and not negative; check the scores it came from."
            )
        self.register_buffer("gamma", gamma)
        self.gamma: Tensor | None

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The squared error."""
        error = forward.x_hat - forward.x
        if self.gamma is not None:
            gamma = self.gamma.to(error.dtype)
            error = error * (gamma if gamma.dim() == 1 else gamma.unsqueeze(1))
        return forward.average(error.square().sum(-1))
