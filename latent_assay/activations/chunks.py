"""Text read by a model, chunk by chunk, from any chunk on."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.activations.contexts import Context, Place, located_contexts
from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.live_config import LiveConfig
from latent_assay.activations.reading import lengths, read_contexts
from latent_assay.activations.text import TextSource
from latent_assay.errors import DataError

_CALIBRATION_TOKENS = 2**14


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a chunk begins."""

    epoch: int = 0
    """How often the text has been read to its end."""
    document: int = 0
    """Number of the document."""
    token: int = 0
    """How many tokens of the document come before."""
    n_text: int = 0
    """How many tokens of text of this epoch come before."""
    n_contexts: int = 0
    """How many contexts come before, in all epochs."""
    n_rows: int = 0
    """How many rows come before, in all epochs, outliers counted."""

    @property
    def place(self) -> Place:
        """The same within the text."""
        return Place(document=self.document, token=self.token, n_text=self.n_text)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Activations of consecutive contexts."""

    number: int
    """Its number, from 0."""
    position: Position
    """Where it begins."""
    rows: dict[str, Float[Tensor, "row d_in"]]
    """Hook point to activations; aligned, one row per token."""
    origin: Int[Tensor, "row 2"]
    """For each row the number of its context, and its own."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the beginning of the text tells about the activations of a hook point."""

    median_norm: float
    """Median Euclidean length."""
    threshold: float | None
    """Length above which a row is an outlier; None if outliers are kept."""
    mean_norm: float
    """Mean length of the rows that are none."""
    mean: Float[Tensor, " d_in"]
    """Mean of these rows, in float32."""
    n_rows: int
    """How many rows there were."""


@dataclass(frozen=True)
class ChunkReader:
    """Reads a text with a model; holds no place of its own."""

    model: LanguageModel
    """The model."""
    source: TextSource
    """The text."""
    config: LiveConfig
    """How it is read."""
    chunk_rows: int
    """The most rows of a chunk."""

    def chunks(
        self, number: int, position: Position, thresholds: dict[str, float | None]
    ) -> Iterator[Chunk]:
        """Chunk `number`, which begins at `position`, and all that follow."""
        n_epochs = self.config.epochs
        while n_epochs is None or position.epoch < n_epochs:
            for group, start in self._groups(position):
                yield self._chunk(number, start, group, thresholds)
                number += 1
                position = Position(
                    epoch=start.epoch + 1,
                    n_contexts=start.n_contexts + len(group),
                    n_rows=start.n_rows + sum(map(self._n_rows, group)),
                )
            if position.place != Place():  # nothing was left of this epoch
                position = Position(
                    epoch=position.epoch + 1,
                    n_contexts=position.n_contexts,
                    n_rows=position.n_rows,
                )

    def calibrate(self) -> dict[str, Calibration]:
        """Read the beginning of the text, up to 16,384 tokens.

        **Raises:** `DataError` if an activation is not finite.
        """
        n_tokens = min(self.config.n_tokens or _CALIBRATION_TOKENS, _CALIBRATION_TOKENS)
        group = [context for _, context in self._located(Place(), n_tokens)]
        rows, _, _ = self._read(group, torch.float32)
        norms = {name: lengths(x) for name, x in rows.items()}
        medians = {name: float(norm.median()) for name, norm in norms.items()}
        ratio = self.config.outlier_ratio if self.config.skip_norm_outliers else None
        thresholds = {
            name: None if ratio is None else ratio * median for name, median in medians.items()
        }
        usual = _usual(norms, thresholds)
        return {
            name: Calibration(
                median_norm=medians[name],
                threshold=thresholds[name],
                mean_norm=float(norms[name][usual].mean()),
                mean=x[usual].double().mean(dim=0).float(),
                n_rows=int(usual.sum()),
            )
            for name, x in rows.items()
        }

    def first_contexts(self, n: int) -> list[Context]:
        """The first contexts of the text, at most `n`."""
        located = self._located(Place(), self.config.n_tokens)
        return [context for _, context in islice(located, n)]

    def _located(self, start: Place, n_tokens: int | None) -> Iterator[tuple[Place, Context]]:
        return located_contexts(
            self.model.tokenizer,
            self.source.numbered(start.document),
            context_size=self.config.context_size,
            n_tokens=n_tokens,
            pack=self.config.pack,
            start=start,
        )

    def _groups(self, position: Position) -> Iterator[tuple[list[Context], Position]]:
        """What is left of an epoch, in groups of as many contexts as make a chunk."""
        group: list[Context] = []
        size = 0
        start = position
        for place, context in self._located(position.place, self.config.n_tokens):
            n_rows = self._n_rows(context)
            if group and size + n_rows > self.chunk_rows:
                yield group, start
                start = Position(
                    epoch=start.epoch,
                    document=place.document,
                    token=place.token,
                    n_text=place.n_text,
                    n_contexts=start.n_contexts + len(group),
                    n_rows=start.n_rows + size,
                )
                group, size = [], 0
            group.append(context)
            size += n_rows
        if group:
            yield group, start

    def _n_rows(self, context: Context) -> int:
        skip = self.config.skip_special_tokens
        return context.n_text_tokens if skip else len(context.token_ids)

    def _chunk(
        self,
        number: int,
        position: Position,
        group: list[Context],
        thresholds: dict[str, float | None],
    ) -> Chunk:
        rows, context, _ = self._read(group, self.config.buffer_dtype)
        norms = {name: lengths(x) for name, x in rows.items()}
        origin = torch.stack(
            [context + position.n_contexts, torch.arange(len(context)) + position.n_rows], dim=1
        )
        usual = _usual(norms, thresholds)
        if not bool(usual.all()):
            origin = origin[usual]
            for name in rows:
                rows[name] = rows[name][usual]
        return Chunk(number=number, position=position, rows=rows, origin=origin)

    def _read(
        self, group: list[Context], dtype: torch.dtype
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        return read_contexts(
            self.model,
            group,
            self.config.hook_points,
            dtype=dtype,
            batch_size=self.config.model_batch_size,
            skip_special_tokens=self.config.skip_special_tokens,
        )


def _usual(norms: dict[str, Tensor], thresholds: dict[str, float | None]) -> Tensor:
    """Which rows are outliers at no hook point."""
    usual: Tensor | None = None
    for name, norm in norms.items():
        if not bool(norm.isfinite().all()):
            raise DataError(
                f"`{name}` gave numbers that are not finite. Keep the activations in float32 or "
                "bfloat16, and load the model in float32 or bfloat16."
            )
        threshold = thresholds[name]
        here = torch.ones_like(norm, dtype=torch.bool) if threshold is None else norm <= threshold
        usual = here if usual is None else usual & here
    assert usual is not None
    return usual
