r"""Where each latent fires most: its top contexts, density and histogram, in bounded memory.

Two passes over the corpus. The first keeps, for every latent, the best few positions; the
second reads the activations around them. Memory grows with width × contexts × window, and with
the corpus only by one byte per token.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, ShapeError

OUTSIDE = -128  # no token of this document
LEFT_OUT = -127  # a token whose activation was not read
FULL = 126  # the latent's greatest activation

# Nonzeros gathered before they are merged: merging costs the same however few there are.
MERGE_AT = 1 << 18


@dataclass(frozen=True, kw_only=True)
class ContextConfig:
    """How much to keep for each latent."""

    contexts: int = 12
    """Contexts per latent."""
    before: int = 20
    """Tokens shown before the peak."""
    after: int = 11
    """Tokens shown after the peak."""
    bins: int = 24
    """Bins of the activation histogram, from 0 to the latent's greatest activation."""

    def __post_init__(self) -> None:
        for name, least in (("contexts", 1), ("before", 0), ("after", 0), ("bins", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"`{name}` must be at least {least}, received {getattr(self, name)}."
                )

    @property
    def window(self) -> int:
        """Tokens in a context."""
        return self.before + 1 + self.after


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentContexts:
    """What each latent did on a corpus."""

    config: ContextConfig
    """How much was kept."""
    rows: int
    """How many activations were read."""
    density: Float[np.ndarray, " latent"]
    """Fraction of them on which the latent fired."""
    maximum: Float[np.ndarray, " latent"]
    """Greatest |z|; 0 for a latent that never fired."""
    histogram: Int[np.ndarray, "latent bin"]
    """How many firings had |z| in each of equal bins from 0 to `maximum`."""
    peaks: Int[np.ndarray, "latent context"]
    """Corpus positions, strongest first; -1 where there are fewer contexts."""
    activations: Int8[np.ndarray, "latent context window"]
    """round(126 z / maximum), never 0 where the latent fired; -128 outside the peak's document,
    -127 where the activation was left out. The peak is at index `config.before`."""

    @property
    def width(self) -> int:
        """Number of latents."""
        return len(self.density)


def latent_contexts(
    encode: Callable[[Tensor], Tensor],
    rows: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    *,
    corpus_length: int,
    documents: Int[np.ndarray, " document"] | None = None,
    config: ContextConfig | None = None,
) -> LatentContexts:
    r"""Find where each latent fires most.

    Every document is cut into tiles as long as a context. The strongest token of a tile stands
    for it. From the strongest tile to the weakest, one is passed over when its token lies less
    than a window from a token already chosen, so that no two contexts of a latent overlap.
    A chosen token can rule out at most the tiles on its left and right: keeping $3n$ tiles is
    enough for $n$ contexts. The result does not depend on how the rows are cut into chunks.

    A latent fires where $z \ne 0$; strength is $|z|$; equal strengths go to the earlier token.

    **Arguments:**
    - `encode`: activations `[row, d_in]` → latent activations `[row, latent]`, dense or sparse
      COO. On a wide SAE with few latents firing, sparse is several times faster.
    - `rows`: called twice; each time yields the same (activations `[row, d_in]`, corpus position
      `[row]`) in rising order of position. Positions left out have no activation.
    - `corpus_length`: number of tokens in the corpus.
    - `documents`: position of each document's first token, rising from 0; contexts do not reach
      over the end of a document. One document by default.
    - `config`: how much to keep.

    **Raises:** `DataError` for positions out of order or outside the corpus, activations that
    are not finite, no rows at all, or a second pass that differs from the first; `ShapeError`
    if `encode` returns another number of rows.
    """
    config = config or ContextConfig()
    starts = _document_starts(documents, corpus_length)
    peaks: _Peaks | None = None
    observed = np.zeros(corpus_length, dtype=np.bool_)
    for position, width, row, latent, value in _nonzeros(encode, rows, corpus_length):
        observed[position] = True
        peaks = peaks or _Peaks(width, starts, config)
        peaks.add(latent, position[row], np.abs(value))
    if peaks is None:
        raise DataError(
            "expected activations to find contexts in, received none. Were all positions left out?"
        )
    maximum, chosen = peaks.finish()
    windows = _Windows(chosen, maximum, starts, observed, config)
    read = 0
    for position, _, row, latent, value in _nonzeros(encode, rows, corpus_length):
        read += len(position)
        windows.add(latent, position[row], value)
    count = int(observed.sum())
    if read != count:
        raise DataError(
            f"the second pass over the corpus gave {read} activations, the first {count}. `rows` "
            "is called twice and must start afresh each time: pass a function that makes a new "
            "iterator, not one that returns the same."
        )
    return LatentContexts(
        config=config,
        rows=count,
        density=(peaks.firings / count).astype(np.float32),
        maximum=maximum,
        histogram=windows.histogram,
        peaks=chosen,
        activations=windows.activations,
    )


class _Peaks:
    """The strongest tiles of every latent, merged as rows come in."""

    def __init__(self, width: int, starts: np.ndarray, config: ContextConfig) -> None:
        self.config = config
        self.starts = starts
        kept = 3 * config.contexts
        self.value = np.zeros((width, kept), dtype=np.float32)
        self.position = np.full((width, kept), -1, dtype=np.int64)
        self.firings = np.zeros(width, dtype=np.int64)
        self.waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.count = 0

    def add(self, latent: np.ndarray, position: np.ndarray, value: np.ndarray) -> None:
        self.firings += np.bincount(latent, minlength=len(self.firings))
        useful = value > self.value[latent, -1]  # an equal one comes later, so it loses
        self.waiting.append((latent[useful], position[useful], value[useful]))
        self.count += int(useful.sum())
        if self.count >= MERGE_AT:
            self._merge(last=False)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Each latent's maximum, and the positions chosen for its contexts."""
        self._merge(last=True)
        width, kept = self.value.shape
        n, window = self.config.contexts, self.config.window
        chosen = np.full((width, n), -1, dtype=np.int64)
        taken = np.zeros(width, dtype=np.int64)
        document = np.searchsorted(self.starts, self.position, side="right")
        chosen_document = np.full((width, n), -1, dtype=np.int64)
        for k in range(kept):
            position = self.position[:, k]
            near = np.abs(chosen - position[:, None]) < window
            clash = (near & (chosen_document == document[:, k : k + 1])).any(axis=1)
            take = np.flatnonzero((position >= 0) & ~clash & (taken < n))
            chosen[take, taken[take]] = position[take]
            chosen_document[take, taken[take]] = document[take, k]
            taken[take] += 1
        return self.value[:, 0].copy(), chosen

    def _merge(self, *, last: bool) -> None:
        latent, position, value = (np.concatenate(part) for part in zip(*self.waiting, strict=True))
        tile_start = self._tile_start(position)
        if not last and len(position):
            # the tile that the next rows may still belong to waits for them
            held = tile_start == tile_start.max()
            self.waiting = [(latent[held], position[held], value[held])]
            latent, position, value, tile_start = (
                a[~held] for a in (latent, position, value, tile_start)
            )
        else:
            self.waiting = []
        self.count = sum(len(part[0]) for part in self.waiting)
        if not len(latent):
            return
        order = np.lexsort((position, -value, tile_start, latent))
        best = _first_of_each(order, latent, tile_start)
        latent, position, value = latent[best], position[best], value[best]
        order = np.lexsort((position, -value, latent))
        latent, position, value = latent[order], position[order], value[order]
        found, first = np.unique(latent, return_index=True)
        row = np.searchsorted(found, latent)
        rank = np.arange(len(latent)) - first[row]
        kept = self.value.shape[1]
        top = rank < kept
        new_value = np.zeros((len(found), kept), dtype=np.float32)
        new_position = np.full((len(found), kept), -1, dtype=np.int64)
        new_value[row[top], rank[top]] = value[top]
        new_position[row[top], rank[top]] = position[top]
        # stable, and the old ones come first: of two equals the earlier position stays ahead
        all_value = np.concatenate([self.value[found], new_value], axis=1)
        all_position = np.concatenate([self.position[found], new_position], axis=1)
        order = np.argsort(-all_value, axis=1, kind="stable")[:, :kept]
        self.value[found] = np.take_along_axis(all_value, order, axis=1)
        self.position[found] = np.take_along_axis(all_position, order, axis=1)

    def _tile_start(self, position: np.ndarray) -> np.ndarray:
        start = self.starts[np.searchsorted(self.starts, position, side="right") - 1]
        return position - (position - start) % self.config.window


class _Windows:
    """Histograms, and the activations around each chosen position."""

    def __init__(
        self,
        peaks: Int[np.ndarray, "latent context"],
        maximum: Float[np.ndarray, " latent"],
        starts: np.ndarray,
        observed: Bool[np.ndarray, " position"],
        config: ContextConfig,
    ) -> None:
        width, _ = peaks.shape
        self.config = config
        self.scale = np.where(maximum > 0, maximum, 1.0).astype(np.float32)
        self.histogram = np.zeros((width, config.bins), dtype=np.int64)
        self.latent, self.slot = np.nonzero(peaks >= 0)
        self.peak = peaks[self.latent, self.slot]
        index = np.searchsorted(starts, self.peak, side="right")
        ends = np.append(starts[1:], len(observed))
        self.start = np.maximum(self.peak - config.before, starts[index - 1])
        self.stop = np.minimum(self.peak + config.after + 1, ends[index - 1])
        # a latent's windows do not overlap, so (latent, start) finds the one that holds a token
        self.stride = len(observed)
        order = np.lexsort((self.start, self.latent))
        for name in ("latent", "slot", "peak", "start", "stop"):
            setattr(self, name, getattr(self, name)[order])
        self.key = self.latent * self.stride + self.start
        self.activations = np.full((*peaks.shape, config.window), OUTSIDE, dtype=np.int8)
        offsets = np.arange(config.window) - config.before
        for part in np.array_split(np.arange(len(self.peak)), max(1, len(self.peak) // 50_000)):
            at = self.peak[part, None] + offsets
            inside = (at >= self.start[part, None]) & (at < self.stop[part, None])
            seen = observed[np.where(inside, at, 0)]
            blank = np.where(inside, np.where(seen, 0, LEFT_OUT), OUTSIDE)
            self.activations[self.latent[part], self.slot[part]] = blank.astype(np.int8)

    def add(self, latent: np.ndarray, position: np.ndarray, value: np.ndarray) -> None:
        if not len(self.key):
            return
        share = value / self.scale[latent]
        bins = self.config.bins
        bin_ = np.minimum((np.abs(share) * bins).astype(np.int64), bins - 1)
        flat = np.bincount(latent * bins + bin_, minlength=self.histogram.size)
        self.histogram += flat.reshape(self.histogram.shape)
        window = np.searchsorted(self.key, latent * self.stride + position, side="right") - 1
        within = (window >= 0) & (self.latent[window] == latent) & (position < self.stop[window])
        window, position, share = window[within], position[within], share[within]
        level = np.clip(np.rint(share * FULL), -FULL, FULL)
        level = np.where(level == 0, np.sign(share), level)
        place = position - self.peak[window] + self.config.before
        self.activations[self.latent[window], self.slot[window], place] = level.astype(np.int8)


def _nonzeros(
    encode: Callable[[Tensor], Tensor],
    rows: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    corpus_length: int,
) -> Iterator[tuple[np.ndarray, int, np.ndarray, np.ndarray, np.ndarray]]:
    """For each chunk: positions, width, and the row, latent and value of every firing."""
    before = -1
    for x, corpus_position in rows():
        position = corpus_position.cpu().numpy().astype(np.int64)
        if len(position) != len(x):
            raise ShapeError(
                f"each activation needs its corpus position, received {len(x)} activations and "
                f"{len(position)} positions."
            )
        if not len(position):
            continue
        if (np.diff(position, prepend=before) <= 0).any() or position[-1] >= corpus_length:
            raise DataError(
                f"corpus positions must rise from row to row and stay below {corpus_length}, the "
                f"length of the corpus; received {position.min()} to {position.max()} after "
                f"{before}. Read the activations in their natural order, without shuffling."
            )
        before = int(position[-1])
        with torch.no_grad():
            z = encode(x)
        if z.ndim != 2 or len(z) != len(x):
            raise ShapeError(
                f"`encode` must return [row, latent] with {len(x)} rows, received the shape "
                f"{list(z.shape)}. Choose one member of an ensemble first."
            )
        if z.layout is torch.sparse_coo:
            z = z.coalesce()
            place, value = z.indices(), z.values()
            row, latent = place[0], place[1]
        else:
            row, latent = z.nonzero(as_tuple=True)
            value = z[row, latent]
        values = value.float().cpu().numpy()
        if not np.isfinite(values).all():
            raise DataError(
                f"latent activations must be finite, but some near corpus position {position[0]} "
                "are NaN or infinite. Check the SAE's weights and the activations that it reads."
            )
        fires = values != 0  # a sparse tensor may hold zeros too
        which, latents = row.cpu().numpy()[fires], latent.cpu().numpy()[fires]
        yield position, z.shape[1], which, latents, values[fires]


def _document_starts(documents: np.ndarray | None, corpus_length: int) -> np.ndarray:
    starts = np.zeros(1, dtype=np.int64) if documents is None else documents.astype(np.int64)
    if not len(starts) or starts[0] != 0 or (np.diff(starts) <= 0).any() or corpus_length < 1:
        raise DataError(
            "`documents` must hold the position of each document's first token, rising from 0, "
            f"in a corpus of at least one token; received {starts[:4].tolist()}… and "
            f"{corpus_length} tokens. Leave empty documents out."
        )
    if starts[-1] >= corpus_length:
        raise DataError(
            f"the last document starts at {starts[-1]}, but the corpus has {corpus_length} "
            "tokens. Pass the length of the whole corpus."
        )
    return starts


def _first_of_each(order: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Of an order sorted by `keys`, the first index of each run of equal keys."""
    changed = np.zeros(len(order), dtype=np.bool_)
    changed[0] = True
    for key in keys:
        sorted_key = key[order]
        changed[1:] |= sorted_key[1:] != sorted_key[:-1]
    return order[changed]
