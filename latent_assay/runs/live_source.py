"""Training on a model's activations as it reads, with nothing stored but what is measured.

The beginning of the text is kept: its activations, which training never sees, are stored. What
comes after is streamed, over and over, to all SAEs at once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latent_assay.activations import (
    LanguageModel,
    LiveConfig,
    LiveStream,
    TextSource,
)
from latent_assay.activations.contexts import located_contexts
from latent_assay.errors import ConfigError, DataError
from latent_assay.runs.config import ModelSource
from latent_assay.training.crew import Shared, View


def kept_tokens(source: ModelSource) -> int:
    """How many tokens at the text's beginning are kept for measuring and browsing."""
    if not 0 < source.held_out < 1:
        raise ConfigError(f"held_out is {source.held_out}; expected a share between 0 and 1.")
    kept = min(round(source.held_out * source.tokens), 2 * max(source.measured, source.browsed))
    if kept < 2 or kept >= source.tokens:
        raise ConfigError(
            f"holding out {source.held_out} of {source.tokens:,} tokens leaves nothing for one "
            "side. Read more tokens or hold out another share."
        )
    return kept


@dataclass(frozen=True)
class LaterDocuments:
    """A text without its beginning, readable again and again."""

    source: TextSource
    """The whole text."""
    start: int
    """Number of the first document."""

    def __iter__(self) -> Iterator[Any]:
        return (document for _, document in self.source.numbered(self.start))

    @property
    def _fingerprint(self) -> str | None:  # what `TextSource.hash` asks of objects in memory
        whole = self.source.hash()
        return None if whole is None else f"{whole} from document {self.start}"


def text_behind(
    text: TextSource, n_tokens: int, *, model: LanguageModel, source: ModelSource
) -> TextSource:
    """The documents that begin behind the first `n_tokens` tokens of a text.

    **Raises:** `DataError` if there is none.
    """
    located = located_contexts(
        model.tokenizer, text.numbered(), context_size=source.context_size, pack=source.pack
    )
    for place, _ in located:
        if place.n_text >= n_tokens:
            # what begins within a document that was cut is no longer unseen from its beginning
            start = place.document + (place.token > 0)
            if next(text.numbered(max(start, 1)), None) is not None:
                return TextSource(
                    kind="python",
                    location=text.location,
                    column=text.column,
                    split=text.split,
                    subset=text.subset,
                    content=LaterDocuments(text, max(start, 1)),
                )
            break
    raise DataError(
        f"{text} has no document that begins behind the {n_tokens:,} tokens that are held out, so "
        'nothing is left to train on. Hold out less, use more text, or `stream = "disk"`, which '
        "can cut within a document."
    )


class LockstepStream(Iterator[dict[str, Tensor]]):
    """A `LiveStream` times a scale for each hook point.

    **Arguments:**
    - `stream`: the stream.
    - `scales`: hook point → factor.
    """

    def __init__(self, stream: LiveStream, scales: Mapping[str, float]):
        self.live = stream
        self.scales = dict(scales)

    def __next__(self) -> dict[str, Tensor]:
        """The next batch of every hook point."""
        return {name: x * self.scales[name] for name, x in next(self.live).items()}

    def at(self, hook_point: str) -> "View":
        """One hook point alone, as tensors."""
        return Shared(self).view(hook_point)

    def state_dict(self) -> dict[str, Any]:
        """As `LiveStream.state_dict`."""
        return self.live.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `LiveStream.load_state_dict`."""
        self.live.load_state_dict(state)


@dataclass(frozen=True)
class LiveReader:
    """Opens streams over the text behind what is kept."""

    model: LanguageModel
    """The model."""
    text: TextSource
    """The whole text."""
    source: ModelSource
    """How it is read."""
    device: str
    """Where batches are put."""

    def stream(self, hook_points: Sequence[str], batch_size: int, seed: int) -> LiveStream:
        """A stream at some hook points."""
        source = self.source
        kept = kept_tokens(source)
        later = text_behind(self.text, kept, model=self.model, source=source)
        config = LiveConfig(
            hook_points=tuple(hook_points),
            batch_size=batch_size,
            seed=seed,
            buffer_rows=source.buffer_rows,
            buffer_dtype=getattr(torch, source.dtype),
            context_size=source.context_size,
            model_batch_size=source.contexts_at_once,
            n_tokens=source.tokens - kept,
            pack=source.pack,
            device=self.device,
        )
        return LiveStream(self.model, later, config)
