r"""Rows of activations waiting for their turn, in a fixed number of slots.

Text arrives in *chunks* of up to $C$ rows; rows leave in *turns*. A chunk is dealt out at random,
in equal shares, over the next $W = 31$ turns, and a turn gives what was dealt to it in random
order. So a turn mixes 31 chunks, a row waits for at most 31 turns, and at any time the ring holds

$$ C \left(1 + \tfrac{W-1}{W} + \dots + \tfrac{1}{W}\right) = \tfrac{W+1}{2}\, C = 16\, C $$

rows: it never grows. The first 16 chunks are mixed together and dealt out in falling shares, as if
the ring had been turning for ever, so the first batch is a random draw from all of them.

Two rows of a context come in the same batch of $B$ rows with probability $B / (W C) = B / (1.94 R)$
for a ring of $R = 16\, C$ rows: as often as if batches were drawn at random from a reservoir of
$R$ rows. But a reservoir's rows may wait for ever, while here nothing that was read more than 31
chunks ago matters: to build a ring up again, these are read again, and no more.

Dealing depends on nothing but the seed and the number of the chunk, never on when it arrived.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

WINDOW = 31
"""Over how many turns a chunk is dealt out."""
FIRST = (WINDOW + 1) // 2
"""How many chunks are read before the first turn: as many as the ring holds."""
_DEAL, _ORDER = 0, 1


def chunk_rows(ring_rows: int) -> int:
    """The most rows of a chunk, for a ring of at most so many rows; 0 if it is too small."""
    return ring_rows // (FIRST * WINDOW) * WINDOW


class Ring:
    """Slots for rows of several hook points, aligned: one slot is one token.

    **Arguments:**
    - `widths`: length of the rows of each hook point.
    - `chunk_rows`: the most rows of a chunk; a multiple of `WINDOW`.
    - `seed`: of the order in which rows are given.
    - `dtype`: type in which they are kept.
    - `turn`: the first turn that will be asked for; rows dealt to earlier ones are dropped.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        *,
        chunk_rows: int,
        seed: int,
        dtype: torch.dtype,
        turn: int = 0,
    ) -> None:
        self.n_slots = FIRST * chunk_rows
        self.turn = turn
        self._seed = seed
        self._values = {
            name: torch.empty(self.n_slots, width, dtype=dtype) for name, width in widths.items()
        }
        self._origin = torch.empty(self.n_slots, 2, dtype=torch.int64)
        self._free = torch.arange(self.n_slots)
        self._n_free = self.n_slots
        self._dealt: dict[int, list[Tensor]] = {}
        self._first: list[Tensor] | None = [] if turn < WINDOW else None

    @property
    def n_rows(self) -> int:
        """Number of rows that are waiting."""
        return self.n_slots - self._n_free

    def add(
        self,
        chunk: int,
        rows: Mapping[str, Float[Tensor, "row d_in"]],
        origin: Int[Tensor, "row 2"],
    ) -> None:
        """Write a chunk into free slots and deal it out.

        **Arguments:**
        - `chunk`: its number; chunks come in order.
        - `rows`: of each hook point, as many.
        - `origin`: for each row the number of its context, and its own.
        """
        n = len(origin)
        if chunk < FIRST and self._first is not None:
            self._first.append(self._write(rows, origin, torch.arange(n)))
            if chunk == FIRST - 1:
                self.deal_first()
            return
        order = torch.randperm(n, generator=self._generator(chunk, _DEAL))
        # rounded up, so that what stays never exceeds its share of the slots
        bounds = [-(-n * i // WINDOW) for i in range(WINDOW + 1)]
        first_turn = chunk - FIRST + 1
        for i in range(WINDOW):
            if first_turn + i >= self.turn:
                part = order[bounds[i] : bounds[i + 1]]
                self._deal(first_turn + i, self._write(rows, origin, part))

    def deal_first(self) -> None:
        """Deal out the chunks before the first turn; called by itself unless text ends early."""
        if self._first is None:
            return
        slots = torch.cat(self._first) if self._first else torch.empty(0, dtype=torch.int64)
        self._first = None
        slots = slots[torch.randperm(len(slots), generator=self._generator(0, _DEAL))]
        shares = np.cumsum([0, *range(WINDOW, 0, -1)])
        bounds = [-(-len(slots) * int(share) // int(shares[-1])) for share in shares]
        for i in range(WINDOW):
            part = slots[bounds[i] : bounds[i + 1]]
            if i >= self.turn:
                self._deal(i, part)
            else:
                self._release(part)

    def order(self) -> Int[Tensor, " slot"]:
        """The slots that are due in this turn, in the order in which they are to be given."""
        slots = self._dealt.get(self.turn, [])
        due = torch.cat(slots) if slots else torch.empty(0, dtype=torch.int64)
        return due[torch.randperm(len(due), generator=self._generator(self.turn, _ORDER))]

    def next_turn(self) -> None:
        """Free the slots of this turn and go on to the next."""
        for slots in self._dealt.pop(self.turn, []):
            self._release(slots)
        self.turn += 1

    def read(self, name: str, slots: Int[Tensor, " slot"]) -> Float[Tensor, "slot d_in"]:
        """What is in some slots, for one hook point."""
        return self._values[name][slots]

    def origin(self, slots: Int[Tensor, " slot"]) -> Int[Tensor, "slot 2"]:
        """Context number and row number of what is in some slots."""
        return self._origin[slots]

    def _write(
        self, rows: Mapping[str, Tensor], origin: Tensor, part: Int[Tensor, " row"]
    ) -> Int[Tensor, " slot"]:
        n = len(part)
        if n > self._n_free:
            raise AssertionError(f"{n} rows for {self._n_free} free slots")
        slots = self._free[self._n_free - n : self._n_free].clone()
        self._n_free -= n
        for name, values in self._values.items():
            values[slots] = rows[name][part].to(values.dtype)
        self._origin[slots] = origin[part]
        return slots

    def _deal(self, turn: int, slots: Tensor) -> None:
        self._dealt.setdefault(turn, []).append(slots)

    def _release(self, slots: Tensor) -> None:
        self._free[self._n_free : self._n_free + len(slots)] = slots
        self._n_free += len(slots)

    def _generator(self, number: int, purpose: int) -> torch.Generator:
        words = np.random.SeedSequence([self._seed, number, purpose]).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
