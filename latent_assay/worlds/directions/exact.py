"""Directions that are what they are: orthonormal ones, and your own."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError, WorldError


def orthonormal(
    features: int,
    d_in: int,
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "feature d_in"]:
    r"""Unit directions at right angles, uniformly distributed over all such sets.

    $$f_i \cdot f_j = \delta_{ij}$$

    exact to the rounding of `dtype`: computed in float64 whatever it is. The rows are the
    orthogonal factor of a Gaussian matrix, with the signs fixed so that the law is the Haar
    measure and the factorisation's conventions do not show.

    **Arguments:**
    - `features`: number of directions, at most `d_in`.
    - `d_in`: dimensions of the space.
    - `generator`: source of randomness; the directions lie on its device.
    - `dtype`: of the result.

    **Returns:** the directions, one a row.

    **Raises:** `WorldError` if there are more features than dimensions.

    >>> rows = orthonormal(3, 8, torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> torch.allclose(rows @ rows.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    True
    """
    positive_sizes(features, d_in)
    if features > d_in:
        raise WorldError(
            f"{features} directions cannot be orthonormal in {d_in} dimensions. "
            f"Use at least {features} dimensions, or `superposed` directions."
        )
    gaussian = torch.randn(
        d_in, features, generator=generator, device=generator.device, dtype=torch.float64
    )
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).T.contiguous().to(dtype)


def given(rows: Any, *, dtype: torch.dtype | None = None) -> Float[Tensor, "feature d_in"]:
    """Your own directions, checked. They need not have unit length.

    **Arguments:**
    - `rows`: a matrix, or nested lists, with a row for each feature.
    - `dtype`: of the result; by default that of `rows`, or float32 if those are not floats.

    **Returns:** a contiguous copy.

    **Raises:** `ShapeError` if it is no matrix, `WorldError` if an entry is not finite.

    >>> given([[1.0, 0.0], [0.6, 0.8]])
    tensor([[1.0000, 0.0000],
            [0.6000, 0.8000]])
    """
    matrix = torch.as_tensor(rows)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ShapeError(
            f"directions have shape {tuple(matrix.shape)}, but must be a matrix with a row for "
            "each feature and a column for each dimension."
        )
    if dtype is None:
        dtype = matrix.dtype if matrix.is_floating_point() else torch.float32
    matrix = matrix.detach().to(dtype).clone(memory_format=torch.contiguous_format)
    if not matrix.isfinite().all():
        raise WorldError(
            "directions hold NaN or infinity, but every entry must be a finite number. "
            "Check where they were computed."
        )
    return matrix


def positive_sizes(features: int, d_in: int) -> None:
    """Refuse a world without features or dimensions."""
    if features < 1 or d_in < 1:
        raise ConfigError(
            f"{features} features in {d_in} dimensions were asked for, but a world has at least "
            "one of each."
        )
