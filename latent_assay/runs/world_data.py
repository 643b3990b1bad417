"""A world as a source: samples whose features are known."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay import baselines
from latent_assay.errors import ConfigError, WorldError, did_you_mean
from latent_assay.runs.config import WorldSource
from latent_assay.runs.data import Data, Request
from latent_assay.sae import SAE
from latent_assay.worlds import Sample, World, presets


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
    def has_offset(self) -> bool:
        """False: where features do not fire there is nothing."""
        return False


def open_world(request: Request) -> dict[str | None, Data]:
    """The one place of a world."""
    source = request.config.source
    assert isinstance(source, WorldSource)
    return {None: WorldData(source, request.config.seed)}
