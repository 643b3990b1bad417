"""A language model as a source: what it has read is stored, or trained on as it reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from latent_assay import activations
from latent_assay.activations import ActivationStore, LanguageModel, TextSource
from latent_assay.batch import Batch
from latent_assay.errors import ConfigError, FormatError, did_you_mean
from latent_assay.runs.config import FileSource, ModelSource
from latent_assay.runs.data import Data, Request
from latent_assay.runs.live_source import LiveReader, LockstepStream, kept_tokens
from latent_assay.runs.stored_data import StoredData

BUNDLED = {"bundled:all-MiniLM-L6-v2": activations.bundled_minilm}


class LiveData(StoredData):
    """Activations that are not stored, but for a part that training never sees.

    **Arguments:**
    - `store`: that part.
    - `source`: the model and text.
    - `reader`: reads the rest; None where nothing is trained.
    """

    def __init__(self, store: ActivationStore, source: ModelSource, reader: LiveReader | None):
        super().__init__(store, source)
        self.reader = reader

    def _held_out(self, source: ModelSource | FileSource) -> float:
        """Half: the other adjusts baselines, and is browsed."""
        return 0.5

    def stream(self, batch_size: int, seed: int) -> Iterator[Batch]:
        """What the model reads, at this hook point alone."""
        assert self.reader is not None
        name = self.store.hook_point
        stream = self.reader.stream([name], batch_size, seed)
        return LockstepStream(stream, {name: self.scale}).at(name)

    def seen(self, n: int) -> None:
        """None: what was trained on has gone."""
        return None

    @property
    def text(self) -> ActivationStore | None:
        """What is kept and not measured on."""
        return self.train_store.part(0, min(self.train_store.n_rows, self.browsed))


def open_model(request: Request) -> dict[str | None, Data]:
    """Every hook point of a model."""
    source = request.config.source
    assert isinstance(source, ModelSource)
    place = activations_folder(source, request.folder)
    model = request.model
    if request.harvest:
        model = model or language_model(source)
        stores = _harvested(source, model, place, request)
    elif place.is_dir():
        stores = {name: ActivationStore.open(place, name) for name in source.names}
    else:
        raise FormatError(
            f"'{request.folder}' holds no activations (expected in '{place}'), so nothing can be "
            "measured; run `assay train` with its configuration first."
        )
    if source.stream == "disk":
        return {name: StoredData(stores[name], source) for name in source.names}
    reader = None
    if model is not None:
        reader = LiveReader(model, text_of(source), source, request.config.device)
    return {name: LiveData(stores[name], source, reader) for name in source.names}


def activations_folder(source: ModelSource, folder: Path) -> Path:
    """Where a run's activations are kept: within its own folder unless the source says where."""
    if source.activations is None:
        return folder / "activations"
    return Path(source.activations).expanduser()


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


def harvest_settings(source: ModelSource) -> dict[str, Any]:
    """What `harvest` and `plan_harvest` are asked for a source."""
    return {
        "hook_points": source.names,
        "n_tokens": source.tokens if source.stream == "disk" else kept_tokens(source),
        "context_size": source.context_size,
        "batch_size": source.contexts_at_once,
        "dtype": getattr(torch, source.dtype),
        "pack": source.pack,
        "max_ram": source.max_ram,
    }


def _harvested(
    source: ModelSource, model: LanguageModel, place: Path, request: Request
) -> dict[str, ActivationStore]:
    return activations.harvest(
        model,
        text_of(source),
        folder=place,
        shuffle_seed=source.shuffle_seed,
        progress=request.progress,
        ranks=request.ranks,
        plan=request.plan,
        **harvest_settings(source),
    )
