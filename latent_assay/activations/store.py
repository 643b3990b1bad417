"""Harvested activations, or your own: a stream for training, rows in order for reading contexts."""

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.activations.folder import ContextFiles, facts, read_manifest
from latent_assay.activations.shards import (
    PartOfRows,
    Rows,
    Shard,
    ShardedRows,
    TensorRows,
    checked_rows,
    opened,
)
from latent_assay.activations.stream import ActivationStream
from latent_assay.errors import ConfigError, DataError, FormatError, did_you_mean

_SHUFFLE_BYTES = 2**30
_ROWS_AT_ONCE = 16384


class ActivationStore:
    """Activations of one hook point, numbered by row.

    Open what `harvest` wrote with `open`, or bring your own with `from_tensor` and `from_file`.

    >>> store = ActivationStore.from_tensor(torch.tensor([[3.0, 4.0], [0.0, 5.0], [1.0, 0.0]]))
    >>> store.n_rows, store.d_in, round(store.mean_norm, 3)
    (3, 2, 3.667)
    >>> next(store.stream(batch_size=2, seed=0)).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        rows: Rows,
        *,
        hook_point: str,
        manifest: dict[str, Any],
        contexts: ContextFiles | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        """Assemble a store; use `open`, `from_tensor` or `from_file` instead."""
        self._rows = rows
        self._contexts = contexts
        self._start = start
        self._stop = rows.n_rows if stop is None else stop
        self.hook_point = hook_point
        """The name under which the activations were read."""
        self.manifest = manifest
        """What is known about how they came to be; empty for a tensor of one's own."""

    @classmethod
    def open(
        cls,
        folder: str | Path,
        hook_point: str | None = None,
        *,
        model: str | None = None,
    ) -> "ActivationStore":
        """Open one hook point of a finished harvest. No model is needed.

        **Arguments:**
        - `folder`: where `harvest` wrote.
        - `hook_point`: which of the harvested names; None if there is only one.
        - `model`: the fingerprint of the model that the activations must be of
          (`LanguageModel.fingerprint`); None for any.

        **Raises:** `FormatError` if the folder is not a finished harvest, or a shard is damaged or
        of another harvest; `DataError` if the hook point is not in it, or the model another.
        """
        folder = Path(folder).expanduser()
        manifest = read_manifest(folder)
        if not manifest["complete"]:
            raise FormatError(
                f"the harvest in '{folder}' was not finished. Run the same harvest again: it goes "
                "on where it stopped."
            )
        read = manifest["request"]["model"]
        if model is not None and read["fingerprint"] != model:
            raise DataError(
                f"the activations in '{folder}' were read from another model: from "
                f"`{read['name']}` with fingerprint {read['fingerprint']}, expected {model}. "
                "Harvest anew into another folder, or load that model."
            )
        names = manifest["folders"]
        listed = ", ".join(f"`{name}`" for name in names)
        if hook_point is None:
            if len(names) > 1:
                raise DataError(
                    f"'{folder}' holds several hook points: {listed}. Say which as `hook_point`."
                )
            hook_point = next(iter(names))
        if hook_point not in names:
            raise DataError(
                f"'{folder}' holds no activations of `{hook_point}`, only of {listed}."
                f"{did_you_mean(hook_point, names)} Harvest it, or choose one of these."
            )
        inner = folder / names[hook_point]
        manifest = read_manifest(inner)
        try:
            shards = [Shard(**shard) for shard in manifest["shards"]]
            dtype = getattr(torch, manifest["dtype"])
            stated = facts(manifest["request"], hook_point)
            rows = ShardedRows(inner, shards, int(manifest["d_in"]), dtype, stated)
            contexts = ContextFiles(folder, manifest["contexts"])
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(
                f"the manifest in '{inner}' lacks or garbles {error}. Restore it, or harvest anew."
            ) from error
        return cls(rows, hook_point=hook_point, manifest=manifest, contexts=contexts)

    @classmethod
    def from_tensor(
        cls, x: Float[Tensor, "row d_in"], *, hook_point: str = "given"
    ) -> "ActivationStore":
        """A store over activations that are in memory, from any model at all.

        **Arguments:**
        - `x`: one activation per row.
        - `hook_point`: a name for them.

        **Raises:** `ShapeError` unless `x` is `[row, d_in]`, `DataError` if a number is not finite.
        """
        rows = TensorRows(checked_rows(x, "the tensor").detach())
        if not torch.isfinite(x).all():
            raise DataError(
                "the tensor holds numbers that are not finite; expected activations. Remove "
                "those rows: x[x.isfinite().all(dim=1)]."
            )
        return cls(rows, hook_point=hook_point, manifest={})

    @classmethod
    def from_file(
        cls, path: str | Path, *, tensor: str | None = None, hook_point: str = "given"
    ) -> "ActivationStore":
        """A store over a `.npy` file (mapped, not read into memory) or a safetensors file.

        **Arguments:**
        - `path`: the file.
        - `tensor`: which tensor of a safetensors file; None if there is only one.
        - `hook_point`: a name for the activations.

        **Raises:** `FormatError` if the file is neither, `ShapeError` unless it holds
        `[row, d_in]`, `DataError` if the tensor is not in it.
        """
        path = Path(path).expanduser()
        if not path.is_file():
            raise DataError(f"there is no file '{path}'. Check the path.")
        if path.suffix == ".npy":
            x = _read_npy(path)
        elif path.suffix == ".safetensors":
            with opened(path) as file:
                names = list(file.keys())
                name = names[0] if tensor is None and len(names) == 1 else tensor
                if name not in names:
                    raise DataError(
                        f"'{path}' holds the tensors {', '.join(names)}; "
                        + (f"`{tensor}` is not among them." if tensor else "say which as `tensor`.")
                    )
                x = file.get_tensor(name)
        else:
            raise FormatError(
                f"'{path}' is neither .npy nor .safetensors. Save the activations with numpy.save "
                "or safetensors.torch.save_file."
            )
        rows = TensorRows(checked_rows(x, f"'{path}'"))
        return cls(rows, hook_point=hook_point, manifest={})

    @property
    def n_rows(self) -> int:
        """Number of activations."""
        return self._stop - self._start

    @property
    def d_in(self) -> int:
        """Length of each."""
        return self._rows.d_in

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type in which they are kept."""
        return self._rows.dtype

    @cached_property
    def mean_norm(self) -> float:
        """Mean Euclidean length of the rows."""
        if isinstance(self._rows, ShardedRows) and self._is_whole:
            return sum(shard.norm_sum for shard in self._rows.shards) / self.n_rows
        lengths = (x.double().norm(dim=1).sum().item() for x in self._blocks())
        return sum(lengths) / self.n_rows

    @cached_property
    def mean(self) -> Float[Tensor, " d_in"]:
        """Mean activation, in float32."""
        if isinstance(self._rows, ShardedRows) and self._is_whole:
            total = self._rows.sum()
        else:
            total = torch.zeros(self.d_in, dtype=torch.float64)
            for x in self._blocks():
                total += x.double().sum(dim=0)
        return (total / self.n_rows).float()

    @property
    def normalising_scale(self) -> float:
        r"""$\sqrt{d_{in}}$ over the mean length: the `scale` that makes activations that long."""
        if self.mean_norm == 0.0:
            raise DataError(
                f"every activation at `{self.hook_point}` is zero, so no scale makes them longer. "
                "Choose another hook point."
            )
        return math.sqrt(self.d_in) / self.mean_norm

    def stream(
        self,
        batch_size: int,
        seed: int,
        *,
        shuffle_rows: int | None = None,
        epochs: int | None = None,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> ActivationStream:
        """Batches in random order, for training; see `ActivationStream` for its laws.

        **Arguments:**
        - `batch_size`: rows per batch.
        - `seed`: the same seed gives the same batches.
        - `shuffle_rows`: how many rows are mixed at once in memory. None: as many as fit into one
          gigabyte, which is all of them for a small store.
        - `epochs`: how often every row is given; None for ever.
        - `scale`: a factor for every number, such as `normalising_scale`.
        - `dtype`: type of the batches.
        - `device`: where the batches are put.

        **Raises:** `ConfigError` for a size below 1 or a negative seed.
        """
        if shuffle_rows is None:
            shuffle_rows = max(1, _SHUFFLE_BYTES // (self.d_in * self.dtype.itemsize))
        return ActivationStream(
            PartOfRows(self._rows, self._start, self._stop),
            batch_size,
            seed,
            shuffle_rows=shuffle_rows,
            epochs=epochs,
            scale=scale,
            dtype=dtype,
            device=device,
        )

    def rows(self, start: int, stop: int) -> Float[Tensor, "row d_in"]:
        """Rows `start` to `stop - 1`, in the order in which they are kept.

        That is the order of the text unless the harvest was shuffled.
        """
        if not 0 <= start <= stop <= self.n_rows:
            raise ConfigError(
                f"rows {start} to {stop} were asked for; this store has rows 0 to {self.n_rows}."
            )
        return self._rows.read(self._start + start, self._start + stop)

    def in_order(
        self, batch_size: int
    ) -> Iterator[tuple[Float[Tensor, "row d_in"], Int[Tensor, " row"], Int[Tensor, " row"]]]:
        """Every row once, in the order of `rows`: activations, context numbers, positions.

        The position counts from the beginning of the context, special tokens included, so that
        `context(i)[position]` is the token that the activation belongs to.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; expected at least 1.")
        for start in range(self._start, self._stop, batch_size):
            stop = min(start + batch_size, self._stop)
            yield self._rows.read(start, stop), *self._rows.where(start, stop)

    def part(self, start: int, stop: int) -> "ActivationStore":
        """The store of rows `start` to `stop - 1` alone; nothing is copied."""
        if not 0 <= start < stop <= self.n_rows:
            raise ConfigError(
                f"a part from row {start} to {stop} was asked for; expected at least one of the "
                f"rows 0 to {self.n_rows}."
            )
        return ActivationStore(
            self._rows,
            hook_point=self.hook_point,
            manifest=self.manifest,
            contexts=self._contexts,
            start=self._start + start,
            stop=self._start + stop,
        )

    def split(self, held_out: float) -> tuple["ActivationStore", "ActivationStore"]:
        """A part to train on and, behind it, one to evaluate on, cut between two contexts.

        A shuffled harvest is cut between two shards, as near as that gets.

        **Arguments:**
        - `held_out`: share of the rows that is held out, between 0 and 1.

        **Raises:** `ConfigError` if one part would be empty.
        """
        if not 0.0 < held_out < 1.0:
            raise ConfigError(f"held_out is {held_out}; expected a share between 0 and 1.")
        cut = self._start + round(self.n_rows * (1.0 - held_out))
        if self._is_shuffled and isinstance(self._rows, ShardedRows):
            inside = [b for b in self._rows.boundaries if self._start < b < self._stop]
            cut = min(inside, key=lambda boundary: abs(boundary - cut), default=self._stop)
        while not self._is_shuffled and self._start < cut < self._stop:
            (before, here), _ = self._rows.where(cut - 1, cut + 1)
            if before != here:
                break
            cut += 1
        if not self._start < cut < self._stop:
            raise ConfigError(
                f"holding out {held_out} of {self.n_rows} rows leaves one part without a whole "
                f"{'shard' if self._is_shuffled else 'context'}. Harvest more text"
                f"{', in smaller shards,' if self._is_shuffled else ','} or hold out another share."
            )
        rows = self.n_rows
        return self.part(0, cut - self._start), self.part(cut - self._start, rows)

    @property
    def n_contexts(self) -> int:
        """Number of contexts in the whole harvest."""
        return self._text.n_contexts

    def context(self, index: int) -> Int[Tensor, " position"]:
        """Token numbers of a context, special tokens included."""
        return self._text.context(index)

    def tokens_text(self, token_ids: Int[Tensor, " position"] | list[int]) -> list[str]:
        """What each token looks like in running text, so that joined together they can be read."""
        pieces = self._text.pieces
        return [pieces[int(token)] for token in token_ids]

    def check(self) -> None:
        """Read every shard and compare it with the hash it was written with.

        **Raises:** `FormatError` naming the shard that has changed.
        """
        if isinstance(self._rows, ShardedRows):
            self._rows.check()

    @property
    def _is_shuffled(self) -> bool:
        return self.manifest.get("request", {}).get("shuffle_seed") is not None

    @property
    def _is_whole(self) -> bool:
        return self.n_rows == self._rows.n_rows

    @property
    def _text(self) -> ContextFiles:
        if self._contexts is None:
            raise DataError(
                "these activations came without their text, so there are no contexts. Harvest "
                "them from a language model to have both."
            )
        return self._contexts

    def _blocks(self) -> Iterator[Tensor]:
        for start in range(self._start, self._stop, _ROWS_AT_ONCE):
            yield self._rows.read(start, min(start + _ROWS_AT_ONCE, self._stop))


def _read_npy(path: Path) -> Tensor:
    try:
        # copy-on-write: torch wants memory that it may write to, and the file stays as it is
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError, TypeError) as error:
        raise FormatError(
            f"'{path}' cannot be read as .npy: {error}. Save it again with numpy.save."
        ) from error
