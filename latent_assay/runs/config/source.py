"""Where a run's activations come from: a dataclass for each table that can say so.

A new source is a dataclass and an entry in `SOURCES` here, and what opens it in `runs.sources`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from latent_assay.errors import ConfigError
from latent_assay.runs.config.images import ImagesSource

DType = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class WorldSource:
    """A world whose true features are known."""

    preset: str
    """Its name in `latent_assay.worlds.presets`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the preset."""
    samples: int = 100_000
    """How many samples to measure on."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A language model that reads text."""

    name: str
    """A folder, a name on the hub, or `bundled:all-MiniLM-L6-v2`."""
    hook_point: str | None = None
    """Module path or TransformerLens name."""
    hook_points: tuple[str, ...] | None = None
    """Several of them, read in one forward pass."""
    text: str = "cpython"
    """A file, a folder, a data set, or `cpython` for CPython's own documentation."""
    column: str | None = None
    """Column of a data set that holds the text."""
    split: str | None = None
    """Split of a data set."""
    subset: str | None = None
    """Configuration of a data set on the hub."""
    tokens: int = 100_000
    """How many tokens to read."""
    context_size: int = 128
    """Tokens that the model reads at once."""
    contexts_at_once: int = 32
    """Contexts in one forward pass."""
    pack: bool = False
    """Let contexts run across documents (causal models only)."""
    activations: str | None = None
    """Folder where activations are kept, which runs that read alike may share; None: in the run's
    own."""
    held_out: float = 0.1
    """Share of the activations that is kept for measuring."""
    measured: int = 50_000
    """How many of them are measured on, at most."""
    browsed: int = 150_000
    """How many tokens, from the beginning, the pages of latents take their contexts from."""
    normalise: bool = True
    """Train on activations scaled to a mean length of √d_in; saved SAEs take raw ones."""
    device: str = "cpu"
    """Where the model runs."""
    model_dtype: DType = "float32"
    """Type of the model's weights."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    stream: Literal["disk", "live"] = "disk"
    """`disk` stores all activations first; `live` trains on them as the model reads, all SAEs on
    the same batches, and stores only what is measured."""
    dtype: DType = "float32"
    """Type in which activations are stored, or wait in memory."""
    shuffle_seed: int | None = None
    """Store each file's rows in random order; None keeps the text's."""
    buffer_rows: int | None = None
    """With `live`, the most activations that wait in memory; None: one gigabyte."""
    max_ram: int | None = None
    """The most bytes of memory that may be used; None for what the machine has."""

    def __post_init__(self) -> None:
        if (self.hook_point is None) == (self.hook_points is None):
            raise ConfigError(
                "[model] needs either `hook_point`, the name of one place in the model, or "
                "`hook_points`, a list of several."
            )
        names = self.names
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"[model] `hook_points` must be one or more names, each once, found {list(names)}."
            )
        if self.stream == "live" and self.shuffle_seed is not None:
            raise ConfigError(
                "[model] `shuffle_seed` says how activations are stored, but with "
                '`stream = "live"` they are not; leave it out.'
            )
        if self.stream == "disk" and self.buffer_rows is not None:
            raise ConfigError(
                '[model] `buffer_rows` is for `stream = "live"`; leave it out, or stream.'
            )

    @property
    def names(self) -> tuple[str, ...]:
        """All hook points."""
        return self.hook_points or ((self.hook_point,) if self.hook_point else ())


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """Activations of your own."""

    path: str
    """A `.npy` or safetensors file with one activation per row."""
    tensor: str | None = None
    """Which tensor of a safetensors file."""
    held_out: float = 0.1
    """Share that is kept for measuring."""
    measured: int = 50_000
    """How many of them are measured on, at most."""
    normalise: bool = True
    """Train on activations scaled to a mean length of √d_in; saved SAEs take raw ones."""


Source = WorldSource | ModelSource | FileSource | ImagesSource

SOURCES: dict[str, type] = {
    "world": WorldSource,
    "model": ModelSource,
    "activations": FileSource,
    "images": ImagesSource,
}
"""The table of each source."""


def table_of(source: Source) -> str:
    """The name of a source's table."""
    return next(table for table, kind in SOURCES.items() if kind is type(source))
