"""What is measured of one setting of a grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from latent_assay.diagnosis.choosing.balance import ABSORBED, HEDGED, TOTAL
from latent_assay.diagnosis.choosing.sparsity import COSINE, PROJECTION
from latent_assay.diagnosis.judging import diagnose
from latent_assay.diagnosis.verdict import Verdict
from latent_assay.errors import DataError
from latent_assay.measurement import measure
from latent_assay.metrics.decoder_projection import NthDecoderProjection
from latent_assay.metrics.pairwise_cosine import decoder_pairwise_cosine
from latent_assay.sae import SAE

_ROWS = 2_048
_QUARTER = 0.25


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which curves are worth their time; FVU and L0 always are."""

    mixing: bool = True
    """The decoder's pairwise cosine and n-th projection."""
    verdicts: bool = False
    """The shares of absorbed and hedged latents, by a diagnosis of every member."""


@torch.no_grad()
def measure_setting(
    sae: SAE, parts: Sequence[Float[Tensor, "sample d_in"]], wanted: Wanted
) -> dict[str, Float[ndarray, "member part"]]:
    r"""The curves' values at one setting.

    `fvu` and `l0` for each part of the data; $c_{dec}$ over the latents that fire anywhere in the
    data; $s_n$ for each part with $n$ a quarter of those latents. (At half of them, $s_n$ is the
    median of all projections, which is near 0 for whatever is symmetric.) Shares of latents come
    from one diagnosis of each member on all parts together: *absorbed* counts absorbing ones too.

    **Arguments:**
    - `sae`: all members of the setting, for raw activations.
    - `parts`: raw activations, in parts of about equal size.
    - `wanted`: which curves.

    **Returns:** curve → its values; a part axis of length one where parts have no share in it.

    **Raises:** `DataError` if there is no data or a member has fewer than eight living latents.
    """
    if not parts or not all(len(part) for part in parts):
        raise DataError("choosing needs activations in every part of the data, found none.")
    found = [measure(sae, part.split(_ROWS)) for part in parts]
    curves = {
        name: torch.stack([each.metrics[name] for each in found], -1).double().cpu().numpy()
        for name in ("fvu", "l0")
    }
    if wanted.mixing:
        curves |= _mixing(sae, parts, torch.stack([each.density for each in found]).amax(0) > 0)
    if wanted.verdicts:
        curves |= _shares(sae, parts)
    return curves


def _mixing(
    sae: SAE, parts: Sequence[Tensor], living: Tensor
) -> dict[str, Float[ndarray, "member part"]]:
    if int(living.sum(-1).min()) < 8:
        raise DataError(
            f"only {int(living.sum(-1).min())} latents of a member ever fire on these activations; "
            "expected at least 8. Was it trained at all?"
        )
    cosine = decoder_pairwise_cosine(sae.W_dec, living)
    projections = []
    for part in parts:
        seen = NthDecoderProjection(sae.W_dec, sae.b_dec, mask=living)
        for x in part.split(_ROWS):
            seen.update(x.to(sae.W_dec))
        found = seen.result([_QUARTER * latents for latents in seen.latents])
        projections.append(found.nth_decoder_projection)
    return {
        COSINE: cosine.unsqueeze(-1).cpu().numpy(),
        PROJECTION: torch.stack(projections, -1).cpu().numpy(),
    }


def _shares(sae: SAE, parts: Sequence[Tensor]) -> dict[str, Float[ndarray, "member part"]]:
    rows: dict[str, list[float]] = {ABSORBED: [], HEDGED: [], TOTAL: []}
    for member in range(sae.members):
        found = diagnose(sae, (x for part in parts for x in part.split(_ROWS)), member=member)
        absorbed = found.found(Verdict.ABSORBED) | found.found(Verdict.ABSORBING)
        hedged = found.found(Verdict.HEDGED)
        width = sae.widths[member]
        rows[ABSORBED].append(float(absorbed[:width].mean()))
        rows[HEDGED].append(float(hedged[:width].mean()))
        rows[TOTAL].append(float((absorbed | hedged)[:width].mean()))
    return {name: np.array(values)[:, None] for name, values in rows.items()}
