"""Directions that the ReLU output model of superposition learns."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.worlds.directions.exact import positive_sizes


def learned(
    features: int,
    d_in: int,
    generator: torch.Generator,
    *,
    sparsity: float,
    steps: int = 2000,
    batch_size: int = 1024,
    learning_rate: float = 1e-2,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "feature d_in"]:
    r"""The columns of the matrix that best folds sparse features into few dimensions.

    $$W^* = \arg\min_W \; \mathbb E_s \, \| s - \mathrm{ReLU}(W^\top W s) \|^2,
      \qquad s_i = 0 \text{ with probability } S, \text{ else } s_i \sim U[0, 1]$$

    found by Adam with a learning rate that falls to zero along a cosine. Columns have whatever
    length training gives them: near 1 for a feature that is represented, near 0 for one that is
    not. When features are sparse, more of them are represented than there are dimensions.

    **Arguments:**
    - `features`: number of directions $n$.
    - `d_in`: dimensions of the space $n_p$.
    - `generator`: source of the start and of the data; everything runs on its device.
    - `sparsity`: $S$, from 0 up to but not including 1.
    - `steps`, `batch_size`, `learning_rate`: of the training.
    - `dtype`: of the result; training runs in float32.

    **Returns:** the columns $w_i$ of $W^*$, one a row.

    **Raises:** `ConfigError` if a setting is out of range.

    **Reference:** [Elhage et al. 2022](https://arxiv.org/abs/2209.10652).
    """
    positive_sizes(features, d_in)
    if not 0 <= sparsity < 1:
        raise ConfigError(
            f"`sparsity` is {sparsity}, but must be at least 0 and below 1: "
            "at 1 no feature ever fires and there is nothing to learn."
        )
    if steps < 1 or batch_size < 1 or not learning_rate > 0:
        raise ConfigError(
            f"got {steps} steps of {batch_size} samples at learning rate {learning_rate}, "
            "but each must be positive."
        )
    device = generator.device
    start = torch.randn(features, d_in, generator=generator, device=device) / math.sqrt(features)
    rows = start.requires_grad_()
    optimiser = torch.optim.Adam([rows], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    for _ in range(steps):
        drawn = torch.rand(batch_size, features, generator=generator, device=device)
        # One draw serves twice: given that it exceeds S, (u - S) / (1 - S) is uniform.
        truth = ((drawn - sparsity) / (1 - sparsity)).clamp_(min=0.0)
        rebuilt = torch.relu((truth @ rows) @ rows.T)
        loss = (truth - rebuilt).square().sum() / batch_size
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return rows.detach().to(dtype)
