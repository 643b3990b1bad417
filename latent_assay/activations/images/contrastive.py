r"""The contrastive loss: of all other views, which one shows the same image?"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError


def contrastive_loss(
    first: Float[Tensor, "image d"], second: Float[Tensor, "image d"], temperature: float = 0.2
) -> Float[Tensor, ""]:
    r"""Cross-entropy of finding a view's partner among all other views.

    $$-\frac{1}{2n} \sum_{v} \log \frac{\exp(\hat z_v \cdot \hat z_{v'} / \tau)}
      {\sum_{w \ne v} \exp(\hat z_v \cdot \hat z_w / \tau)}, \qquad \hat z = z / \|z\|$$

    over the $2n$ views $v$ of $n$ images, $v'$ being the other view of the same image. A view whose
    $z$ is zero has similarity 0 with all others. With $z \ge 0$, as a `ContrastiveNetwork` gives
    it, this is *non-negative* contrastive learning: no two views can be opposite, so images that
    have nothing in common must use different dimensions.

    **Arguments:**
    - `first`, `second`: a view of each image, in the same order.
    - `temperature`: $\tau$.

    **Raises:** `ConfigError` for a temperature that is not positive.

    **Reference:** SimCLR, Chen et al. 2020, arXiv:2002.05709; non-negative: Wang et al. 2024,
    arXiv:2403.12459.

    >>> one = torch.eye(2)
    >>> contrastive_loss(one, one, temperature=1.0)  # log(1 + 2/e)
    tensor(0.5514)
    """
    if not temperature > 0:
        raise ConfigError(f"the temperature must be positive, got {temperature}.")
    z = F.normalize(torch.cat([first, second]), dim=-1)
    similarity = z @ z.T / temperature
    n = len(first)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)
