"""Every pattern of firing that can occur, with its probability."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from latent_assay.errors import WorldError

PATTERN_LIMIT = 2**20
# Bits in one word of a pattern's code; int64 has 63 that do not touch the sign.
WORD = 62


@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns:
    """The finite support of a firing law."""

    firing: Bool[Tensor, "pattern feature"]
    """Which features fire in each pattern."""
    probability: Float64[Tensor, " pattern"]
    """How probable each pattern is; they sum to 1."""

    def merged(self) -> "Patterns":
        """The same law with equal patterns joined, impossible ones dropped, and in fixed order.

        The order is that of binary numbers with feature 0 as the highest digit.
        """
        possible = self.probability > 0
        firing, probability = self.firing[possible], self.probability[possible]
        words = _words(firing)
        if words.shape[1] == 1:  # far faster than sorting rows
            distinct, which = words[:, 0].unique(return_inverse=True)
        else:
            distinct, which = words.unique(dim=0, return_inverse=True)
        count = distinct.shape[0]
        representative = torch.empty(count, dtype=torch.int64)
        representative[which] = torch.arange(which.numel())
        total = torch.zeros(count, dtype=torch.float64).index_add_(0, which, probability)
        return Patterns(firing=firing[representative], probability=total)


def expanded(
    order: Iterable[int],
    n_features: int,
    chance: Callable[[int, Bool[Tensor, "pattern feature"]], Float64[Tensor, " pattern"]],
    limit: int,
) -> Patterns:
    r"""Grow all patterns one feature at a time, by the chain rule.

    $$P(a) = \prod_j P(a_j \mid \text{features before } j)$$

    Branches of probability zero are never grown, so a hierarchy has far fewer patterns than
    $2^n$.

    **Arguments:**
    - `order`: the features, each after those that its chance depends on.
    - `n_features`: their number.
    - `chance`: given a feature and the patterns grown so far (later features silent), the
      probability that the feature fires in each.
    - `limit`: the greatest number of patterns allowed.

    **Raises:** `WorldError` if there are more than `limit`.
    """
    firing = torch.zeros(1, n_features, dtype=torch.bool)
    probability = torch.ones(1, dtype=torch.float64)
    for feature in order:
        fires = chance(feature, firing)
        on, off = fires > 0, fires < 1
        check_limit(int(on.sum() + off.sum()), limit)
        fired = firing[on]
        fired[:, feature] = True
        firing = torch.cat([firing[off], fired])
        probability = torch.cat([probability[off] * (1 - fires[off]), probability[on] * fires[on]])
    return Patterns(firing=firing, probability=probability)


def check_limit(count: int, limit: int) -> None:
    """Refuse more patterns than were allowed."""
    if count > limit:
        raise WorldError(
            f"this world has at least {count:,} firing patterns, more than the limit of "
            f"{limit:,}. Sample it instead, use fewer features, or pass a higher `limit` if the "
            "memory suffices."
        )


def _words(firing: Bool[Tensor, "pattern feature"]) -> Int64[Tensor, "pattern word"]:
    """Each pattern as a binary number, cut into words."""
    columns = []
    for start in range(0, firing.shape[1], WORD):
        word = torch.zeros(firing.shape[0], dtype=torch.int64)
        for feature in range(start, min(start + WORD, firing.shape[1])):
            word = word * 2 + firing[:, feature]
        columns.append(word)
    return torch.stack(columns, dim=1)
