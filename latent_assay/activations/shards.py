"""Rows of activations on disk or in memory, read by number.

A harvest is written in *shards*: safetensors files of consecutive rows, each complete or absent.
Reading maps the file and copies only the rows asked for, so memory does not grow with the store.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from latent_assay.errors import FormatError, ShapeError


@runtime_checkable
class Rows(Protocol):
    """Numbered activations, with the place in the text that each comes from."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def d_in(self) -> int:
        """Length of each."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Type in which they are kept."""
        ...

    def read(self, start: int, stop: int) -> Float[Tensor, "row d_in"]:
        """Rows `start` to `stop - 1`."""
        ...

    def where(self, start: int, stop: int) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
        """Context number and position within it of rows `start` to `stop - 1`."""
        ...


class TensorRows:
    """Rows that are in memory (or mapped by numpy), without a text behind them."""

    def __init__(self, x: Float[Tensor, "row d_in"]) -> None:
        self.x = x
        self.n_rows, self.d_in = x.shape
        self.dtype = x.dtype

    def read(self, start: int, stop: int) -> Float[Tensor, "row d_in"]:
        """Rows `start` to `stop - 1`."""
        return self.x[start:stop]

    def where(self, start: int, stop: int) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
        """Without a text, every row counts as a context of its own."""
        return torch.arange(start, stop), torch.zeros(stop - start, dtype=torch.int64)


@dataclass(frozen=True)
class PartOfRows:
    """Some consecutive rows of others, numbered from zero."""

    rows: Rows
    """All the rows."""
    start: int
    """The first that belongs to the part."""
    stop: int
    """The first that no longer does."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    @property
    def d_in(self) -> int:
        """Length of each."""
        return self.rows.d_in

    @property
    def dtype(self) -> torch.dtype:
        """Type in which they are kept."""
        return self.rows.dtype

    def read(self, start: int, stop: int) -> Float[Tensor, "row d_in"]:
        """Rows `start` to `stop - 1` of the part."""
        return self.rows.read(self.start + start, self.start + stop)

    def where(self, start: int, stop: int) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
        """Context number and position within it of these rows."""
        return self.rows.where(self.start + start, self.start + stop)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a store, as its manifest describes it."""

    file: str
    """Name of the file within the hook point's folder."""
    n_rows: int
    """Number of rows in it."""
    bytes: int
    """Its size."""
    sha256: str
    """Hash of its content, which `ActivationStore.check` compares."""
    norm_sum: float
    """Sum of the rows' lengths."""
    n_outliers: int
    """Number of rows left out for their length."""


class ShardedRows:
    """Rows in the shards of a harvest.

    **Arguments:**
    - `folder`: where the shards are.
    - `shards`: what the manifest says of them.
    - `d_in`, `dtype`: length and type of the rows.
    - `facts`: what every shard must say of itself.

    **Raises:** `FormatError` if a file is missing, has not the size it was written with, or is of
    another harvest: of another model, type, context size or choice of rows.
    """

    def __init__(
        self,
        folder: Path,
        shards: list[Shard],
        d_in: int,
        dtype: torch.dtype,
        facts: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.shards = shards
        self.d_in = d_in
        self.dtype = dtype
        self.n_rows = sum(shard.n_rows for shard in shards)
        for shard in shards:
            size = file_size(folder / shard.file)
            if size != shard.bytes:
                raise FormatError(
                    f"the shard '{folder / shard.file}' "
                    + ("is missing" if size is None else f"has {size:,} bytes")
                    + f"; expected {shard.bytes:,} bytes. {REMEDY}"
                )
            self._check_facts(folder / shard.file, shard, facts)

    def _check_facts(self, path: Path, shard: Shard, facts: dict[str, Any]) -> None:
        with opened(path) as file:
            found = stated_facts(file)
            rows = file.get_slice("activations") if "activations" in file.keys() else None  # noqa: SIM118
            kind = None if rows is None else rows.get_dtype()
            shape = None if rows is None else rows.get_shape()
        for name, expected in facts.items():
            if found.get(name) != expected:
                raise FormatError(
                    f"the shard '{path}' is of another harvest: its {name} is "
                    f"{found.get(name)!r}, expected {expected!r}. {REMEDY}"
                )
        if kind != _NAMES_OF_TYPES.get(self.dtype) or shape != [shard.n_rows, self.d_in]:
            raise FormatError(
                f"the shard '{path}' holds activations of type {kind} and shape {shape}; expected "
                f"{_NAMES_OF_TYPES.get(self.dtype)} and {[shard.n_rows, self.d_in]}. {REMEDY}"
            )

    @property
    def boundaries(self) -> list[int]:
        """Number of the first row of every shard but the first."""
        return list(accumulate(shard.n_rows for shard in self.shards))[:-1]

    def read(self, start: int, stop: int) -> Float[Tensor, "row d_in"]:
        """Rows `start` to `stop - 1`."""
        parts = [
            self._part(shard, "activations", first, last)
            for shard, first, last in self._overlapping(start, stop)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts) if parts else self._empty()

    def where(self, start: int, stop: int) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
        """Context number and position within it of rows `start` to `stop - 1`."""
        found = list(self._overlapping(start, stop))
        context, position = (
            torch.cat(
                [torch.empty(0, dtype=torch.int64)]
                + [self._part(shard, name, first, last).long() for shard, first, last in found]
            )
            for name in ("context", "position")
        )
        return context, position

    def sum(self) -> Float[Tensor, " d_in"]:
        """Sum of all rows, as it was taken when they were written."""
        total = torch.zeros(self.d_in, dtype=torch.float64)
        for shard in self.shards:
            with opened(self.folder / shard.file) as file:
                total += file.get_tensor("sum")
        return total

    def check(self) -> None:
        """Compare the content of every shard with the hash it was written with."""
        for shard in self.shards:
            path = self.folder / shard.file
            with opened(path) as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if content_hash(tensors) != shard.sha256:
                raise FormatError(f"the content of the shard '{path}' has changed. {REMEDY}")

    def _overlapping(self, start: int, stop: int) -> Iterator[tuple[Shard, int, int]]:
        first_row = 0
        for shard in self.shards:
            first, last = max(start - first_row, 0), min(stop - first_row, shard.n_rows)
            if first < last:
                yield shard, first, last
            first_row += shard.n_rows

    def _part(self, shard: Shard, name: str, first: int, last: int) -> Tensor:
        path = self.folder / shard.file
        with opened(path) as file:
            part = file.get_slice(name)
            width = [self.d_in] if name == "activations" else []
            if part.get_shape() != [shard.n_rows, *width]:
                raise FormatError(
                    f"`{name}` in the shard '{path}' has shape {part.get_shape()}; expected "
                    f"{[shard.n_rows, *width]}. {REMEDY}"
                )
            return part[first:last]

    def _empty(self) -> Tensor:
        return torch.empty(0, self.d_in, dtype=self.dtype)


_NAMES_OF_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
REMEDY = "Delete that file and run the same harvest again: only that shard is computed anew."


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file opened for reading; a damaged one is a `FormatError`."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise FormatError(
            f"the file '{path}' cannot be read as safetensors: {error}. {REMEDY}"
        ) from error


def stated_facts(file: Any) -> dict[str, Any]:
    """What an open shard says of the harvest that it belongs to; empty if it says nothing."""
    try:
        found = json.loads(file.metadata()["harvest"])["facts"]
    except (KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def file_size(path: Path) -> int | None:
    """Size in bytes; None if there is no such file."""
    return path.stat().st_size if path.is_file() else None


def content_hash(tensors: dict[str, Tensor]) -> str:
    """Hash of the numbers in some tensors."""
    digest = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def checked_rows(x: Tensor, source: str) -> Tensor:
    """A tensor that can be rows of activations.

    **Raises:** `ShapeError` unless it is `[row, d_in]`; `FormatError` unless it is floating point.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise ShapeError(
            f"{source} has shape {list(x.shape)}; expected [row, d_in] with at least one row. "
            "Flatten batch and position into rows first: x.flatten(0, -2)."
        )
    if not x.is_floating_point():
        raise FormatError(
            f"{source} holds {str(x.dtype).removeprefix('torch.')}; expected floating-point "
            "activations. Convert them: x.float()."
        )
    return x
