"""All evidence on one SAE, tier by tier."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from latent_assay.diagnosis.absorption_evidence import kinship, kinship_columns
from latent_assay.diagnosis.candidates import Candidates, candidates
from latent_assay.diagnosis.companion_evidence import companions
from latent_assay.diagnosis.evidence import Evidence, Tier
from latent_assay.diagnosis.firing_columns import firing_columns, kinship_strength
from latent_assay.diagnosis.firing_record import record
from latent_assay.diagnosis.hedge_evidence import hedges, nearest_to
from latent_assay.diagnosis.hedge_rows import hedge_rows
from latent_assay.diagnosis.kinship import relatives
from latent_assay.diagnosis.pair_evidence import pair_firings
from latent_assay.diagnosis.peaks import peaks
from latent_assay.diagnosis.ray_evidence import rays
from latent_assay.diagnosis.slope_evidence import residual_slope
from latent_assay.diagnosis.subject import Subject, subject
from latent_assay.diagnosis.weights_evidence import PairWeights, pair_weights
from latent_assay.errors import ConfigError, ShapeError
from latent_assay.sae import SAE

_ASYMMETRIC = 0.2


@torch.no_grad()
def evidence(
    sae: SAE,
    activations: Iterable[Float[Tensor, "_ d_in"]] | None = None,
    *,
    member: int | None = None,
    handed_over: Float[Tensor, " latent"] | None = None,
    generator: torch.Generator | None = None,
) -> Evidence:
    """Everything that is measured of each latent.

    **Arguments:**
    - `sae`: any SAE; it is measured as it is exported (`SAE.exported`).
    - `activations`: batches of raw activations, gone through once; None for the weights alone.
    - `member`: which member of an ensemble; None if there is only one.
    - `handed_over`: each latent's hedging degree from a continuation
      (`HedgingDegree.difference_by_latent`), which makes the tier *continuation*; needs
      activations.
    - `generator`: which firings are kept for a closer look; seed 0 if None.

    **Raises:** `ConfigError` if there are several members and none was chosen; `ShapeError` if
    something does not fit the SAE; `DataError` if there are no activations, or a number is not
    finite.
    """
    one = subject(sae, member)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    near = candidates(one.decoder, generator)
    pairs = pair_weights(one, near)
    columns = _weight_columns(one, near, pairs)
    drawings: dict[str, Tensor] = {
        "near.latent": near.index,
        "near.cosine": near.cosine,
        "near.gain": pairs.gain,
        "near.gained": pairs.gained,
        "near.encoder_cosine": pairs.encoder_cosine,
        "near.part": pairs.part,
    }
    if handed_over is not None and (activations is None or handed_over.shape != (one.width,)):
        if activations is None:
            raise ConfigError(
                "`handed_over` was given without activations; the tier *continuation* needs both."
            )
        raise ShapeError(
            f"`handed_over` has shape {list(handed_over.shape)}, expected [{one.width}]: one "
            "number for each latent of the SAE before it was extended."
        )
    if activations is None:
        return Evidence(
            tier=Tier.WEIGHTS,
            width=one.width,
            n_samples=0,
            columns=_numpy(columns),
            relatives=relatives(near, pairs, None, None, None),
            drawings=_numpy(drawings),
        )
    seen = record(one, activations, near, generator)
    firings = pair_firings(one, seen, near)
    hedge = hedges(one, seen)
    groups = peaks(seen.values)
    columns |= firing_columns(seen, near, pairs, firings, hedge, groups, rays(one, seen, near))
    columns |= kinship_columns(kinship(one, seen, near, pairs, firings), near)
    company, slope = companions(one, seen.sketch), residual_slope(one, seen, near)
    columns |= {
        "companion_strength": company.strength,
        "companion_off": company.off,
        "companion_share": company.share,
        "residual_slope": slope.across,
        "steady_slope": slope.steady,
    }
    hedged = nearest_to(hedge.direction, one.decoder, 0.5)
    if handed_over is not None:
        columns["handed_over"] = handed_over.detach().cpu()
    count, top = _histogram(seen.values)
    strongest = seen.kept.abs().topk(min(8, seen.kept.shape[1]), dim=-1).indices
    with_hedged, without_hedged = hedge_rows(seen, hedge)
    drawings |= {
        "hedge.present_row": with_hedged,
        "hedge.absent_row": without_hedged,
        "near.given": firings.given,
        "near.overlap": firings.overlap,
        "near.carried": firings.carried,
        "near.holes": firings.holes,
        "near.hole_row": firings.hole_row.to(torch.int64),
        "histogram.count": count,
        "histogram.top": top,
        "mixture.weight": groups.weight,
        "mixture.mean": groups.mean,
        "mixture.sd": groups.sd,
        "examples.row": seen.row.gather(-1, strongest),
        "examples.activation": seen.kept.gather(-1, strongest),
        "hedge.latent": hedged,
        "companion.latent": company.index,
    }
    return Evidence(
        tier=Tier.ACTIVATIONS if handed_over is None else Tier.CONTINUATION,
        width=one.width,
        n_samples=seen.n,
        columns=_numpy(columns),
        relatives=relatives(
            near, pairs, firings, hedge, hedged, kinship_strength(seen, near, firings, pairs)
        ),
        drawings=_numpy(drawings),
    )


def _weight_columns(one: Subject, near: Candidates, pairs: PairWeights) -> dict[str, Tensor]:
    own = (one.encoder * one.decoder).sum(-1)
    lengths = one.encoder.norm(dim=-1)
    apart = near.cosine < 0.95  # a duplicate is no parent
    real = apart & (near.cosine > 0)
    forth = torch.where(real, near.cosine - pairs.gain.clamp_min(0), 0.0)
    back = torch.where(real, near.cosine - pairs.gained.clamp_min(0), 0.0)
    both = torch.minimum(forth, back)
    parts = pairs.part.topk(min(2, pairs.part.shape[1]), dim=-1).values
    needs = (one.threshold - one.offset) / own.clamp_min(1e-12)
    usual = needs[(own > 0) & (one.length > 0)].abs().median() if bool((own > 0).any()) else own[0]
    reach = torch.where(own > 1e-12, needs / usual.clamp_min(1e-6), torch.nan)
    length = one.length / one.length.median().clamp_min(1e-30)
    return {
        "nearest": near.cosine[:, 0],
        "nearest_encoder": pairs.encoder_cosine[:, 0],
        "opposite": near.cosine[:, -1],
        "encoder_decoder": own / lengths.clamp_min(1e-30),
        "self_gain": own,
        "reach": reach.clamp(-100, 100),
        "decoder_length": length.clamp_min(1e-6).log(),
        "asymmetry": forth.amax(-1),
        "asymmetry_reverse": back.amax(-1),
        "asymmetric": (both > _ASYMMETRIC).sum(-1).float(),
        "explained": pairs.explained,
        "first_part": parts[:, 0],
        "second_part": parts[:, -1] if parts.shape[1] > 1 else torch.zeros_like(parts[:, 0]),
        "crowding": near.cosine.square().mean(-1),
    }


def _histogram(
    values: Float[Tensor, "latent value"], bins: int = 40
) -> tuple[Tensor, Float[Tensor, " latent"]]:
    size = values.abs()
    top = size.nan_to_num(0.0).amax(-1).clamp_min(1e-30)
    place = (size / top.unsqueeze(-1) * bins).nan_to_num(float(bins)).clamp(0, bins)
    place = torch.where(size.isfinite(), place.clamp_max(bins - 1e-3), float(bins)).to(torch.int64)
    count = torch.zeros(len(values), bins + 1, dtype=torch.int32)
    count.scatter_add_(1, place, torch.ones_like(place, dtype=torch.int32))
    return count[:, :bins], top


def _numpy(tensors: dict[str, Tensor]) -> dict[str, ndarray]:
    return {
        name: tensor.double().numpy()
        if name.find(".") < 0
        else np.ascontiguousarray(tensor.numpy())
        for name, tensor in tensors.items()
    }
