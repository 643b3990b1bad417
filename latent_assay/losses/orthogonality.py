"""Latents that fire weakly should not fire: the activation-orthogonality loss."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError
from latent_assay.losses.forward import Forward, Progress
from latent_assay.losses.term import Ramp, Term
from latent_assay.sparsifiers import PerMember


class ActivationOrthogonality(Term):
    r"""Makes a latent orthogonal to every activation at which it fires below its threshold.

    $$\frac{1}{BK} \sum_{b=1}^{B} \sum_{j=1}^{K} 1[z_{bj} \le \tau_j] \cos(x_b - b_{dec}, d_j)^2$$

    A latent that mixes features fires strongly for its main feature and weakly for the others, so
    its activations have several peaks; this removes all but the highest. $\tau_j$ is `fraction` of
    the largest activation of latent $j$ in the last `window` batches. A latent that does not fire
    at all ($z = 0$) is included. After `ramp.delay` both the loss and $\tau$ rise in a straight
    line over `ramp.length`.

    **Arguments:**
    - `members`, `width`: the SAE's.
    - `fraction`: the part of the running maximum that $\tau_j$ reaches.
    - `window`: batches over which the maximum is taken.

    **Reference:** Chanin et al. 2025, "Broken Latents"; the sums there run one index too far.
    """

    name = "activation_orthogonality"
    by_latent: ClassVar[dict[str, int]] = {"recent": 2}
    divisible = True

    def __init__(
        self,
        coefficient: PerMember = 1e4,
        *,
        members: int,
        width: int,
        fraction: float = 0.7,
        window: int = 50,
        ramp: Ramp | None = None,
    ):
        super().__init__(coefficient, ramp)
        if not 0 < fraction < 1 or window < 1:
            raise ConfigError(
                "fraction must lie between 0 and 1 and window be positive, got "
                f"{fraction}, {window}."
            )
        self.fraction = fraction
        self.register_buffer("recent", torch.zeros(window, members, width))
        self.recent: Float[Tensor, "window member latent"]

    def value(self, forward: Forward, progress: Progress) -> Float[Tensor, " member"]:
        """The penalty; the running maximum takes in this batch first."""
        z = forward.z
        if z.shape[::2] != self.recent.shape[1:]:
            raise ConfigError(
                f"this loss was made for {list(self.recent.shape[1:])} members and latents but "
                f"finds {list(z.shape[::2])}; it belongs beside a matryoshka loss, not into one."
            )
        with torch.no_grad():
            seen = z
            if forward.weight is not None:  # samples of weight 0 are not there
                seen = z.masked_fill((forward.weight == 0).unsqueeze(-1), -torch.inf)
            self.recent[progress.step % self.recent.shape[0]] = seen.amax(1).nan_to_num(0.0)
        strength = self.ramp.now(progress)
        if strength == 0:
            return torch.zeros_like(z[:, 0, 0])
        threshold = (strength * self.fraction) * self.recent.amax(0).to(z.dtype)
        centred = F.normalize(forward.x - forward.sae.b_dec.unsqueeze(1), dim=-1)
        cosine = centred @ F.normalize(forward.decoder, dim=-1).mT
        weak = (z.detach() <= threshold.unsqueeze(1)).to(z.dtype)
        widths = forward.whole(torch.tensor(forward.sae.widths, dtype=z.dtype, device=z.device))
        return forward.average(forward.whole((weak * cosine.square()).sum(-1))) / widths
