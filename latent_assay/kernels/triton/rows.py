"""Adam row by row: projection, clipping, the step and unit length in one sweep over the weights."""

import math
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from latent_assay.errors import ShapeError
from latent_assay.kernels.triton.launch import launch, tile_of


def gradient_norms(
    grad: Float[Tensor, "member row d_in"],
    unit_rows: Float[Tensor, "member row d_in"] | None = None,
) -> tuple[Float[Tensor, "member row"] | None, Float[Tensor, " member"]]:
    r"""The squared length of each member's gradient, and what of it points along unit rows.

    $$\rho_r = g_r \cdot d_r, \qquad s = \sum_r \|g_r - \rho_r d_r\|^2$$

    The sum of $s$ over a member's parameters is the square of the norm to clip; nothing is changed
    here. `adam_rows` takes $\rho$ and the factor of clipping and applies both on its way.

    **Arguments:**
    - `grad`: the gradient.
    - `unit_rows`: $d$, for rows that keep length one; None where they are free.

    **Returns:** $\rho$ (None for free rows) and $s$.
    """
    members, rows, d_in = grad.shape
    radial = torch.empty(members, rows, dtype=torch.float32, device=grad.device)
    square = torch.empty_like(radial)
    launch(
        _norms,
        (members * rows,),
        grad,
        grad=grad.contiguous(),
        direction=grad if unit_rows is None else unit_rows.contiguous(),
        radial=radial,
        square=square,
        d_in=d_in,
        UNIT=unit_rows is not None,
        TILE=tile_of(d_in),
    )
    return (None if unit_rows is None else radial), square.sum(1)


def adam_rows(
    parameter: Float[Tensor, "member row d_in"],
    grad: Float[Tensor, "member row d_in"],
    first: Float[Tensor, "member row d_in"],
    second: Float[Tensor, "member row d_in"],
    *,
    lr: Float[Tensor, " member"],
    accept: Bool[Tensor, " member"],
    step: int,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    scale: Float[Tensor, " member"] | None = None,
    radial: Float[Tensor, "member row"] | None = None,
    unit: bool = False,
) -> None:
    r"""One step of Adam in place, with what comes before and after it for each row.

    $$g \leftarrow c\,(g - \rho p), \quad m \leftarrow m + (1-\beta_1)(g - m), \quad
      v \leftarrow v + (1-\beta_2)(g^2 - v), \quad
      p \leftarrow p - \frac{\eta}{1-\beta_1^t} \frac{m}{\sqrt{v}/\sqrt{1-\beta_2^t} + \epsilon}$$

    and, for unit rows, $p \leftarrow p / \max(\|p\|, 10^{-12})$. Biases pass as one row per member.

    **Arguments:**
    - `parameter`, `grad`, `first`, `second`: $p$, $g$, $m$, $v$; contiguous. `grad` is only read.
    - `lr`: $\eta$ for each member, the schedule's factor included.
    - `accept`: false for members whose gradient is not finite: they and their moments stay.
    - `step`: $t$, the number of steps including this one.
    - `betas`, `eps`: as above.
    - `scale`: the factor $c$ of clipping; None means 1.
    - `radial`: $\rho$ from `gradient_norms`, if the part along the row is to be removed.
    - `unit`: whether rows are brought to length one at the end, of refused members too.

    **Raises:** `ShapeError` for tensors that are not contiguous.
    """
    members, rows, d_in = parameter.shape
    for name, tensor in {"parameter": parameter, "first": first, "second": second}.items():
        if not tensor.is_contiguous():
            raise ShapeError(
                f"{name} must be contiguous to be changed in place, got strides "
                f"{tensor.stride()} for shape {list(tensor.shape)}; keep it as one block of memory."
            )
    rate = (lr.to(torch.float64) / (1 - betas[0] ** step)).to(torch.float32)
    launch(
        _adam,
        (members * rows,),
        parameter,
        parameter=parameter,
        grad=grad.contiguous(),
        first=first,
        second=second,
        rate=rate,
        accept=accept.to(torch.int32),
        scale=rate if scale is None else scale.to(torch.float32).contiguous(),
        radial=rate if radial is None else radial.contiguous(),
        weight1=1 - betas[0],
        weight2=1 - betas[1],
        root=math.sqrt(1 - betas[1] ** step),
        eps=eps,
        rows=rows,
        d_in=d_in,
        SCALE=scale is not None,
        RADIAL=radial is not None,
        UNIT=unit,
        TILE=tile_of(d_in),
    )


@triton.jit
@no_type_check
def _norms(
    grad,
    direction,
    radial,
    square,
    d_in,
    UNIT: tl.constexpr,
    TILE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    along = tl.zeros((TILE,), dtype=tl.float32)
    if UNIT:
        for start in range(0, d_in, TILE):
            d = start + tl.arange(0, TILE)
            g = tl.load(grad + row * d_in + d, mask=d < d_in, other=0).to(tl.float32)
            p = tl.load(direction + row * d_in + d, mask=d < d_in, other=0).to(tl.float32)
            along += g * p
    rho = tl.sum(along, axis=0)
    total = tl.zeros((TILE,), dtype=tl.float32)
    for start in range(0, d_in, TILE):
        d = start + tl.arange(0, TILE)
        g = tl.load(grad + row * d_in + d, mask=d < d_in, other=0).to(tl.float32)
        if UNIT:
            p = tl.load(direction + row * d_in + d, mask=d < d_in, other=0).to(tl.float32)
            g = g - rho * p
        total += g * g
    tl.store(radial + row, rho)
    tl.store(square + row, tl.sum(total, axis=0))


@triton.jit
@no_type_check
def _adam(
    parameter,
    grad,
    first,
    second,
    rate,
    accept,
    scale,
    radial,
    weight1,
    weight2,
    root,
    eps,
    rows,
    d_in,
    SCALE: tl.constexpr,
    RADIAL: tl.constexpr,
    UNIT: tl.constexpr,
    TILE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    member = row // rows
    # a refused gradient may be NaN: it is not even read
    movable = tl.where(tl.load(accept + member) != 0, d_in, 0)
    eta = tl.load(rate + member)
    total = tl.zeros((TILE,), dtype=tl.float32)
    for start in range(0, d_in, TILE):
        d = start + tl.arange(0, TILE)
        place = row * d_in + d
        inside = d < d_in
        moves = d < movable
        p = tl.load(parameter + place, mask=inside, other=0).to(tl.float32)
        g = tl.load(grad + place, mask=moves, other=0).to(tl.float32)
        if RADIAL:
            g = g - tl.load(radial + row) * p
        if SCALE:
            g = g * tl.load(scale + member)
        m = tl.load(first + place, mask=moves, other=0).to(tl.float32)
        v = tl.load(second + place, mask=moves, other=0).to(tl.float32)
        m += weight1 * (g - m)
        v += weight2 * (g * g - v)
        moved = p - eta * m / (tl.sqrt(v) / root + eps)
        p = tl.where(moves, moved, p)
        tl.store(first + place, m, mask=moves)
        tl.store(second + place, v, mask=moves)
        tl.store(parameter + place, p, mask=moves)
        total += p * p
    if UNIT:
        length = tl.maximum(tl.sqrt(tl.sum(total, axis=0)), 1e-12)
        # one thread may read what another wrote
        tl.debug_barrier()
        for start in range(0, d_in, TILE):
            d = start + tl.arange(0, TILE)
            place = row * d_in + d
            p = tl.load(parameter + place, mask=d < d_in, other=0).to(tl.float32)
            tl.store(parameter + place, p / length, mask=d < d_in)
