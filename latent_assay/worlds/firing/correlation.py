"""Correlation matrices of Gaussian variables, in factorised form."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import ConfigError, ShapeError, WorldError

# How far a matrix may be from a correlation matrix and still be called one.
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Correlation:
    r"""A correlation matrix as factor and diagonal, ready to draw with.

    $$C = F F^\top + \mathrm{diag}(v), \qquad
      g = F \xi + \sqrt{v} \odot \varepsilon \;\sim\; N(0, C)$$

    for standard normal $\xi$ and $\varepsilon$. Made by `full` from a matrix or by `low_rank` from
    a factor. Both are factorised here, once.

    **Raises:** `ShapeError` if the parts do not fit, `WorldError` if $C$ has no unit diagonal.
    """

    factor: Float64[Tensor, "feature rank"]
    """$F$"""
    diagonal: Float64[Tensor, " feature"]
    """$v$, not negative: each feature's own part of the variance."""

    def __post_init__(self) -> None:
        factor = self.factor.detach().to("cpu", torch.float64).clone()
        diagonal = self.diagonal.detach().to("cpu", torch.float64).clone()
        if factor.ndim != 2 or diagonal.shape != factor.shape[:1]:
            raise ShapeError(
                f"the factor has shape {tuple(factor.shape)} and the diagonal "
                f"{tuple(diagonal.shape)}, but they must be [feature, rank] and [feature]."
            )
        variances = factor.square().sum(dim=1) + diagonal
        if not ((variances - 1).abs() <= TOLERANCE).all() or not (diagonal >= 0).all():
            worst = int((variances - 1).abs().nan_to_num(torch.inf).argmax())
            raise WorldError(
                f"feature {worst} has variance {variances[worst]:g} with own part "
                f"{diagonal[worst]:g}, but a correlation matrix has ones on its diagonal. "
                "Build it with `Correlation.full` or `Correlation.low_rank`."
            )
        object.__setattr__(self, "factor", factor)
        object.__setattr__(self, "diagonal", diagonal)

    @classmethod
    def full(cls, matrix: Float[Tensor, "feature feature"]) -> "Correlation":
        """Factorise a correlation matrix, which may be singular.

        **Arguments:**
        - `matrix`: symmetric, ones on the diagonal, no negative eigenvalue.

        **Raises:** `WorldError` if it is not a correlation matrix; `nearest_correlation` makes one.
        """
        checked = _symmetric(matrix)
        values, vectors = torch.linalg.eigh(checked)
        if values[0].item() < -TOLERANCE:
            raise WorldError(
                f"the matrix has the negative eigenvalue {values[0].item():.3g}, so no variables "
                "have these correlations. Weaken them, or take `nearest_correlation(matrix)`."
            )
        kept = values > 1e-12
        factor = vectors[:, kept] * values[kept].sqrt()
        # Clipping moved the diagonal by rounding; put it back to one.
        factor = factor / factor.norm(dim=1, keepdim=True)
        return cls(factor=factor, diagonal=torch.zeros(factor.shape[0], dtype=torch.float64))

    @classmethod
    def low_rank(cls, factor: Float[Tensor, "feature rank"]) -> "Correlation":
        r"""Correlations $C_{ij} = F_i \cdot F_j$ off the diagonal, at a cost linear in features.

        **Arguments:**
        - `factor`: $F$, with rows no longer than 1; the rest of the variance is each feature's own.

        **Raises:** `WorldError` if a row is longer than 1.
        """
        factor = factor.detach().to("cpu", torch.float64)
        own = 1 - factor.square().sum(dim=1)
        if not (own >= -TOLERANCE).all():
            worst = int(own.nan_to_num(-torch.inf).argmin())
            raise WorldError(
                f"row {worst} of the factor has squared length {1 - own[worst].item():g}, but a "
                "variable shares at most its whole variance, 1. Scale the factor down."
            )
        return cls(factor=factor, diagonal=own.clamp(min=0.0))

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.factor.shape[0]

    @property
    def matrix(self) -> Float64[Tensor, "feature feature"]:
        """$C$ in full."""
        return self.factor @ self.factor.T + self.diagonal.diag()


def nearest_correlation(
    matrix: Float[Tensor, "feature feature"], *, floor: float = 1e-8, steps: int = 1000
) -> Float64[Tensor, "feature feature"]:
    r"""The correlation matrix nearest to a symmetric one in the Frobenius norm.

    Alternates between the nearest matrix without negative eigenvalues and the nearest with unit
    diagonal, with Dykstra's correction to the first, until the two agree. Then eigenvalues are
    raised to `floor` and the diagonal set to one, so that the result can be factorised.

    **Arguments:**
    - `matrix`: symmetric with ones on the diagonal, of any definiteness.
    - `floor`: the least eigenvalue before the last rescaling.
    - `steps`: the greatest number of alternations.

    **Returns:** the nearest correlation matrix; `matrix` itself if it is one.

    **Reference:** Higham 2002, Computing the nearest correlation matrix.
    """
    target = _symmetric(matrix)
    if torch.linalg.eigvalsh(target)[0].item() >= floor:
        return target
    unit, correction = target, torch.zeros_like(target)
    for _ in range(steps):
        shifted = unit - correction
        values, vectors = torch.linalg.eigh(shifted)
        definite = (vectors * values.clamp(min=0.0)) @ vectors.T
        correction = definite - shifted
        unit = definite.clone().fill_diagonal_(1.0)
        if (unit - definite).abs().max().item() < 1e-10:
            break
    return clipped(unit, floor)


def clipped(
    matrix: Float64[Tensor, "feature feature"], floor: float
) -> Float64[Tensor, "feature feature"]:
    """Raise every eigenvalue to `floor` and rescale to unit diagonal: near, but not nearest."""
    values, vectors = torch.linalg.eigh(matrix)
    definite = (vectors * values.clamp(min=floor)) @ vectors.T
    scale = definite.diagonal().rsqrt()
    scaled = definite * scale[:, None] * scale
    return ((scaled + scaled.T) / 2).fill_diagonal_(1.0)


def random_correlation(
    n: int,
    generator: torch.Generator,
    *,
    zero_share: float = 0.3,
    weakest: float = 0.3,
    strongest: float = 0.9,
) -> Correlation:
    r"""Random correlations of both signs, made consistent.

    Each pair is uncorrelated with probability `zero_share`; otherwise its correlation is
    $\pm U(\text{weakest}, \text{strongest})$, either sign being equally likely. Such a matrix is
    hardly ever positive definite, so eigenvalues are raised to $10^{-6}$ and the diagonal rescaled,
    which weakens the correlations: for 50 features and the defaults, to a mean $|\rho|$ near .13.

    **Arguments:**
    - `n`: number of features.
    - `generator`: source of randomness.
    - `zero_share`: probability that a pair is drawn as uncorrelated.
    - `weakest`, `strongest`: range of $|\rho|$ before the repair.

    **Raises:** `ConfigError` if a setting is out of range.
    """
    if n < 1 or not 0 <= zero_share <= 1 or not 0 <= weakest <= strongest <= 1:
        raise ConfigError(
            f"got {n} features, zero share {zero_share} and correlations from {weakest} to "
            f"{strongest}; expected at least one feature, a share from 0 to 1, and "
            "0 <= weakest <= strongest <= 1."
        )
    device = generator.device
    zero, sign, size = torch.rand(
        3, n, n, generator=generator, device=device, dtype=torch.float64
    ).cpu()
    drawn = (weakest + (strongest - weakest) * size) * torch.where(sign < 0.5, -1.0, 1.0)
    upper = torch.where(zero < zero_share, 0.0, drawn).triu(diagonal=1)
    matrix = (upper + upper.T).fill_diagonal_(1.0)
    return Correlation.full(clipped(matrix, 1e-6))


def _symmetric(matrix: Tensor) -> Float64[Tensor, "feature feature"]:
    """The matrix in float64 on the CPU, checked to be symmetric with unit diagonal."""
    checked = matrix.detach().to("cpu", torch.float64)
    if checked.ndim != 2 or checked.shape[0] != checked.shape[1]:
        raise ShapeError(
            f"a correlation matrix has shape [feature, feature], but this has "
            f"{tuple(checked.shape)}."
        )
    if not (
        torch.allclose(checked, checked.T, atol=TOLERANCE, rtol=0)
        and ((checked.diagonal() - 1).abs() <= TOLERANCE).all()
    ):
        raise WorldError(
            "a correlation matrix is symmetric with ones on its diagonal, but this one is not. "
            "Use (matrix + matrix.T) / 2 and set the diagonal to 1."
        )
    return ((checked + checked.T) / 2).fill_diagonal_(1.0)
