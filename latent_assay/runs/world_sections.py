"""What can be shown of SAEs only where the true features are known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from latent_assay.metrics import cosine_map, encoder_cosine_map
from latent_assay.report import CosineMap, CosineMaps, Prose
from latent_assay.runs.beside_baselines import Trained
from latent_assay.runs.data import Data
from latent_assay.runs.families import families
from latent_assay.runs.world_data import WorldData


def world_sections(trained: Sequence[Trained], mapped: Sequence[Trained], data: Data) -> list[Any]:
    """Which latent is which feature, what has become of families, and the world itself.

    **Arguments:**
    - `trained`: the SAEs.
    - `mapped`: those of them whose cosines with the features are shown.
    - `data`: activations whose features are known.
    """
    features = data.features
    assert features is not None
    maps = []
    for each in mapped:
        member = most_typical(cosine_map(each.sae.W_dec, features.to(each.sae.W_dec)))
        kept = each.sae.take(member)
        encoder = encoder_cosine_map(kept.W_enc[0], features.to(kept.W_enc))
        maps.append(
            CosineMap(
                name=each.name,
                decoder=cosine_map(kept.W_dec[0], features.to(kept.W_dec)).detach().numpy(),
                encoder=None if kept.tied else encoder.detach().numpy(),
                sentence=each.plan.about,
            ).arranged()
        )
    sections: list[Any] = []
    if maps:
        sections.append(
            CosineMaps(
                title="Which latent is which feature",
                maps=tuple(maps),
                sentence=(
                    "Cosines of latents with true features; of each ensemble the member that "
                    "resembles the others most. Encoders are shown in the span of the features, as "
                    "noise outside it never gets a gradient."
                ),
            )
        )
    if isinstance(data, WorldData):
        sections += families([(each.name, each.sae) for each in trained], data.world)
        sections.append(Prose(title="The world", paragraphs=(str(data.world),), tone="verbatim"))
    return sections


def most_typical(maps: Tensor) -> int:
    """The member whose arranged map is nearest to all others."""
    arranged = np.stack(
        [CosineMap(name="", decoder=each).arranged().decoder for each in maps.detach().numpy()]
    )
    distance = ((arranged[:, None] - arranged[None]) ** 2).sum((2, 3)) ** 0.5
    return int(distance.sum(1).argmin())
