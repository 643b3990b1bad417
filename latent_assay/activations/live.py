"""Shuffled batches straight from a model and text, without a disk, resumable to the bit.

    text ──► chunks of rows ──► ring ──► batches
            (a thread, beside training)

A thread reads the text chunk by chunk; the ring (`activations.ring`) mixes 31 chunks at a time
within fixed memory. What a batch holds depends on the text, the model and the settings, never on
how fast either side runs.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.activations.ahead import Ahead
from latent_assay.activations.chunks import Calibration, Chunk, ChunkReader, Position
from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.live_config import LiveConfig
from latent_assay.activations.ring import FIRST, WINDOW, Ring
from latent_assay.activations.text import TextInput, text_source
from latent_assay.errors import ConfigError, DataError

_BEHIND = WINDOW - FIRST  # the first chunk that turn t >= WINDOW still draws on is t - _BEHIND


class LiveStream(Iterator[dict[str, Tensor]]):
    """An iterator over `{hook point: [batch, d_in]}`; `at` gives `[batch, d_in]` for `fit`.

    Laws: every row of an epoch is given exactly once, rows of different hook points in a batch are
    aligned (row i is the same token), the same settings give the same batches with or without the
    thread, and a stream that loads the state of another goes on as that one would have, bit for
    bit. To do so it reads again the text that was waiting in the ring: at most 46 chunks, less
    than three times the ring's rows.

    A batch may hold the end of one epoch and the beginning of the next, so all batches are full but
    the last of a finite stream.
    """

    def __init__(self, model: LanguageModel, documents: TextInput, config: LiveConfig) -> None:
        """Verify the hook points; nothing else is read before the first batch.

        **Arguments:**
        - `model`: the model.
        - `documents`: anything that `text_source` takes and that can be read more than once.
        - `config`: how it is read.

        **Raises:** `HookError` for an unknown or unverifiable hook point, `ConfigError` for
        impossible settings, `DataError` for text that can be read only once.
        """
        source = text_source(documents)
        if not source.can_be_read_again:
            raise DataError(
                "a generator can be read only once, so a stream over it can neither be calibrated "
                "nor resumed. Give a list, a file, a folder or a data set."
            )
        self.config = config
        """How it is read."""
        self.reader = ChunkReader(model, source, config, config.chunk_rows(model))
        """Reads the text."""
        self.widths = {name: model.d_in(name) for name in config.hook_points}
        """Length of the rows of each hook point."""
        self.checks = model.verify(list(config.hook_points))
        """How each hook point was verified."""
        self._text = source.describe()
        self._calibration: dict[str, Calibration] | None = None
        self._levels: dict[str, list[float | None]] | None = None  # threshold and mean length
        self._positions: dict[int, Position] = {0: Position()}
        self._turn = 0
        self._row = 0  # rows of this turn that have been given
        self._ring: Ring | None = None
        self._order: Tensor | None = None
        self._chunks: Iterator[Chunk] | None = None

    # --- batches ----------------------------------------------------------------------------------

    def __next__(self) -> dict[str, Float[Tensor, "batch d_in"]]:
        """The next batch of every hook point, aligned."""
        return self._next(self.config.hook_points)[0]

    def next_with_origin(self) -> tuple[dict[str, Tensor], Int[Tensor, "batch 2"]]:
        """The next batch, and for each row the number of its context and its own, in the text."""
        return self._next(self.config.hook_points)

    def at(self, *hook_points: str) -> "LiveView":
        """The same stream as an iterator over tensors.

        **Arguments:**
        - `hook_points`: one name for `[batch, d_in]`; several, of the same d_in, for
          `[member, batch, d_in]` with one member each, so that one ensemble is trained on several
          layers at the cost of one forward pass. A name may be repeated.

        **Raises:** `ConfigError` for a name that is not streamed, or unequal lengths.
        """
        return LiveView(self, hook_points)

    def _next(self, names: tuple[str, ...]) -> tuple[dict[str, Tensor], Tensor]:
        ring = self._started()
        missing = self.config.batch_size
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        origin: list[Tensor] = []
        while missing:
            slots = self._due(ring, missing)
            if slots is None:
                break
            # read before the turn ends, because its slots are written anew
            for name in parts:
                parts[name].append(ring.read(name, slots))
            origin.append(ring.origin(slots))
            missing -= len(slots)
            self._row += len(slots)
        if not origin:
            raise StopIteration
        return {
            name: self._finished(name, part[0] if len(part) == 1 else torch.cat(part))
            for name, part in parts.items()
        }, torch.cat(origin)

    def _finished(self, name: str, x: Tensor) -> Tensor:
        x = x.to(self.config.device, self.config.dtype)
        scale = self.scale(name)
        return x if scale == 1.0 else x * scale

    def _due(self, ring: Ring, at_most: int) -> Tensor | None:
        """Slots to give next; None when the text has ended and the ring is empty."""
        while True:
            if self._order is None:
                self._order = ring.order()
            slots = self._order[self._row : self._row + at_most]
            if len(slots):
                return slots
            ring.next_turn()
            self._turn, self._row, self._order = ring.turn, 0, None
            added = self._add_chunk(ring)
            if not added and ring.n_rows == 0:
                return None

    def _started(self) -> Ring:
        if self._ring is None:
            self._ring = Ring(
                self.widths,
                chunk_rows=self.reader.chunk_rows,
                seed=self.config.seed,
                dtype=self.config.buffer_dtype,
                turn=self._turn,
            )
            reader, number = self.reader, self._from_chunk()
            position, thresholds = self._positions[number], self._thresholds()
            if self.config.background:
                self._chunks = Ahead(lambda: reader.chunks(number, position, thresholds))
            else:
                self._chunks = reader.chunks(number, position, thresholds)
            for _ in range(number, FIRST + self._turn):
                if not self._add_chunk(self._ring):
                    break
        return self._ring

    def _add_chunk(self, ring: Ring) -> bool:
        assert self._chunks is not None
        chunk = next(self._chunks, None)
        if chunk is None:
            ring.deal_first()
            return False
        self._positions[chunk.number] = chunk.position
        needed = min(self._from_chunk(), chunk.number)
        self._positions = {n: p for n, p in self._positions.items() if n >= needed}
        ring.add(chunk.number, chunk.rows, chunk.origin)
        return True

    def close(self) -> None:
        """Stop reading; the next batch, if one is asked for, starts it again."""
        if isinstance(self._chunks, Ahead):
            self._chunks.close()
        self._ring = self._order = self._chunks = None

    # --- what the beginning of the text tells -----------------------------------------------------

    @property
    def calibration(self) -> dict[str, Calibration]:
        """What the first 16,384 tokens tell about each hook point: lengths, mean, threshold."""
        if self._calibration is None:
            self._calibration = self.reader.calibrate()
        return self._calibration

    def scale(self, hook_point: str) -> float:
        r"""The factor by which rows are multiplied.

        1, or with `normalise` $\sqrt{d_{in}}$ over the mean length.
        """
        if not self.config.normalise:
            return 1.0
        mean_norm = self._known_levels()[hook_point][1]
        if not mean_norm:
            raise DataError(
                f"every activation at `{hook_point}` is zero, so no scale makes them longer. "
                "Choose another hook point."
            )
        return float(self.widths[hook_point] ** 0.5 / mean_norm)

    def _known_levels(self) -> dict[str, list[float | None]]:
        if self._levels is None:
            self._levels = {n: [c.threshold, c.mean_norm] for n, c in self.calibration.items()}
        return self._levels

    def _thresholds(self) -> dict[str, float | None]:
        if not self.config.skip_norm_outliers:
            return dict.fromkeys(self.config.hook_points)
        return {name: levels[0] for name, levels in self._known_levels().items()}

    # --- resuming ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: a few numbers and words, that JSON can hold."""
        number = self._from_chunk()
        return {
            **self._identity(),
            "turn": self._turn,
            "row": self._row,
            "chunk": number,
            "position": asdict(self._positions[number]),
            "levels": self._levels,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stream stopped.

        **Raises:** `ConfigError` if model, text or a setting differs, since the continuation would
        then not be the same.
        """
        for name, own in self._identity().items():
            if state.get(name) != own:
                raise ConfigError(
                    f"this stream has {name} {own} but the saved state has {state.get(name)}; "
                    "the continuation would differ. Open the stream as it was opened before."
                )
        self.close()
        self._turn, self._row = int(state["turn"]), int(state["row"])
        self._positions = {int(state["chunk"]): Position(**state["position"])}
        self._levels = state["levels"]

    def _from_chunk(self) -> int:
        """The first chunk that this turn still draws on, or the last one that is known."""
        first = 0 if self._turn < WINDOW else self._turn - _BEHIND
        return min(first, max(self._positions))

    def _identity(self) -> dict[str, Any]:
        known = self._text["hash"] is not None
        return {
            "model": self.reader.model.fingerprint,
            # the same text may have moved: where there is a hash, the name does not count
            "text": {k: v for k, v in self._text.items() if not (known and k == "location")},
            "chunk_rows": self.reader.chunk_rows,
            **self.config.decides_batches(),
        }


class LiveView(Iterator[Tensor]):
    """A `LiveStream` as an iterator over tensors; made by `LiveStream.at`.

    Views of one stream share its place: a batch that one has taken, no other gives.
    """

    def __init__(self, stream: LiveStream, hook_points: tuple[str, ...]) -> None:
        for name in hook_points:
            if name not in stream.widths:
                raise ConfigError(
                    f"`{name}` is not streamed, only {', '.join(stream.widths)}. Add it to "
                    "hook_points."
                )
        if not hook_points or len({stream.widths[name] for name in hook_points}) > 1:
            widths = {name: stream.widths[name] for name in hook_points}
            raise ConfigError(
                f"the hook points asked for have the lengths {widths}; expected one or more of "
                "equal length, to be stacked as members."
            )
        self.stream = stream
        """The stream behind it."""
        self.hook_points = hook_points
        """What it gives."""

    def __next__(self) -> Float[Tensor, "*member batch d_in"]:
        """The next batch."""
        batch, _ = self.stream._next(tuple(dict.fromkeys(self.hook_points)))
        if len(self.hook_points) == 1:
            return batch[self.hook_points[0]]
        return torch.stack([batch[name] for name in self.hook_points])

    def state_dict(self) -> dict[str, Any]:
        """As `LiveStream.state_dict`."""
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `LiveStream.load_state_dict`."""
        self.stream.load_state_dict(state)
