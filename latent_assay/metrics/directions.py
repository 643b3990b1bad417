"""Cosines between directions: of latents, and of true features."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import DataError, ShapeError
from latent_assay.metrics.samples import readable, shape_of

_ENTRIES = 2**25
"""Entries of a cosine map that are held at once where the whole map is not the result."""


def unit_rows(rows: Float[Tensor, "*member row d_in"], name: str) -> Tensor:
    """Rows divided by their length, in float64; zero rows stay zero.

    **Raises:** `DataError` if a row is not finite; `ShapeError` if there is no row.
    """
    if rows.dim() < 2 or 0 in rows.shape[-2:]:
        raise ShapeError(
            f"`{name}` has shape {shape_of(rows)}; expected [..., number of directions, d_in] "
            "with at least one direction."
        )
    rows = readable(rows).double()
    if not bool(rows.isfinite().all()):
        bad = (~rows.isfinite()).any(-1).nonzero()[0].tolist()
        raise DataError(
            f"`{name}` is not finite at index {bad}; a direction must be made of finite numbers. "
            "Did that member's training diverge? Leave it out of the comparison."
        )
    # Dividing by the largest entry first keeps very short and very long rows from under- or
    # overflowing when they are squared.
    largest = rows.abs().amax(-1, keepdim=True)
    rows = rows / torch.where(largest > 0, largest, 1.0)
    length = rows.norm(dim=-1, keepdim=True)
    return rows / torch.where(length > 0, length, 1.0)


def check_d_in(latents: Tensor, features: Tensor) -> None:
    """Raise `ShapeError` unless both kinds of directions live in the same space."""
    same_space = latents.shape[-1] == features.shape[-1]
    if not same_space or features.shape[:-2] not in (torch.Size([]), latents.shape[:-2]):
        raise ShapeError(
            f"directions of shape {shape_of(latents)} cannot be compared with features of shape "
            f"{shape_of(features)}; expected [*member, latent, d_in] beside [feature, d_in] or "
            "[*member, feature, d_in] with the same d_in. Were both read at the same hook point?"
        )


def row_chunks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of rows whose map onto `columns` columns fits in memory."""
    step = max(1, _ENTRIES // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def cosine_map(
    directions: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "*lead feature d_in"],
) -> Float64[Tensor, "*member latent feature"]:
    r"""Cosine of every latent's direction with every true feature.

    $$C_{ji} = \cos(d_j, f_i)$$

    Holds latent × feature numbers of 8 bytes for each member; `recovery`, `mmcs`, `uniqueness` and
    `nearest_feature` need only a part of it at a time.

    **Arguments:**
    - `directions`: decoder rows; for encoder rows see `encoder_cosine_map`. A zero row (a dead or
      padded latent) has cosine 0 with everything.
    - `features`: true directions of any length, shared or with the same leading axes.

    **Returns:** cosines in [-1, 1].

    **Raises:** `ShapeError` if d_in differs; `DataError` for directions that are not finite.

    >>> cosine_map(torch.eye(2)[None], torch.tensor([[3.0, 4.0]])).tolist()
    [[[0.6], [0.8]]]
    """
    check_d_in(directions, features)
    cosines = unit_rows(directions, "directions") @ unit_rows(features, "features").mT
    return cosines.clamp(-1, 1)


def project_on_span(
    directions: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "feature d_in"],
) -> Float64[Tensor, "*member latent d_in"]:
    r"""The part of each direction that lies in the span of the features.

    $$P W, \quad P = \text{orthogonal projector onto } \mathrm{span}(f_1, f_2, \dots)$$

    If the data lie in the span of the features, the part of an encoder row orthogonal to it meets
    only zeros: it changes no latent activation, gets no gradient, and keeps its initial noise for
    ever. Cosines taken before projecting then understate the encoder, by far when the span is a
    small part of the space. A decoder needs no projection: what it writes outside the span is an
    error that training removes.

    **Arguments:**
    - `directions`: encoder rows.
    - `features`: true directions; repeated and dependent ones do no harm. If they span the whole
      space, nothing changes.

    **Returns:** projected rows; one with nothing in the span but rounding is exactly 0.

    **Raises:** `ShapeError` if d_in differs; `DataError` for directions that are not finite.

    >>> project_on_span(torch.tensor([[[1.0, 5.0]]]), torch.tensor([[2.0, 0.0]])).tolist()
    [[[1.0, 0.0]]]
    """
    check_d_in(directions, features)
    _, strength, basis = torch.linalg.svd(unit_rows(features, "features"), full_matrices=False)
    precision = torch.finfo(torch.promote_types(directions.dtype, features.dtype)).eps
    tolerance = max(features.shape) * precision
    basis = basis[strength > strength.amax() * tolerance]
    unit_rows(directions, "directions")  # refuses what is not finite
    rows = readable(directions).double()
    inside = (rows @ basis.mT) @ basis
    rounding = inside.norm(dim=-1, keepdim=True) <= tolerance * rows.norm(dim=-1, keepdim=True)
    return torch.where(rounding, 0.0, inside)


def encoder_cosine_map(
    encoder: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "feature d_in"],
) -> Float64[Tensor, "*member latent feature"]:
    r"""Cosine of every encoder row, projected on the span of the features, with every feature.

    $$C_{ji} = \cos(P e_j, f_i)$$

    See `project_on_span` for why encoder rows must be projected first: noise orthogonal to the data
    gets no gradient and persists.

    **Arguments:**
    - `encoder`: encoder rows. One with no part in the span has cosine 0 with every feature.
    - `features`: true directions of any length.

    **Returns:** cosines in [-1, 1].

    **Raises:** `ShapeError` if d_in differs; `DataError` for directions that are not finite.

    >>> encoder_cosine_map(torch.tensor([[[1.0, 5.0]]]), torch.tensor([[2.0, 0.0]])).item()
    1.0
    """
    return cosine_map(project_on_span(encoder, features), features)


def encoder_decoder_cosine(
    encoder: Float[Tensor, "*member latent d_in"],
    decoder: Float[Tensor, "*member latent d_in"],
) -> Float64[Tensor, "*member latent"]:
    r"""Cosine of each latent's encoder row with its own decoder row.

    $$c_j = \cos(e_j, d_j)$$

    1 for a tied SAE. Where the data span only a part of the space, project the encoder with
    `project_on_span` first.

    **Arguments:**
    - `encoder`, `decoder`: rows of the same latents. A zero row has cosine 0.

    **Returns:** cosines in [-1, 1].

    **Raises:** `ShapeError` if the shapes differ; `DataError` for rows that are not finite.

    >>> encoder_decoder_cosine(torch.eye(2), torch.tensor([[2.0, 0.0], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    if encoder.shape != decoder.shape:
        raise ShapeError(
            f"`encoder` has shape {shape_of(encoder)} and `decoder` {shape_of(decoder)}; expected "
            "the same, [*member, latent, d_in], rows being latents in both."
        )
    cosines = (unit_rows(encoder, "encoder") * unit_rows(decoder, "decoder")).sum(-1)
    return cosines.clamp(-1, 1)
