r"""Is this solution optimal? The exact expected objective of any recipe in any finite world.

For given weights $\theta$ and patterns $x_k$ with probabilities $P_k$,

$$L(\theta) = \sum_k P_k\, \ell(x_k; \theta), \qquad
\nabla L(\theta) = \sum_k P_k\, \nabla\ell(x_k; \theta)$$

so "is this a minimum?" has an answer without sampling noise: the gradient vanishes, and no small
step lowers the objective.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.batch import WeightedBatch
from latent_assay.losses import Forward, Objective, Progress
from latent_assay.population import population
from latent_assay.sae import SAE
from latent_assay.worlds import World

# Training is over: every delay and warm-up has passed.
_AT_THE_END = 2**60


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpectedLoss:
    """The exact expectation of an objective, for given weights."""

    total: Float[Tensor, " member"]
    """The objective of each member."""
    parts: dict[str, Float[Tensor, " member"]]
    """Its terms, by name."""
    gradient: dict[str, Float[Tensor, "..."]]
    """Its gradient with respect to every trained parameter, constraints respected."""

    @property
    def gradient_norm(self) -> Float[Tensor, " member"]:
        """Length of each member's gradient; 0 at a stationary point."""
        squares = [each.flatten(1).square().sum(1) for each in self.gradient.values()]
        return torch.stack(squares).sum(0).sqrt()


def expected_loss(world: World, sae: SAE, objective: Objective) -> ExpectedLoss:
    """The expected objective and its gradient for an SAE as it stands.

    Terms that warm up count fully. At a kink, such as a pre-activation of exactly 0, the gradient
    is the one that training would follow.

    **Arguments:**
    - `world`: finite; directions are taken in the SAE's precision, so use float64 for both.
    - `sae`: its weights are not changed.
    - `objective`: as a recipe returns it.

    **Raises:** `WorldError` naming the property that makes the world infinite.

    >>> from latent_assay.recipes import relu_l1
    >>> from latent_assay.worlds import presets
    >>> world = presets.absorption()
    >>> sae, objective, _ = relu_l1(d_in=world.d_in, width=4)
    >>> expected_loss(world, sae, objective).total.shape
    torch.Size([1])
    """
    batch: WeightedBatch = next(population(world, dtype=sae.W_enc.dtype))
    since = torch.zeros(sae.members, sae.width, dtype=torch.int64, device=sae.W_enc.device)
    progress = Progress(step=_AT_THE_END, samples=_AT_THE_END, since_fired=since)
    parameters = {name: p for name, p in sae.named_parameters() if p.requires_grad}
    before = {name: p.grad for name, p in parameters.items()}
    try:
        for p in parameters.values():
            p.grad = None
        weight = batch.weight.to(sae.W_enc)
        total, parts = objective(Forward(sae, batch.x.to(sae.W_enc), weight), progress)
        total.sum().backward()
        sae.constrain_gradients()
        gradient = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
            for name, p in parameters.items()
        }
    finally:
        for name, p in parameters.items():
            p.grad = before[name]
    return ExpectedLoss(
        total=total.detach(),
        parts={name: part.detach() for name, part in parts.items()},
        gradient=gradient,
    )
