"""How a model's activations are streamed without storing them."""

from dataclasses import dataclass, field
from typing import Any

import torch

from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.ring import FIRST, WINDOW, chunk_rows
from latent_assay.errors import ConfigError

_RING_BYTES = 2**30
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """How a model's activations are streamed without storing them."""

    hook_points: tuple[str, ...]
    """Names; several cost one forward pass."""
    batch_size: int
    """Rows per batch."""
    seed: int = 0
    """Of the order of the rows."""
    buffer_rows: int | None = None
    """The most rows that wait in memory, each with all its hook points; None: one gigabyte."""
    buffer_dtype: torch.dtype = torch.float32
    """Type in which they wait; bfloat16 halves the memory."""
    context_size: int = 128
    """Tokens that the model reads at once, special ones included."""
    model_batch_size: int = 32
    """Contexts per forward pass."""
    n_tokens: int | None = None
    """How many tokens of the text are read in an epoch, special ones not counted; None for all."""
    epochs: int | None = None
    """How often the text is read; None for ever."""
    skip_special_tokens: bool = True
    """Leave out what is read at [CLS], [SEP], BOS and the like."""
    skip_norm_outliers: bool = True
    """Leave out tokens whose activation is an outlier at any of the hook points."""
    outlier_ratio: float = 10.0
    """How many times the median length makes an outlier."""
    pack: bool = False
    """Let contexts run across documents (causal models only)."""
    normalise: bool = False
    """Scale each hook point so that rows have the mean length sqrt(d_in)."""
    dtype: torch.dtype = torch.float32
    """Type of the batches."""
    device: str = field(default="cpu")
    """Where the batches are put."""
    background: bool = True
    """Read text in a thread beside training; the batches are the same either way."""

    def __post_init__(self) -> None:
        names = self.hook_points
        if isinstance(names, str) or not names or len(set(names)) < len(names):
            raise ConfigError(f"hook_points is {names!r}; expected one or more names, each once.")
        object.__setattr__(self, "hook_points", tuple(names))
        for name in ("batch_size", "context_size", "model_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("n_tokens", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; expected at least 1, or None for no limit.")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; expected 0 or more.")
        if self.outlier_ratio <= 1.0:
            raise ConfigError(
                f"outlier_ratio is {self.outlier_ratio}; expected more than 1, as 10: an outlier "
                "is longer than the median."
            )
        for dtype in (self.dtype, self.buffer_dtype):
            if dtype not in _DTYPES:
                raise ConfigError(
                    f"dtype is {dtype}; expected one of {', '.join(map(str, _DTYPES))}."
                )

    def chunk_rows(self, model: LanguageModel) -> int:
        """The most rows of a chunk, of which the ring holds 16.

        **Raises:** `ConfigError` if the model cannot read so, or a chunk would not hold a context.
        """
        limit = model.max_context_size
        if limit is not None and self.context_size > limit:
            raise ConfigError(
                f"context_size is {self.context_size}, but {model.name} reads at most {limit} "
                "tokens at once. Choose a smaller one."
            )
        if self.pack and not model.is_causal:
            raise ConfigError(
                f"{type(model.model).__name__} looks in both directions, so packed documents would "
                "leak into each other. Leave `pack` off."
            )
        rows = self.buffer_rows
        least = FIRST * WINDOW * -(-self.context_size // WINDOW)
        if rows is None:
            rows = max(least, _RING_BYTES // self.bytes_per_row(model))
        if rows < least:
            raise ConfigError(
                f"buffer_rows is {rows:,}; expected at least {least:,}, so that {FIRST} contexts "
                f"of {self.context_size} tokens can be mixed. Allow more rows, or shorten "
                "context_size."
            )
        return chunk_rows(rows)

    def bytes_per_row(self, model: LanguageModel) -> int:
        """What one token takes in memory, all hook points together."""
        widths = sum(model.d_in(name) for name in self.hook_points)
        return widths * self.buffer_dtype.itemsize

    def decides_batches(self) -> dict[str, Any]:
        """The settings on which the content of the batches depends, as JSON."""
        names = (
            "seed", "batch_size", "context_size", "model_batch_size", "n_tokens", "epochs",
            "skip_special_tokens", "skip_norm_outliers", "outlier_ratio", "pack", "normalise",
        )  # fmt: skip
        return {
            "hook_points": list(self.hook_points),
            "buffer_dtype": str(self.buffer_dtype).removeprefix("torch."),
            **{name: getattr(self, name) for name in names},
        }
