"""All headline metrics of an SAE in one pass over data, as it is used after training."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.batch import WeightedBatch
from latent_assay.metrics import (
    Classification,
    MeanSd,
    Reconstruction,
    Sparsity,
    encoder_decoder_cosine,
    match,
    mcc,
    mmcs,
    project_on_span,
    summary,
    uniqueness,
)
from latent_assay.sae import SAE
from latent_assay.worlds import Sample


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What an SAE does on data."""

    metrics: Mapping[str, Float64[Tensor, " member"]]
    """Headline numbers, one per member, by their name in `METRICS`."""
    density: Float64[Tensor, "member latent"]
    """Share of samples on which each latent fires."""
    firing_max: Float64[Tensor, "member latent"]
    """Largest latent activation."""
    n: int
    """Number of samples."""

    def summary(self) -> dict[str, MeanSd]:
        """Mean and standard deviation over members."""
        return {name: summary(values) for name, values in self.metrics.items()}


@torch.no_grad()
def measure(
    sae: SAE,
    batches: Iterable[Tensor | WeightedBatch | Sample],
    *,
    features: Float[Tensor, "feature d_in"] | None = None,
) -> Measurement:
    """Measure an SAE in its exported form, in which every sample is treated alone.

    BatchTopK therefore runs with its threshold, as it will in use, not with the choice within a
    batch that it was trained with.

    **Arguments:**
    - `sae`: any number of members.
    - `batches`: activations; a world's samples carry which features fired and add the metrics that
      need it.
    - `features`: true directions, for the metrics that compare weights with them.

    **Raises:** `DataError` if there is no data; `ShapeError` if it does not fit the SAE.
    """
    sae = sae.exported()
    exists = None if sae.padding is None else ~sae.padding
    reconstruction, sparsity, classification = Reconstruction(), Sparsity(), Classification()
    knows_firing = False
    for batch in batches:
        x, weight, firing = _parts(batch)
        x = x.to(sae.W_enc)
        z = sae.encode(x)
        reconstruction.update(x, sae.decode(z), weight)
        sparsity.update(z, weight)
        if firing is not None:
            knows_firing = True
            classification.update(z, firing, weight)
    fires = sparsity.result(exists)
    metrics = {**reconstruction.result().metrics(), **fires.metrics()}
    metrics["encoder_decoder_cosine"] = _encoder_decoder(sae, features)
    if features is not None:
        features = features.to(sae.W_dec)
        metrics["mmcs"] = mmcs(sae.W_dec, features, exists)
        metrics["mcc"] = mcc(sae.W_dec, features, exists)
        metrics["uniqueness"] = uniqueness(sae.W_dec, features, exists)
        if knows_firing:
            matched = match(sae.W_dec, features, exists).feature
            metrics |= classification.result(matched, chosen_by="match", mask=exists).metrics()
    if knows_firing:
        metrics |= classification.result(mask=exists).metrics()
    return Measurement(
        metrics=metrics, density=fires.density, firing_max=fires.firing_max, n=fires.n
    )


def _parts(
    batch: Tensor | WeightedBatch | Sample,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if isinstance(batch, Tensor):
        return batch, None, None
    if isinstance(batch, WeightedBatch):
        return batch.x, batch.weight, None
    return batch.x, None, batch.firing


def _encoder_decoder(sae: SAE, features: Tensor | None) -> Float64[Tensor, " member"]:
    """Mean over the latents that exist; in a world, of the encoder's part in the features' span."""
    encoder = sae.W_enc
    if features is not None:
        encoder = project_on_span(encoder, features.to(encoder)).to(encoder)
    cosines = encoder_decoder_cosine(encoder, sae.W_dec)
    if sae.padding is None:
        return cosines.mean(-1)
    return cosines.masked_fill(sae.padding, 0).sum(-1) / (~sae.padding).sum(-1)
