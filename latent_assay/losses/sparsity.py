"""Penalties on how much, or how often, latents fire."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.losses.forward import Forward, Progress
from latent_assay.losses.term import Ramp, Term
from latent_assay.sparsifiers import PerMember


class Lp(Term):
    r"""$\frac1B \sum_b \sum_j |z_{bj}|^p \, \|d_j\|$; with p = 1 the L1 penalty.

    Without the decoder's norm $\|d_j\|$ a free decoder escapes the penalty by growing while z
    shrinks, so it is on by default; with it, $z_j d_j$ is what is penalised.

    **Arguments:**
    - `p`: the exponent, positive. Below 1 the gradient at zero is infinite; it is taken at
      $|z| + 10^{-6}$.
    - `weight_by_decoder_norm`: whether $\|d_j\|$ is there.
    """

    name = "lp"
    divisible = True

    def __init__(
        self,
        coefficient: PerMember,
        *,
        p: float = 1.0,
        weight_by_decoder_norm: bool = True,
        ramp: Ramp | None = None,
    ):
        super().__init__(coefficient, ramp)
        if not 0 < p < math.inf:
            raise ConfigError(f"the exponent p must be positive, got {p}; 1 is the L1 penalty.")
        self.p = p
        self.weight_by_decoder_norm = weight_by_decoder_norm

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The penalty."""
        size = forward.z.abs()
        if self.p < 1:
            size = (size + 1e-6) ** self.p - 1e-6**self.p
        elif self.p > 1:
            size = size**self.p
        if self.weight_by_decoder_norm:
            size = size * forward.decoder_norm.unsqueeze(1)
        return forward.average(forward.whole(size.sum(-1)))


class L0(Term):
    r"""The mean number of firing latents, with a gradient for the thresholds of JumpReLU.

    $$\frac1B \sum_b \sum_j 1[pre_{bj} > \theta_j]$$

    **Raises:** `ConfigError` for any other sparsifier, as its L0 has no gradient.

    **Reference:** Rajamanoharan et al. 2024, arXiv:2407.14435.
    """

    name = "l0"
    divisible = True

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The L0."""
        return forward.average(forward.whole(forward.firing.sum(-1)))


class TargetL0(Term):
    r"""$(L_0 / L_0^* - 1)^2$: draws the mean number of firing latents to a target $L_0^*$.

    **Arguments:**
    - `target`: $L_0^*$, one number or one for each member.

    **Reference:** Rajamanoharan et al. 2024, arXiv:2407.14435, section on targeting L0.
    """

    name = "target_l0"
    divisible = True
    per_member = ("coefficient", "target")

    def __init__(
        self, target: PerMember, coefficient: PerMember = 1.0, *, ramp: Ramp | None = None
    ):
        super().__init__(coefficient, ramp)
        values = [target] if isinstance(target, int | float) else [*target]
        if not all(0 < each < math.inf for each in values):
            raise ConfigError(f"the target L0 must be positive, got {target}.")
        self.register_buffer("target", torch.tensor(values, dtype=torch.float64))
        self.target: Float[Tensor, " member_or_one"]

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The squared relative distance from the target."""
        l0 = forward.average(forward.whole(forward.firing.sum(-1)))
        return (l0 / self.target.to(l0.dtype) - 1).square()
