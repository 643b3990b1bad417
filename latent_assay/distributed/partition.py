"""Which latents each rank holds."""

from collections.abc import Iterable
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from latent_assay.errors import ConfigError


class Partition:
    """Deals latents out to ranks, so that every prefix that matters is spread evenly.

    Of the first b latents, for every bound b, each rank holds as many as any other, give or take
    one. A contiguous cut would give the first matryoshka levels to the first rank alone.

    Ranks hold latents in their order, so a prefix of all is a prefix of each rank's.

    >>> cut = Partition(8, number=2, bounds=(3,))
    >>> [cut.rows(rank).tolist() for rank in range(2)]
    [[0, 1, 3, 4], [2, 5, 6, 7]]
    >>> [cut.below(rank, 3) for rank in range(2)]
    [2, 1]

    **Arguments:**
    - `width`: number of latents.
    - `number`: number of ranks.
    - `bounds`: ends of the prefixes: matryoshka levels, and widths of narrower members.

    **Raises:** `ConfigError` if there are fewer latents than ranks.
    """

    def __init__(self, width: int, *, number: int, bounds: Iterable[int] = ()):
        if number < 1 or width < number:
            raise ConfigError(
                f"{width} latents cannot be divided over {number} ranks: each needs at least one. "
                "Start fewer processes."
            )
        self.width = width
        self.number = number
        ends = sorted({each for each in bounds if 0 < each < width} | {width})
        rows: list[list[Tensor]] = [[] for _ in range(number)]
        dealt = 0  # latents that were left over so far; the next goes to rank `dealt % number`
        for start, end in pairwise((0, *ends)):
            share, rest = divmod(end - start, number)
            place = start
            for rank in range(number):
                size = share + ((rank - dealt) % number < rest)
                rows[rank].append(torch.arange(place, place + size))
                place += size
            dealt += rest
        self._rows = [torch.cat(each) for each in rows]

    @property
    def widest(self) -> int:
        """The largest number of latents that a rank holds."""
        return max(len(rows) for rows in self._rows)

    def rows(self, rank: int) -> Int[Tensor, " row"]:
        """The latents of a rank, rising."""
        return self._rows[rank]

    def below(self, rank: int, bound: int) -> int:
        """How many of the first `bound` latents a rank holds."""
        return int((self._rows[rank] < bound).sum())
