"""How much of a concept's latent points along what distinguishes samples of the concept."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

COMPONENTS = 10
"""The most directions that are taken to distinguish samples from each other."""


def variation(
    x: Float[Tensor, "sample d_in"], k: int = COMPONENTS
) -> Float[Tensor, "component d_in"]:
    """Leading principal components: at most k, a quarter of the samples, and what varies at all."""
    k = min(k, len(x) // 4)
    if k < 1:
        return torch.zeros(0, x.shape[1])
    _, sizes, directions = torch.linalg.svd(x.double() - x.double().mean(0), full_matrices=False)
    return directions[:k][sizes[:k] > 1e-6 * sizes[0].clamp_min(1e-30)].float()


def hedging_share(
    decoder: Float[Tensor, " d_in"],
    direction: Float[Tensor, " d_in"],
    x: Float[Tensor, "sample d_in"],
    labels: Bool[Tensor, " sample"],
) -> float | None:
    r"""The share of a decoder row that lies along the variation within its concept.

    A latent that hedges carries parts of the concept's children, the directions in which samples of
    the concept differ from each other. With $r$ the decoder row $d$ less its part along the probe,
    and $s$ the share of $\lVert d \rVert^2$ that $r$ has in the span of the leading principal
    components (at most ten) of some samples, less the probe's direction,

    $$ \text{hedging} = s_{\text{with the concept}} - s_{\text{without it}}. $$

    Samples without the concept tell what any direction has in common with the variation of the
    activations. By chance it may be below 0, and is where the latent carries what varies in them;
    None if either kind has too few samples. The absorption score is blind to hedging, which is why
    both are shown.

    **Arguments:**
    - `decoder`: of the concept's first main latent.
    - `direction`: the concept's probe.
    - `x`, `labels`: samples, and which of them have the concept.
    """
    unit = direction / direction.norm()
    length = decoder.square().sum()
    rest = decoder - (decoder @ unit) * unit
    inside = variation(x[labels])
    outside = variation(x[~labels], k=len(inside))
    if length == 0 or not len(inside) or not len(outside):
        return None

    def share(span: Tensor) -> float:
        without = span - (span @ unit)[:, None] * unit
        _, sizes, basis = torch.linalg.svd(without.double(), full_matrices=False)
        basis = basis[sizes > 0.1]  # what is left of a direction along the probe is none
        return float((basis.float() @ rest).square().sum() / length)

    return share(inside) - share(outside)
