r"""What a judge's answers are worth beyond chance."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well one latent's explanation tells two kinds of contexts apart."""

    corrected: float
    """Balanced accuracy corrected for chance: 0 for a judge that cannot tell, 1 for one that can,
    -1 for one that is always wrong."""
    auc: float | None
    """2 AUC - 1; None if the judge gives no degrees."""
    sensitivity: float
    """Share of the right contexts that were accepted."""
    specificity: float
    """Share of the wrong contexts that were refused."""
    unreadable: float
    """Share of answers that could not be read."""
    n: tuple[int, int]
    """How many contexts of either kind."""

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields."""
        return asdict(self) | {"n": list(self.n)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Score":
        """What `to_json` wrote."""
        return cls(**(content | {"n": tuple(content["n"])}))


def score(
    right: Sequence[float | None], wrong: Sequence[float | None], *, graded: bool
) -> Score | None:
    r"""Score the answers on contexts that deserve a yes and on contexts that deserve a no.

    $$ 2 \cdot \tfrac12 \Big( \frac{\text{accepted right}}{n_{right}}
       + \frac{\text{refused wrong}}{n_{wrong}} \Big) - 1. $$

    A judge that always answers the same, whichever it is and however many contexts of either kind
    there are, scores 0; plain accuracy gives a judge that always says "none of them" the share of
    wrong contexts, 10/14 in SAEBench 0.6.0. An answer that cannot be read counts as no.

    **Arguments:**
    - `right`, `wrong`: answers as `Judge` gives them.
    - `graded`: whether they have an order, for the AUC; equal answers count half.

    **Returns:** None if either kind has no context.

    >>> none_of_them = score([-1.0] * 4, [-1.0] * 10, graded=False)
    >>> none_of_them.corrected
    0.0
    """
    if not right or not wrong:
        return None
    accepted = sum(1 for each in right if each is not None and each > 0) / len(right)
    refused = sum(1 for each in wrong if each is None or each <= 0) / len(wrong)
    answers = [*right, *wrong]
    return Score(
        corrected=accepted + refused - 1,
        auc=_order(right, wrong) if graded else None,
        sensitivity=accepted,
        specificity=refused,
        unreadable=sum(each is None for each in answers) / len(answers),
        n=(len(right), len(wrong)),
    )


def _order(right: Sequence[float | None], wrong: Sequence[float | None]) -> float:
    """Share of pairs in the right order less that in the wrong one; ties are neither."""
    total = 0
    for a in right:
        for b in wrong:
            first = -math.inf if a is None else a
            second = -math.inf if b is None else b
            total += (first > second) - (first < second)
    return total / (len(right) * len(wrong))
