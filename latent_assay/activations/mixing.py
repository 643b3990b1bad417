r"""How well a stream is shuffled, measured.

Rows of one context resemble each other, so a batch with many of them teaches less than its size.
Two numbers tell how far a stream is from that, for rows whose place in the text is known:

- *company*: how many other rows of its batch come, on average, from a row's own context. Unshuffled
  text has $\min(T, B) - 1$ for contexts of $T$ rows; rows drawn at random from a window of $M$ rows
  have about $(T - 1)\, B / M$.
- *order*: the correlation between how far apart two rows of a batch stand in it and in the text.
  Zero if a batch's order says nothing about the text's, one for unshuffled text.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from latent_assay.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How well a stream is shuffled."""

    company: float
    """Mean number of other rows of a batch from a row's own context."""
    order: float
    """Correlation of distances in the batch with distances in the text, over neighbours and far
    rows alike."""
    span: float
    """Mean over batches of the standard deviation of the rows' places in the text, in rows."""
    n_batches: int
    """Number of batches that were measured."""


def mixing(origins: Iterable[Int[Tensor, "batch 2"]]) -> Mixing:
    """Measure how well batches are mixed.

    **Arguments:**
    - `origins`: for each batch the context number and row number of each of its rows, as
      `LiveStream.next_with_origin` gives them.

    **Raises:** `DataError` without a batch of at least three rows.

    >>> text = torch.arange(64)
    >>> unshuffled = torch.stack([text // 16, text], dim=1)
    >>> found = mixing(unshuffled.split(32))
    >>> found.company, round(found.order, 3)
    (15.0, 1.0)
    """
    company, order, span = [], [], []
    for origin in origins:
        context, row = origin.double().unbind(dim=1)
        if len(row) < 3:
            continue
        _, counts = context.unique(return_counts=True)
        company.append(float((counts * (counts - 1)).sum() / len(row)))
        first, second = torch.triu_indices(len(row), len(row), offset=1)
        if len(first) > 2**16:  # enough pairs, evenly taken
            step = len(first) // 2**16
            first, second = first[::step], second[::step]
        here, there = (second - first).double(), (row[second] - row[first]).abs()
        order.append(float(torch.corrcoef(torch.stack([here, there]))[0, 1]))
        span.append(float(row.std()))
    if not company:
        raise DataError("no batch of at least three rows was given; there is nothing to measure.")
    n = len(company)
    return Mixing(company=sum(company) / n, order=sum(order) / n, span=sum(span) / n, n_batches=n)
