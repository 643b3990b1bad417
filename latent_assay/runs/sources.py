"""Where a run's activations come from, made ready: for training, for measuring, for reading.

A new kind of source is a `Data`, a function that opens it, and an entry in `OPENERS`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from latent_assay.activations import LanguageModel, Plan
from latent_assay.distributed import Ranks
from latent_assay.runs.config import FileSource, ImagesSource, ModelSource, RunConfig, WorldSource
from latent_assay.runs.data import Data, Request
from latent_assay.runs.images import open_images
from latent_assay.runs.live_source import LockstepStream
from latent_assay.runs.model_data import LiveData, language_model, open_model, text_of
from latent_assay.runs.stored_data import StoredData, open_file
from latent_assay.runs.world_data import WorldData, open_world

__all__ = [
    "OPENERS",
    "Data",
    "LiveData",
    "Prepared",
    "Request",
    "StoredData",
    "WorldData",
    "language_model",
    "prepare",
    "text_of",
]

OPENERS: dict[type, Callable[[Request], Mapping[str | None, Data]]] = {
    WorldSource: open_world,
    FileSource: open_file,
    ModelSource: open_model,
    ImagesSource: open_images,
}
"""What opens each kind of source."""


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

    def together(self, batch_size: int, seed: int) -> LockstepStream | None:
        """One stream of all hook points, for sources that are read but once; else None."""
        live = {name: data for name, data in self.data.items() if isinstance(data, LiveData)}
        if not live:
            return None
        reader = self.first.reader  # type: ignore[attr-defined]
        stream = reader.stream(list(live), batch_size, seed)
        return LockstepStream(stream, {str(name): data.scale for name, data in live.items()})

    @property
    def first(self) -> Data:
        """The activations of the first hook point."""
        return self.at(None)


def prepare(
    config: RunConfig,
    folder: Path,
    *,
    harvest: bool,
    progress: bool = True,
    ranks: Ranks | None = None,
    model: LanguageModel | None = None,
    plan: Plan | None = None,
) -> Prepared:
    """Make a run's activations ready; with `harvest`, read them from the model if need be.

    **Arguments:** as the fields of `Request`.

    **Raises:** `FormatError` if they have not been harvested and may not be.
    """
    request = Request(
        config=config,
        folder=folder,
        harvest=harvest,
        progress=progress,
        ranks=ranks,
        model=model,
        plan=plan,
    )
    return Prepared(OPENERS[type(config.source)](request))
