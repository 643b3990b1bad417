"""A second chance for dead latents."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.kernels import Rescue, rows_at
from latent_assay.losses.forward import Forward, Progress
from latent_assay.losses.term import Term
from latent_assay.sae import SAE
from latent_assay.sparsifiers import PerMember


class AuxK(Term):
    r"""Dead latents learn to reconstruct what the living ones leave over.

    $$\min(n_{dead} / k_{aux}, 1) \cdot \frac1B \sum_b \|e_b - \hat e_b\|^2, \qquad e = x - \hat x$$

    where $\hat e$ is decoded, without bias, from the $k_{aux}$ largest positive pre-activations of
    dead latents. $e$ is a constant here: the main reconstruction gets no gradient. A latent
    counts as dead when it has not fired for `dead_after` samples. The list of dead latents is
    renewed every `refresh` steps, and only their rows are computed.

    **Arguments:**
    - `members`, `width`: the SAE's.
    - `k`: $k_{aux}$; half of d_in is usual.
    - `dead_after`: samples without firing after which a latent counts as dead.
    - `refresh`: steps between two looks at which latents are dead.

    **Reference:** Gao et al. 2024, arXiv:2406.04093, appendix A.2; there the error is normalised
    and the coefficient 1/32.
    """

    name = "auxk"
    by_latent: ClassVar[dict[str, int]] = {"dead": 1}
    divisible = True

    def __init__(
        self,
        coefficient: PerMember = 1 / 32,
        *,
        members: int,
        width: int,
        k: int,
        dead_after: int,
        refresh: int = 10,
    ):
        super().__init__(coefficient)
        if k < 1 or dead_after < 1 or refresh < 1:
            raise ConfigError(
                f"k, dead_after and refresh must be positive, got {k}, {dead_after}, {refresh}."
            )
        self.k = k
        self.dead_after = dead_after
        self.refresh = refresh
        self.register_buffer("dead", torch.zeros(members, width, dtype=torch.bool))
        self.dead: Bool[Tensor, "member latent"]
        self.derive()

    def derive(self) -> None:
        """Have dead latents counted when they are next needed."""
        self._count: Int[Tensor, " member"] | None = None

    def renew(
        self, sae: SAE, progress: Progress, whole: Callable[[Tensor], Tensor] = lambda part: part
    ) -> int:
        """Renew the list of dead latents if it is due; the largest number in any member.

        **Arguments:**
        - `whole`: `Forward.whole`.
        """
        if progress.step % self.refresh == 0:
            padding = sae.padding
            dead = progress.since_fired >= self.dead_after
            self.dead.copy_(dead if padding is None else dead & ~padding)
            self.derive()
        if self._count is None:
            here = self.dead.sum(-1)
            self._count = whole(here)
            # read off the device here, and at no other step
            self._most, self._most_here = torch.stack([self._count.max(), here.max()]).tolist()
        return self._most

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The error that dead latents leave; zero for a member without any."""
        sae = forward.sae
        most = self.renew(sae, progress, forward.whole)
        count = self._count
        if most == 0 or count is None:
            return torch.zeros_like(forward.x_hat[:, 0, 0])
        order, hidden = self._listed()
        x = forward.x.expand(sae.members, -1, -1)
        bias = sae.encoder_bias().gather(1, order).unsqueeze(1)
        pre = torch.baddbmm(bias, x, rows_at(sae.W_enc, order).mT)
        z = pre.relu().masked_fill(hidden.unsqueeze(1), 0.0)
        if most > self.k:
            z = z * forward.largest(z, self.k)
        error = (forward.x - forward.x_hat).detach()
        missed = (error - forward.whole(z @ rows_at(sae.W_dec, order))).square().sum(-1)
        return self._share(count).to(missed.dtype) * forward.average(missed)

    def rescue(self, sae: SAE, progress: Progress) -> Rescue | None:
        """What a step by hand must add; None if no latent is dead."""
        most = self.renew(sae, progress)
        count = self._count
        if most == 0 or count is None:
            return None
        order, hidden = self._listed()
        coefficient = (self.ramp.now(progress) * self.coefficient).expand(sae.members)
        return Rescue(
            order=order,
            hidden=hidden,
            k=self.k if most > self.k else None,
            coefficient=(coefficient * self._share(count)).to(sae.W_enc.dtype),
        )

    def _listed(self) -> tuple[Int[Tensor, "member some"], Bool[Tensor, "member some"]]:
        """A row of indices per member, dead latents first, and which of them are not dead."""
        order = self.dead.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
        order = order[:, : self._most_here]
        there = torch.arange(self._most_here, device=order.device)
        return order, there >= self.dead.sum(-1, keepdim=True)

    def _share(self, count: Int[Tensor, " member"]) -> Float[Tensor, " member"]:
        return (count.to(torch.float64) / self.k).clamp_max(1)
