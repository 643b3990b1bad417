"""How much directions overlap, and how little they possibly could."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 2048


def welch_bound(features: int, d_in: int) -> float:
    r"""The least that the largest interference between unit directions can be.

    $$\max_{i \ne j} |f_i \cdot f_j| \ge \sqrt{\frac{n - d}{d (n - 1)}}$$

    Zero for $n \le d$. For $n = d + 1$ it is $1/d$ and is attained by the corners of a simplex;
    in general it need not be attainable, and never is for $n > d(d+1)/2$.

    **Arguments:**
    - `features`: $n$.
    - `d_in`: $d$.

    **Reference:** Welch 1974, Lower bounds on the maximum cross correlation of signals.

    >>> round(welch_bound(20, 19) * 19, 12)
    1.0
    """
    if features <= d_in:
        return 0.0
    return math.sqrt((features - d_in) / (d_in * (features - 1)))


def largest_interference(
    directions: Float[Tensor, "feature d_in"],
) -> tuple[float, tuple[int, int] | None]:
    r"""The largest $|\cos(f_i, f_j)|$ over pairs of features, and the pair that has it.

    A zero row has cosine 0 with everything. A single direction interferes with nothing: 0 and no
    pair. Computed in blocks, so that memory grows with the number of features, not its square.

    **Arguments:**
    - `directions`: one a row, of any length.

    **Returns:** the cosine's absolute value and the pair `(i, j)` with `i < j`.
    """
    if directions.shape[0] < 2:
        return 0.0, None
    rows = directions.detach().double()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    largest, pair = -1.0, (0, 1)
    for start in range(0, rows.shape[0], BLOCK):
        block = rows[start : start + BLOCK]
        cosines = (block @ rows[start:].T).abs().triu_(diagonal=1)
        # below the diagonal lie pairs that were already seen; -1 keeps them from winning
        cosines.masked_fill_(torch.ones_like(cosines, dtype=torch.bool).tril_(), -1.0)
        value, place = cosines.flatten().max(dim=0)
        if value.item() > largest:
            i, j = divmod(int(place.item()), cosines.shape[1])
            largest, pair = value.item(), (start + i, start + j)
    return largest, pair
