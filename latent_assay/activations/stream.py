r"""Batches of activations in random order, within bounded memory, resumable to the bit.

Rows are mixed on two levels. The store is cut into *chunks* of 256 consecutive rows; each epoch
takes the chunks in a new random order, fills a buffer of `shuffle_rows` rows with them, and gives
the buffer's rows in random order. So a batch draws on chunks from all over the store, however large
it is; if the buffer holds the whole store, the order is a uniformly random permutation.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.activations.shards import Rows
from latent_assay.errors import ConfigError

CHUNK_ROWS = 256


class ActivationStream(Iterator[Tensor]):
    """An iterator over `[batch, d_in]`, made by `ActivationStore.stream`.

    Laws: the rows given in one epoch are every row of the store exactly once; the same seed gives
    the same rows in the same order; a stream that loads the state of another goes on as that one
    would have, bit for bit. A batch may hold the end of one epoch and the beginning of the next,
    so all batches are full but the last of a finite stream.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        seed: int,
        *,
        shuffle_rows: int,
        epochs: int | None,
        scale: float,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("shuffle_rows", shuffle_rows)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; expected at least 1.")
        if epochs is not None and epochs < 1:
            raise ConfigError(f"epochs is {epochs}; expected at least 1, or None for no end.")
        if seed < 0:
            raise ConfigError(f"seed is {seed}; expected 0 or more.")
        self._rows = rows
        self._batch_size = batch_size
        self._seed = seed
        self._epochs = epochs
        self._scale = scale
        self._dtype = dtype
        self._device = device
        # a buffer that takes the whole store needs no chunks: single rows are permuted then
        whole = shuffle_rows >= rows.n_rows
        self._shuffle_rows = rows.n_rows if whole else shuffle_rows
        self._chunk = rows.n_rows if whole else min(CHUNK_ROWS, shuffle_rows)
        self._chunks_per_buffer = max(1, self._shuffle_rows // self._chunk)
        self._epoch = 0
        self._row = 0  # rows of this epoch that have been given
        self._buffer: Tensor | None = None
        self._buffer_key: tuple[int, int] | None = None  # (epoch, buffer) that it holds
        self._order: Tensor | None = None
        self._plan_of_epoch: tuple[int, list[tuple[int, Tensor]]] | None = None

    def __next__(self) -> Float[Tensor, "batch d_in"]:
        """The next batch, in the type and on the device asked for, times the scale."""
        parts: list[Tensor] = []
        missing = self._batch_size
        while missing and (self._epochs is None or self._epoch < self._epochs):
            part = self._take(missing)
            parts.append(part)
            missing -= part.shape[0]
            self._row += part.shape[0]
            if self._row == self._rows.n_rows:
                self._epoch, self._row = self._epoch + 1, 0
        if not parts:
            raise StopIteration
        batch = parts[0] if len(parts) == 1 else torch.cat(parts)
        batch = batch.to(self._device, self._dtype)
        return batch if self._scale == 1.0 else batch * self._scale

    def state_dict(self) -> dict[str, int]:
        """Where the stream is: plain integers, that JSON can hold."""
        return {
            **self._identity(),
            "epoch": self._epoch,
            "row": self._row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stream over the same rows stopped.

        **Raises:** `ConfigError` if seed, batch size, buffer or store differ, since the
        continuation would then not be the same.
        """
        for name, own in self._identity().items():
            if state.get(name) != own:
                raise ConfigError(
                    f"this stream has {name} {own} but the saved state has {state.get(name)}; "
                    "the continuation would differ. Open the stream as it was opened before."
                )
        self._epoch, self._row = int(state["epoch"]), int(state["row"])

    def _identity(self) -> dict[str, int]:
        return {
            "seed": self._seed,
            "batch_size": self._batch_size,
            "shuffle_rows": self._shuffle_rows,
            "n_rows": self._rows.n_rows,
        }

    def _take(self, at_most: int) -> Tensor:
        """Up to `at_most` rows from the buffer in which this epoch's next row lies."""
        first_row = 0
        for index, (size, chunks) in enumerate(self._plan()):
            if self._row < first_row + size:
                buffer, order = self._fill(index, chunks)
                start = self._row - first_row
                return buffer[order[start : start + at_most]]
            first_row += size
        raise AssertionError("the epoch's rows are used up")

    def _plan(self) -> list[tuple[int, Tensor]]:
        """This epoch's buffers: how many rows, which chunks."""
        if self._plan_of_epoch is None or self._plan_of_epoch[0] != self._epoch:
            n_chunks = -(-self._rows.n_rows // self._chunk)
            order = torch.randperm(n_chunks, generator=self._generator(0))
            ragged = self._rows.n_rows - (n_chunks - 1) * self._chunk
            plan = [
                (len(part) * self._chunk - (self._chunk - ragged) * int(n_chunks - 1 in part), part)
                for part in order.split(self._chunks_per_buffer)
            ]
            self._plan_of_epoch = (self._epoch, plan)
        return self._plan_of_epoch[1]

    def _fill(self, index: int, chunks: Int[Tensor, " chunk"]) -> tuple[Tensor, Tensor]:
        """The rows of a buffer and the order in which they are given."""
        key = (self._epoch, index)
        if self._buffer is None or self._order is None or self._buffer_key != key:
            if self._chunk < self._rows.n_rows or self._buffer is None:
                self._buffer = None  # let go of the old rows before the new ones are read
                parts = [
                    self._rows.read(
                        chunk * self._chunk, min((chunk + 1) * self._chunk, self._rows.n_rows)
                    )
                    for chunk in chunks.tolist()
                ]
                self._buffer = parts[0] if len(parts) == 1 else torch.cat(parts)
            self._order = torch.randperm(len(self._buffer), generator=self._generator(1 + index))
            self._buffer_key = key
        return self._buffer, self._order

    def _generator(self, purpose: int) -> torch.Generator:
        """Independent randomness per seed, epoch and purpose: any point is reached at once."""
        words = np.random.SeedSequence([self._seed, self._epoch, purpose]).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
