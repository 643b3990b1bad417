"""Neighbours of each latent, and how well its encoder agrees with its decoder."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

CHUNK = 1024  # rows of the cosine matrix held at once


def nearest_latents(
    decoder: Float[Tensor, "latent d_in"], count: int = 8
) -> tuple[Int[np.ndarray, "latent neighbour"], Float[np.ndarray, "latent neighbour"]]:
    """The latents whose decoder directions are nearest to each one's, nearest first.

    A zero direction has cosine 0 with everything. A latent is not its own neighbour.

    **Arguments:**
    - `decoder`: one row for each latent.
    - `count`: neighbours for each latent; fewer if there are not so many others.

    **Returns:** indices and cosines.

    >>> index, cosine = nearest_latents(torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]), 1)
    >>> index[:, 0], cosine[:, 0]
    (array([2, 2, 1]), array([0.6, 0.8, 0.8], dtype=float32))
    """
    direction = normalize(decoder.detach().float(), dim=-1)
    width = len(direction)
    count = max(0, min(count, width - 1))
    indices, cosines = [], []
    for start in range(0, width, CHUNK):
        block = direction[start : start + CHUNK] @ direction.mT
        own = torch.arange(len(block), device=block.device)
        block[own, own + start] = -torch.inf
        cosine, index = block.topk(count, dim=1)
        indices.append(index.cpu().numpy())
        cosines.append(cosine.cpu().numpy())
    return np.concatenate(indices), np.concatenate(cosines)


def encoder_decoder_cosine(
    encoder: Float[Tensor, "latent d_in"], decoder: Float[Tensor, "latent d_in"]
) -> Float[np.ndarray, " latent"]:
    r"""$\cos(e_i, d_i)$ for every latent: 1 when a latent writes what it reads; 0 if one is zero.

    A low value is a sign of absorption or hedging: the encoder then avoids something that the
    decoder writes, or the reverse.

    >>> encoder_decoder_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    array([0.6], dtype=float32)
    """
    a = normalize(encoder.detach().float(), dim=-1)
    b = normalize(decoder.detach().float(), dim=-1)
    return (a * b).sum(dim=-1).cpu().numpy()
