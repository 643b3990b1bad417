"""Activations on the disk as a source, one's own or harvested."""

from collections.abc import Iterator
from typing import Any

from jaxtyping import Float
from torch import Tensor

from latent_assay.activations import ActivationStore
from latent_assay.batch import Batch
from latent_assay.runs.config import FileSource, ModelSource
from latent_assay.runs.data import Data, Request

_MEASURED_AT_ONCE = 2_048


class StoredData(Data):
    """Activations on the disk or in memory."""

    def __init__(self, store: ActivationStore, source: ModelSource | FileSource):
        self.store = store
        self.browsed = getattr(source, "browsed", 0)
        self.train_store, rest = store.split(self._held_out(source))
        self.test_store = rest.part(0, min(rest.n_rows, source.measured))
        self.d_in = store.d_in
        self.scale = self.train_store.normalising_scale if source.normalise else 1.0

    def _held_out(self, source: ModelSource | FileSource) -> float:
        """The share of the rows that are measured on."""
        return source.held_out

    def stream(self, batch_size: int, seed: int) -> Iterator[Batch]:
        """Rows in random order, for ever."""
        return self.train_store.stream(batch_size, seed, scale=self.scale)

    def held_out(self) -> Iterator[Tensor]:
        """Rows from the last part of the text."""
        for x, _, _ in self.test_store.in_order(_MEASURED_AT_ONCE):
            yield x.float()

    def excerpt(self, n: int) -> Float[Tensor, "sample d_in"]:
        """Shuffled rows of the first part."""
        n = min(n, self.train_store.n_rows)
        return next(iter(self.train_store.stream(n, seed=0)))

    def seen(self, n: int) -> Float[Tensor, "sample d_in"] | None:
        """As `excerpt`."""
        return self.excerpt(n)

    @property
    def text(self) -> ActivationStore | None:
        """The first rows of a harvest."""
        if not self.store.manifest:
            return None
        return self.store.part(0, min(self.store.n_rows, self.browsed))

    def provenance(self) -> dict[str, Any]:
        """The harvest's manifest, without its list of files."""
        dropped = {"shards", "contexts", "folders"}
        return {
            "activations": {k: v for k, v in self.store.manifest.items() if k not in dropped},
            "rows": self.store.n_rows,
            "rows measured on": self.test_store.n_rows,
            "training scale": self.scale,
        }


def open_file(request: Request) -> dict[str | None, Data]:
    """The one place of a file."""
    source = request.config.source
    assert isinstance(source, FileSource)
    store = ActivationStore.from_file(source.path, tensor=source.tensor)
    return {None: StoredData(store, source)}
