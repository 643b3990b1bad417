"""What reading activations will take, told before it starts; what cannot fit is refused.

Memory is what the process has had so far, *after* a measured forward pass over the first contexts
of the real text, plus every buffer that will be made. Time is what that pass took.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from latent_assay.activations.contexts import Context, contexts
from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.live import LiveStream
from latent_assay.activations.machine import memory_limit, peak_memory
from latent_assay.activations.quantities import size_in_words, time_in_words
from latent_assay.activations.reading import read_contexts
from latent_assay.activations.ring import FIRST, WINDOW
from latent_assay.activations.text import TextInput, text_source
from latent_assay.errors import ConfigError, StorageError

_TEXT_BYTES = 2**25
"""Allowed for documents, the tokenizer and contexts on their way."""
_PER_SLOT = 40
"""Bytes that the ring keeps of each row beside its numbers: where it is from, when it is due."""
_WARM_UP = 0.5
"""Seconds below which a forward pass is measured a second time."""
_CHUNKS_AHEAD = 3
"""One that is read, one that is ready, one that is written into the ring."""
_SHARD_COPIES = 4
"""A shard while it is measured, sorted and written is held so often."""
_PER_ROW_ON_DISK = 8
"""Bytes for context and position."""
_PER_TOKEN_ON_DISK = 5
"""Bytes for token number and special flag."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """One part of the memory that is needed."""

    what: str
    """What it is for."""
    bytes: int
    """How much it is."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What reading activations takes."""

    title: str
    """What is planned."""
    bytes_per_token: int
    """What one token takes, all hook points together."""
    tokens_per_second: float
    """How fast the model read, in a short measurement."""
    n_tokens: int | None
    """How many tokens of text will be read; None if only the text's end tells."""
    ram: tuple[Share, ...]
    """What memory is needed for."""
    ram_limit: int | None
    """How much memory there is; None if that cannot be known."""
    disk: int = 0
    """Bytes that will be written."""
    disk_limit: int | None = None
    """Bytes that can be written there; None if nothing is written."""
    again: int = 0
    """Up to how many tokens are read again when the work is resumed."""
    remedy: str = ""
    """What takes less."""

    @property
    def ram_bytes(self) -> int:
        """Memory needed, all together."""
        return sum(share.bytes for share in self.ram)

    @property
    def seconds(self) -> float | None:
        """How long reading takes; None if the number of tokens is unknown."""
        return None if self.n_tokens is None else self.n_tokens / self.tokens_per_second

    def lines(self) -> list[str]:
        """The plan in words, for printing."""
        limit = "" if self.ram_limit is None else f" of {size_in_words(self.ram_limit)}"
        lines = [
            self.title,
            f"  memory  {size_in_words(self.ram_bytes)}{limit}",
            *(f"            {size_in_words(share.bytes):>8}  {share.what}" for share in self.ram),
        ]
        if self.disk_limit is not None:
            needed = (
                "unknown until the text ends" if self.n_tokens is None else size_in_words(self.disk)
            )
            lines.append(f"  disk    {needed}, {size_in_words(self.disk_limit)} free")
        rate = f"{self.tokens_per_second:,.0f} tokens/s measured"
        if self.seconds is None:
            million = time_in_words(1e6 / self.tokens_per_second)
            lines.append(f"  time    {million} per million tokens, {rate}")
        else:
            lines.append(
                f"  time    {time_in_words(self.seconds)} for {self.n_tokens:,} tokens, {rate}"
            )
        if self.again:
            span = time_in_words(self.again / self.tokens_per_second)
            lines.append(f"  resume  reads up to {self.again:,} tokens again, {span}")
        lines.append(f"  size    {self.bytes_per_token:,} bytes per token")
        return lines

    def check(self) -> None:
        """Refuse what cannot fit.

        **Raises:** `ConfigError` if memory does not suffice, `StorageError` if the disk does not.
        """
        if self.ram_limit is not None and self.ram_bytes > self.ram_limit:
            largest = max(self.ram, key=lambda share: share.bytes)
            raise ConfigError(
                f"{self.title}: this needs {size_in_words(self.ram_bytes)} of memory, most of it "
                f"({size_in_words(largest.bytes)}) for {largest.what}, but there are "
                f"{size_in_words(self.ram_limit)}. {self.remedy}"
            )
        if self.disk_limit is not None and self.disk > self.disk_limit:
            raise StorageError(
                f"{self.title}: this needs about {size_in_words(self.disk)} of disk, but there are "
                f"{size_in_words(self.disk_limit)} free. Harvest fewer tokens (about "
                f"{self._tokens_that_fit():,} fit) or hook points, keep them in bfloat16, or "
                "choose another disk."
            )

    def _tokens_that_fit(self) -> int:
        assert self.disk_limit is not None
        return int(self.disk_limit * (self.n_tokens or 0) / max(self.disk, 1))


def plan_stream(
    stream: LiveStream,
    *,
    n_batches: int | None = None,
    max_ram: int | None = None,
    besides: Sequence[Share] = (),
) -> Plan:
    """What a stream without a disk takes.

    **Arguments:**
    - `stream`: it is not advanced, but its calibration is measured.
    - `n_batches`: how many batches will be taken; None for all that a finite text gives.
    - `max_ram`: the most bytes of memory that may be used; None for what the machine has.
    - `besides`: what else will be in memory, such as an SAE and its optimiser's state.

    **Returns:** the plan; call its `check` to refuse what cannot fit.
    """
    config, reader = stream.config, stream.reader
    model = reader.model
    rate = measure_rate(
        model, reader.first_contexts(config.model_batch_size), config.hook_points,
        config.model_batch_size,
    )  # fmt: skip
    stream.calibration  # noqa: B018  its peak belongs to what is measured now
    per_row = config.bytes_per_row(model)
    widths = [model.d_in(name) for name in config.hook_points]
    chunk = reader.chunk_rows
    outliers = chunk * max(widths) * config.buffer_dtype.itemsize
    batch = config.batch_size * sum(widths) * (2 * config.dtype.itemsize + 4)
    slots = FIRST * chunk
    n_tokens = None if n_batches is None else n_batches * config.batch_size + slots
    if config.n_tokens is not None and config.epochs is not None:
        n_tokens = min(n_tokens or 2**63, config.n_tokens * config.epochs)
    least = FIRST * WINDOW * -(-config.context_size // WINDOW)
    return Plan(
        title=f"stream {_names(config.hook_points)} of {model.name}",
        bytes_per_token=per_row,
        tokens_per_second=rate,
        n_tokens=n_tokens,
        ram=(
            Share(what="this process with the model and a forward pass", bytes=peak_memory()),
            Share(what=f"{slots:,} rows waiting in the ring", bytes=slots * (per_row + _PER_SLOT)),
            Share(
                what=f"chunks of {chunk:,} rows on their way",
                bytes=_CHUNKS_AHEAD * chunk * (per_row + _PER_SLOT) + outliers,
            ),
            Share(what="batches", bytes=batch),
            Share(what="text on its way", bytes=_TEXT_BYTES),
            *besides,
        ),
        ram_limit=_smaller(memory_limit(), max_ram),
        again=(2 * WINDOW - FIRST) * chunk,
        remedy=(
            f"Allow fewer buffer_rows (at least {least:,}), keep them with "
            "buffer_dtype=torch.bfloat16, or stream fewer hook points."
        ),
    )


def plan_harvest(
    model: LanguageModel,
    documents: TextInput,
    *,
    hook_points: str | Sequence[str],
    folder: str | Path,
    shard_tokens: int,
    n_tokens: int | None = None,
    context_size: int = 128,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
    pack: bool = False,
    max_ram: int | None = None,
) -> Plan:
    """What a harvest takes; its arguments, apart from `max_ram`, are those of `harvest`.

    A source that can be read only once is not touched: its speed is measured on made-up text.
    """
    names = [hook_points] if isinstance(hook_points, str) else list(hook_points)
    source = text_source(documents)
    text = source if source.can_be_read_again else ["the quick brown fox " * context_size] * 4
    first = islice(
        contexts(model.tokenizer, text, context_size=context_size, n_tokens=n_tokens, pack=pack),
        batch_size,
    )
    rate = measure_rate(model, list(first), names, batch_size)
    widths = [model.d_in(name) for name in names]
    per_token = sum(widths) * dtype.itemsize
    shard = shard_tokens if n_tokens is None else min(shard_tokens, n_tokens)
    on_disk = per_token + _PER_ROW_ON_DISK * len(names) + _PER_TOKEN_ON_DISK
    folder = Path(folder).expanduser()
    place = next(each for each in (folder, *folder.resolve().parents) if each.exists())
    there = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return Plan(
        title=f"harvest {_names(names)} of {model.name}",
        bytes_per_token=per_token,
        tokens_per_second=rate,
        n_tokens=n_tokens,
        ram=(
            Share(what="this process with the model and a forward pass", bytes=peak_memory()),
            Share(
                what=f"a shard of {shard:,} tokens",
                bytes=shard * (per_token + _SHARD_COPIES * max(widths) * dtype.itemsize),
            ),
            Share(what="text on its way", bytes=_TEXT_BYTES),
        ),
        ram_limit=_smaller(memory_limit(), max_ram),
        disk=(n_tokens or 0) * on_disk,
        disk_limit=shutil.disk_usage(place).free + there,
        again=shard_tokens,
        remedy="Choose smaller shard_tokens, fewer hook points, or keep them in bfloat16.",
    )


def measure_rate(
    model: LanguageModel, group: Sequence[Context], hook_points: Sequence[str], batch_size: int
) -> float:
    """Tokens of text that the model reads in a second, measured on some contexts.

    **Arguments:**
    - `model`: the model.
    - `group`: contexts.
    - `hook_points`: names.
    - `batch_size`: contexts per forward pass.
    """

    def read() -> None:
        read_contexts(model, group, hook_points, batch_size=batch_size)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)

    seconds = _seconds(read)
    if seconds < _WARM_UP:  # a short first pass mostly makes up its mind about kernels and buffers
        seconds = _seconds(read)
    return sum(context.n_text_tokens for context in group) / max(seconds, 1e-9)


def _seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _smaller(a: int | None, b: int | None) -> int | None:
    return min((each for each in (a, b) if each is not None), default=None)


def _names(hook_points: Sequence[str]) -> str:
    first = f"`{hook_points[0]}`"
    more = len(hook_points) - 1
    return first if not more else f"{first} and {more} more hook point{'s' if more > 1 else ''}"
