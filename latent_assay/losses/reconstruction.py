"""How far the reconstruction is from the activation."""

from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

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
    divisible = True

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

    def check(self, members: int) -> None:
        """Raise `ConfigError` unless coefficient and gamma fit so many members."""
        super().check(members)
        if self.gamma is not None and self.gamma.dim() == 2 and len(self.gamma) != members:
            raise ConfigError(
                f"gamma has {len(self.gamma)} rows but the SAE has {members} members; give one "
                "gamma, or one for each member."
            )

    def settings(self) -> dict[str, Any]:
        """Coefficient, ramp and gamma."""
        return super().settings() | {"gamma": None if self.gamma is None else self.gamma.tolist()}

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The squared error."""
        x_hat = forward.x_hat
        # one operation forward and one backward, where the formula in words takes two and three
        error = F.mse_loss(x_hat, forward.x.expand_as(x_hat), reduction="none")
        if self.gamma is not None:
            square = self.gamma.square().to(error.dtype)
            error = error * (square if square.dim() == 1 else square.unsqueeze(1))
        return forward.average(error.sum(-1))
