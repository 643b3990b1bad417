"""How the weights of an SAE begin.

An initialisation is a function of a generator, a width and d_in that returns an encoder and a
decoder for one member; each member draws from a generator of its own seed, so that a member
begins the same in any company.
"""

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError, DataError, ShapeError

Initialisation = Callable[[torch.Generator, int, int], tuple[Tensor, Tensor]]
"""(generator, width, d_in) → encoder [latent, d_in], decoder [latent, d_in]."""


def tied_random(norm: float = 0.1) -> Initialisation:
    """Random directions of one length, the encoder equal to the decoder.

    **Arguments:**
    - `norm`: the length of every row. Short rows leave few latents stuck from the start.
    """
    if norm <= 0:
        raise ConfigError(f"the norm of initial rows must be positive, got {norm}.")

    def initialise(generator: torch.Generator, width: int, d_in: int) -> tuple[Tensor, Tensor]:
        rows = torch.randn(width, d_in, generator=generator, dtype=torch.float64)
        rows = norm * F.normalize(rows, dim=-1)
        return rows, rows.clone()

    return initialise


def kaiming() -> Initialisation:
    r"""Kaiming-uniform rows, the encoder equal to the decoder.

    Entries are uniform in $\pm\sqrt{6/d_{in}}$, so that rows have length about $\sqrt 2$. Some
    latents then begin opposed to a feature and may learn its absence; compare $|\cos|$ when
    matching.
    """

    def initialise(generator: torch.Generator, width: int, d_in: int) -> tuple[Tensor, Tensor]:
        rows = torch.rand(width, d_in, generator=generator, dtype=torch.float64)
        rows = (2 * rows - 1) * math.sqrt(6 / d_in)
        return rows, rows.clone()

    return initialise


def from_features(features: Float[Tensor, "feature d_in"], noise: float = 0.0) -> Initialisation:
    r"""The true features, with Gaussian noise of standard deviation `noise` on each coordinate.

    Latent $j$ begins at feature $j$; an SAE narrower than the features takes the first ones. Noise
    orthogonal to all features is never corrected in the encoder, as no gradient reaches it.

    **Raises:** `ConfigError` if the SAE is wider than there are features.
    """

    def initialise(generator: torch.Generator, width: int, d_in: int) -> tuple[Tensor, Tensor]:
        if width > features.shape[0] or d_in != features.shape[1]:
            raise ConfigError(
                f"cannot begin {width} latents in {d_in} dimensions from features of shape "
                f"{list(features.shape)}: there must be at least as many, of the same length."
            )
        rows = features[:width].detach().to(torch.float64)
        rows = rows + noise * torch.randn(width, d_in, generator=generator, dtype=torch.float64).to(
            rows.device
        )
        return rows, rows.clone()

    return initialise


def data_mean(batches: Iterable[Tensor], samples: int = 100_000) -> Float[Tensor, " d_in"]:
    """The mean activation, to begin `b_dec` with.

    **Arguments:**
    - `batches`: activations, each `[batch, d_in]`.
    - `samples`: how many to average at least, if there are so many.

    **Raises:** `DataError` if there are none; `ShapeError` if they are not `[batch, d_in]`.
    """
    total: Tensor | None = None
    count = 0
    for x in batches:
        if x.dim() != 2:
            raise ShapeError(
                f"the mean activation is taken over batches of shape [batch, d_in], got "
                f"{list(x.shape)}. Take one member's batch, or flatten positions into the batch."
            )
        part = x.to(torch.float64).sum(0)
        total = part if total is None else total + part
        count += x.shape[0]
        if count >= samples:
            break
    if total is None or count == 0:
        raise DataError("cannot take the mean activation: expected at least one, got none.")
    return (total / count).to(torch.float32)
