"""What SAELens computes, from its tensors as they stand in the file, in float64.

Plain formulas and no SAE of ours: golden vectors come from here.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from latent_assay.formats.golden import product
from latent_assay.formats.reading import Formula


def formula(
    architecture: str,
    tensors: Mapping[str, Tensor],
    *,
    subtract_b_dec: bool,
    k: int | None = None,
    by_length: bool = False,
) -> Formula:
    """From activations, normalised already, to latent activations and reconstruction.

    **Arguments:**
    - `k`: for those that select.
    - `by_length`: whether activations are measured times the length of their decoder row.
    """
    t = {name: tensor.double() if tensor.dim() < 2 else tensor for name, tensor in tensors.items()}

    def compute(x: Tensor) -> tuple[Tensor, Tensor]:
        u = x - t["b_dec"] if subtract_b_dec else x
        if architecture == "gated":
            shared = product(u, t["W_enc"])
            z = (shared + t["b_gate"] > 0) * (shared * t["r_mag"].exp() + t["b_mag"]).relu()
            return z, product(z, t["W_dec"]) + t["b_dec"]
        length = t["W_dec"].double().norm(dim=-1) if by_length else torch.ones(())
        pre = (product(u, t["W_enc"]) + t["b_enc"]) * length
        if architecture == "topk":
            kept = pre.topk(k or 0, dim=-1)
            z = torch.zeros_like(pre).scatter(-1, kept.indices, kept.values.relu())
        elif architecture == "abstopk":
            index = pre.abs().topk(k or 0, dim=-1).indices
            z = torch.zeros_like(pre).scatter(-1, index, pre.gather(-1, index))
        elif architecture == "jumprelu":
            z = pre.relu() * (pre > t["threshold"])
        elif architecture in ("batchtopk", "matryoshka_batchtopk"):
            z = pre.relu() * (pre > t["topk_threshold"])
        elif architecture == "latent_assay_identity":
            z = pre
        else:
            z = pre.relu()
        return z, product(z / length.clamp_min(1e-300), t["W_dec"]) + t["b_dec"]

    return compute


def signs_apart(inner: Formula) -> Formula:
    """A formula whose latents have a sign, as one with a latent for either sign."""

    def outer(x: Tensor) -> tuple[Tensor, Tensor]:
        z, x_hat = inner(x)
        return torch.cat([z.relu(), (-z).relu()], dim=-1), x_hat

    return outer
