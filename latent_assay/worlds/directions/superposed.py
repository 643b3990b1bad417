"""More directions than dimensions, with as little interference as can be had."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.worlds.directions.exact import orthonormal, positive_sizes
from latent_assay.worlds.directions.interference import welch_bound

# Norms of the off-diagonal cosines, minimised one after another: the first spreads the directions
# evenly, the later ones press down the largest cosines only.
POWERS = (2, 4, 8, 16, 32, 64, 128)


def superposed(
    features: int,
    d_in: int,
    generator: torch.Generator,
    *,
    steps: int = 100,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "feature d_in"]:
    r"""Unit directions whose largest interference is as small as a search can make it.

    Minimises, for rising even powers $p$, the norm of all cosines between different directions,

    $$\Big( \sum_{i \ne j} |f_i \cdot f_j|^p \Big)^{1/p}
      \;\longrightarrow\; \max_{i \ne j} |f_i \cdot f_j| \qquad (p \to \infty),$$

    by L-BFGS in float64. For $p = 2$ the minimum is a tight frame; with one direction more than
    dimensions a tight frame is a simplex, every $|f_i \cdot f_j| = 1/d$, which is the
    [Welch bound][latent_assay.worlds.directions.welch_bound] exactly. The search stops there, and
    otherwise goes on; it may then end in a local minimum above what is possible.
    With no more features than dimensions the result is orthonormal.

    One evaluation multiplies a feature × feature matrix with the directions, so thousands of
    features take minutes: lower `steps` for them.

    **Arguments:**
    - `features`: number of directions.
    - `d_in`: dimensions of the space.
    - `generator`: source of the random start; the directions lie on its device.
    - `steps`: L-BFGS iterations for each power, at least 1.
    - `dtype`: of the result.

    **Returns:** the directions, one a row.

    **Raises:** `ConfigError` if `steps` is below 1.

    >>> rows = superposed(4, 3, torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> [round(value, 6) for value in (rows @ rows.T).abs()[0].tolist()]
    [1.0, 0.333333, 0.333333, 0.333333]
    """
    positive_sizes(features, d_in)
    if steps < 1:
        raise ConfigError(f"`steps` is {steps}, but the search needs at least one.")
    if features <= d_in:
        return orthonormal(features, d_in, generator, dtype=dtype)
    rows = torch.randn(
        features, d_in, generator=generator, device=generator.device, dtype=torch.float64
    )
    rows /= rows.norm(dim=1, keepdim=True)
    best, least = rows, math.inf
    goal = welch_bound(features, d_in) + 1e-9
    for power in POWERS:
        rows = _minimised(rows, power, steps)
        largest = _cosines(rows).abs().max().item()
        if largest < least:
            best, least = rows, largest
        if least <= goal:
            break
    return best.to(dtype)


def _cosines(rows: Float[Tensor, "feature d_in"]) -> Float[Tensor, "feature feature"]:
    return (rows @ rows.T).fill_diagonal_(0.0)


def _minimised(
    start: Float[Tensor, "feature d_in"], power: int, steps: int
) -> Float[Tensor, "feature d_in"]:
    """Descend the logarithm of the `power`-norm; its gradient is written out, not recorded."""
    free = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [free],
        max_iter=steps,
        max_eval=2 * steps,
        history_size=20,
        tolerance_grad=1e-14,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def loss_and_gradient() -> Tensor:
        lengths = free.norm(dim=1, keepdim=True)
        rows = free / lengths
        cosines = _cosines(rows)
        # Relative to the largest cosine: a high power of a small number would underflow.
        largest = cosines.abs().max().clamp(min=1e-300)
        relative = cosines / largest
        total = relative.pow(power).sum()
        # d log-norm / d cosines; both (i, j) and (j, i) depend on row i, hence the factor 2
        slopes = relative.pow(power - 1) / (total * largest)
        towards = 2 * slopes @ rows
        tangent = towards - rows * (towards * rows).sum(dim=1, keepdim=True)
        free.grad = tangent / lengths
        return total.log() / power + largest.log()

    optimiser.step(loss_and_gradient)
    with torch.no_grad():
        return free / free.norm(dim=1, keepdim=True)
