"""Where a run's activations come from, made ready: for training, for measuring, for reading.

A new kind of source is a `Data`, a function that opens it, and an entry in `OPENERS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay import activations, baselines
from latent_assay.activations import ActivationStore, LanguageModel, TextSource
from latent_assay.distributed import Ranks
from latent_assay.errors import ConfigError, FormatError, WorldError, did_you_mean
from latent_assay.runs.config import FileSource, ModelSource, RunConfig, WorldSource
from latent_assay.sae import SAE
from latent_assay.worlds import Sample, World, presets

BUNDLED = {"bundled:all-MiniLM-L6-v2": activations.bundled_minilm}

_MEASURED_AT_ONCE = 2_048


class Data(ABC):
    """Activations, ready to train and measure on."""

    d_in: int
    """Their length."""
    scale: float = 1.0
    """What they are multiplied with in training."""

    @abstractmethod
    def stream(self, batch_size: int, seed: int) -> Iterator[Tensor]:
        """An endless, resumable stream of scaled batches for training."""

    @abstractmethod
    def held_out(self) -> Iterable[Tensor | Sample]:
        """Raw activations that training has not seen."""

    @abstractmethod
    def excerpt(self, n: int) -> Float[Tensor, "sample d_in"]:
        """Some raw activations from training, to adjust baselines on."""

    @property
    def features(self) -> Float[Tensor, "feature d_in"] | None:
        """The true features, where they are known."""
        return None

    def oracle(self) -> SAE | None:
        """The SAE that knows the true features, where there is one."""
        return None

    def provenance(self) -> dict[str, Any]:
        """Where the activations come from."""
        return {}

    @property
    def is_finite(self) -> bool:
        """Whether there are only so many activations, so that training sees them again and again,
        and whether their mean is worth beginning at."""
        return True


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be made ready, and how."""

    config: RunConfig
    """The run."""
    folder: Path
    """Its folder."""
    harvest: bool
    """Whether activations may be read from a model; otherwise they must be there."""
    progress: bool = True
    """Whether to show bars."""
    ranks: Ranks | None = None
    """The processes that share the work."""


class Prepared:
    """A run's activations, at every hook point.

    **Arguments:**
    - `data`: hook point → activations; one None for a source without hook points.
    """

    def __init__(self, data: Mapping[str | None, Data]):
        self.data = dict(data)

    def at(self, hook_point: str | None) -> Data:
        """The activations that an SAE reads; None is the only place there is."""
        if hook_point is None:
            return next(iter(self.data.values()))
        return self.data[hook_point]

    @property
    def first(self) -> Data:
        """The activations of the first hook point."""
        return self.at(None)


class WorldData(Data):
    """Samples of a world."""

    def __init__(self, source: WorldSource, seed: int):
        makers = presets.PRESETS
        if source.preset not in makers:
            raise ConfigError(
                f"there is no world `{source.preset}`; expected one of {', '.join(makers)}."
                f"{did_you_mean(source.preset, makers)}"
            )
        try:
            self.world: World = makers[source.preset](**source.options)
        except TypeError as error:
            raise ConfigError(f"the world `{source.preset}` cannot be made: {error}.") from error
        self.samples = source.samples
        self.seed = seed
        self.d_in = self.world.d_in

    def stream(self, batch_size: int, seed: int) -> Iterator[Tensor]:
        """Samples drawn as they are needed."""
        return self.world.stream(batch_size, seeds=seed)

    def held_out(self) -> Iterator[Sample]:
        """Fresh samples with their truth."""
        # a seed that no training stream uses
        generator = torch.Generator().manual_seed(2**31 + self.seed)
        for start in range(0, self.samples, 10_000):
            yield self.world.sample(min(10_000, self.samples - start), generator)

    def excerpt(self, n: int) -> Float[Tensor, "sample d_in"]:
        """Samples."""
        return self.world.sample(n, torch.Generator().manual_seed(2**31 - 1 - self.seed)).x

    @property
    def features(self) -> Float[Tensor, "feature d_in"]:
        """The true features."""
        return self.world.features

    def oracle(self) -> SAE | None:
        """The true dictionary."""
        try:
            return baselines.oracle(self.world)
        except WorldError:  # a feature that a learned world left without direction
            return None

    def provenance(self) -> dict[str, Any]:
        """The world's portrait."""
        return {"world": str(self.world)}

    @property
    def is_finite(self) -> bool:
        """False: samples never repeat."""
        return False


class StoredData(Data):
    """Activations on the disk or in memory."""

    def __init__(self, store: ActivationStore, source: ModelSource | FileSource):
        self.store = store
        self.browsed = getattr(source, "browsed", 0)
        self.train_store, rest = store.split(source.held_out)
        self.test_store = rest.part(0, min(rest.n_rows, source.measured))
        self.d_in = store.d_in
        self.scale = self.train_store.normalising_scale if source.normalise else 1.0

    def stream(self, batch_size: int, seed: int) -> Iterator[Tensor]:
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

    def provenance(self) -> dict[str, Any]:
        """The harvest's manifest, without its list of files."""
        dropped = {"shards", "contexts", "folders"}
        return {
            "activations": {k: v for k, v in self.store.manifest.items() if k not in dropped},
            "rows": self.store.n_rows,
            "rows measured on": self.test_store.n_rows,
            "training scale": self.scale,
        }


def prepare(
    config: RunConfig,
    folder: Path,
    *,
    harvest: bool,
    progress: bool = True,
    ranks: Ranks | None = None,
) -> Prepared:
    """Make a run's activations ready; with `harvest`, read them from the model if need be.

    **Raises:** `FormatError` if they have not been harvested and may not be.
    """
    request = Request(config=config, folder=folder, harvest=harvest, progress=progress, ranks=ranks)
    return Prepared(OPENERS[type(config.source)](request))


def _world(request: Request) -> dict[str | None, Data]:
    source = request.config.source
    assert isinstance(source, WorldSource)
    return {None: WorldData(source, request.config.seed)}


def _file(request: Request) -> dict[str | None, Data]:
    source = request.config.source
    assert isinstance(source, FileSource)
    store = ActivationStore.from_file(source.path, tensor=source.tensor)
    return {None: StoredData(store, source)}


def _model(request: Request) -> dict[str | None, Data]:
    source = request.config.source
    assert isinstance(source, ModelSource)
    place = request.folder / "activations"
    if request.harvest:
        stores = _harvested(source, place, request)
    elif place.is_dir():
        stores = {name: ActivationStore.open(place, name) for name in source.names}
    else:
        raise FormatError(
            f"'{request.folder}' holds no activations (a folder `activations`), so nothing can be "
            "measured; run "
            "`assay train` with its configuration first."
        )
    return {name: StoredData(stores[name], source) for name in source.names}


def language_model(source: ModelSource) -> LanguageModel:
    """The model of a source, loaded."""
    bundled = BUNDLED.get(source.name)
    if source.name.startswith("bundled:") and bundled is None:
        raise ConfigError(
            f"there is no bundled model `{source.name}`; expected {', '.join(BUNDLED)}."
            f"{did_you_mean(source.name, BUNDLED)}"
        )
    return LanguageModel.load(
        bundled() if bundled else source.name,
        device=source.device,
        dtype=getattr(torch, source.model_dtype),
        revision=source.revision,
    )


def text_of(source: ModelSource) -> TextSource:
    """The text of a source."""
    return activations.text_source(
        source.text, column=source.column, split=source.split, subset=source.subset
    )


def _harvested(source: ModelSource, place: Path, request: Request) -> dict[str, ActivationStore]:
    return activations.harvest(
        language_model(source),
        text_of(source),
        hook_points=source.names,
        folder=place,
        n_tokens=source.tokens,
        context_size=source.context_size,
        batch_size=source.contexts_at_once,
        dtype=getattr(torch, source.dtype),
        pack=source.pack,
        shuffle_seed=source.shuffle_seed,
        max_ram=source.max_ram,
        progress=request.progress,
        ranks=request.ranks,
    )


OPENERS: dict[type, Callable[[Request], Mapping[str | None, Data]]] = {
    WorldSource: _world,
    FileSource: _file,
    ModelSource: _model,
}
"""What opens each kind of source."""
