"""Who is whose parent: at most one parent each, and no circles."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor

from latent_assay.errors import WorldError


@dataclass(frozen=True)
class Forest:
    """A checked parent structure.

    **Raises:** `WorldError` if a parent does not exist or features descend from themselves.
    """

    parents: tuple[int | None, ...]
    """Each feature's parent; `None` for a root."""

    def __post_init__(self) -> None:
        n = len(self.parents)
        for child, parent in enumerate(self.parents):
            if parent is not None and not 0 <= parent < n:
                raise WorldError(
                    f"feature {child} has parent {parent}, but there are only features 0 to "
                    f"{n - 1}. Use None for a feature without a parent."
                )
        if len(self.order) < n:
            lost = min(set(range(n)) - set(self.order))
            raise WorldError(
                f"feature {lost} descends from itself: its parents form a circle. "
                "Remove one of the links of the circle."
            )

    @classmethod
    def of(cls, parents: Sequence[int | None], n_features: int) -> "Forest":
        """A forest over `n_features`, from whatever sequence of parents."""
        checked = tuple(None if parent is None else int(parent) for parent in parents)
        if len(checked) != n_features:
            raise WorldError(
                f"`parents` has {len(checked)} entries for {n_features} features. "
                "Give one entry for each feature, None for a feature without a parent."
            )
        return cls(checked)

    @classmethod
    def flat(cls, n_features: int) -> "Forest":
        """No feature has a parent."""
        return cls((None,) * n_features)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Each feature's children, in ascending order."""
        found: list[list[int]] = [[] for _ in self.parents]
        for child, parent in enumerate(self.parents):
            if parent is not None:
                found[parent].append(child)
        return tuple(tuple(each) for each in found)

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """The features without a parent."""
        return tuple(i for i, parent in enumerate(self.parents) if parent is None)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """All features, parents before children, generation by generation."""
        found = list(self.roots)
        for feature in found:  # grows while it is walked
            found.extend(self.children[feature])
        return tuple(found)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """How many ancestors each feature has."""
        depth = [0] * len(self.parents)
        for feature in self.order:
            parent = self.parents[feature]
            if parent is not None:
                depth[feature] = depth[parent] + 1
        return tuple(depth)

    @property
    def links(self) -> list[tuple[int, int]]:
        """Every (parent, child)."""
        return [(p, child) for child, p in enumerate(self.parents) if p is not None]

    def jumps(self) -> list[Int64[Tensor, " feature"]]:
        r"""For each feature its ancestor 1, 2, 4, ... generations up; a root stays where it is.

        Combining each feature with its $2^k$-th ancestor for $k = 0, 1, \dots$ reaches every
        ancestor in as many steps as the depth has binary digits, without a loop over
        generations.
        """
        jump = torch.tensor([i if p is None else p for i, p in enumerate(self.parents)])
        found = []
        reach, depth = 1, max(self.depths)
        while reach <= depth:
            found.append(jump)
            jump = jump[jump]
            reach *= 2
        return found


def equally_long(groups: Sequence[Sequence[int]]) -> list[list[int]]:
    """The places of groups in `groups`, gathered by the groups' length, shortest first."""
    places: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(len(group), []).append(place)
    return [places[length] for length in sorted(places)]
