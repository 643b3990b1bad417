"""Which true features the latents have found, from the weights alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from latent_assay.metrics.directions import check_d_in, row_chunks, unit_rows
from latent_assay.metrics.samples import existing


def recovery(
    decoder: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "*lead feature d_in"],
    mask: Bool[Tensor, "*member latent"] | None = None,
    *,
    signed: bool = True,
) -> Float64[Tensor, "*member feature"]:
    r"""How closely some latent points along each true feature.

    $$\rho_i = \max_j \cos(d_j, f_i)$$

    Features are scored one at a time, so two may claim the same latent; use `match` when each
    latent may be claimed only once. A latent that points against a feature has not found it; with
    `signed=False`, $|\cos|$ takes the place of the cosine and it has.

    **Arguments:**
    - `decoder`: latent directions $d_j$. A zero row has cosine 0 with everything.
    - `features`: true directions $f_i$, of any length, shared or one set per member.
    - `mask`: True where a latent exists; False marks the padding of narrower members.
    - `signed`: whether direction matters.

    **Returns:** $\rho_i$, at most 1; equal to 1 when feature $i$ is found exactly.

    **Raises:** `ShapeError` if the shapes do not fit; `DataError` for directions that are not
    finite.

    >>> recovery(torch.eye(2), torch.tensor([[1.0, 0.0], [3.0, 4.0]])).tolist()
    [1.0, 0.8]
    """
    check_d_in(decoder, features)
    rows, targets = unit_rows(decoder, "decoder"), unit_rows(features, "features")
    exists = existing(mask, tuple(rows.shape[:-1]), rows.device)
    best = rows.new_full((*rows.shape[:-2], targets.shape[-2]), -torch.inf)
    for chunk in row_chunks(rows.shape[-2], _columns(rows, targets)):
        cosines = rows[..., chunk, :] @ targets.mT
        if not signed:
            cosines = cosines.abs()
        cosines = torch.where(exists[..., chunk, None], cosines, -torch.inf)
        best = torch.maximum(best, cosines.amax(dim=-2))
    return best.clamp(-1, 1)


def mmcs(
    decoder: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "*lead feature d_in"],
    mask: Bool[Tensor, "*member latent"] | None = None,
    *,
    signed: bool = True,
) -> Float64[Tensor, "*member"]:
    r"""Mean max cosine similarity: `recovery` averaged over the true features.

    $$\frac{1}{F} \sum_i \max_j \cos(d_j, f_i)$$

    The mean runs over features, so features that no latent found pull it down, and spare latents
    do not. In high dimension it does not fall to 0: the nearest of many random directions has a
    cosine well above 0, so compare it with a random decoder of the same width.

    **Arguments:** as for `recovery`.

    **Returns:** one number per member, 1 when every feature is found exactly.

    **Raises:** as `recovery`.

    **Reference:** Sharkey, Braun and Millidge 2022, "Taking features out of superposition with
    sparse autoencoders"; Cunningham et al. 2023, arXiv:2309.08600.

    >>> mmcs(torch.eye(2), torch.tensor([[1.0, 0.0], [3.0, 4.0]])).item()
    0.9
    """
    return recovery(decoder, features, mask, signed=signed).mean(-1)


@dataclass(frozen=True, kw_only=True)
class NearestFeature:
    """The true feature that each latent points along most closely."""

    feature: Int64[Tensor, "*member latent"]
    """Index of the feature; -1 for a latent without direction (a zero row) or padding."""
    cosine: Float64[Tensor, "*member latent"]
    """Its cosine, with sign; 0 where there is no feature."""


def nearest_feature(
    decoder: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "*lead feature d_in"],
    mask: Bool[Tensor, "*member latent"] | None = None,
    *,
    signed: bool = True,
) -> NearestFeature:
    r"""The feature with the largest cosine, for each latent.

    $$i^*(j) = \arg\max_i \cos(d_j, f_i)$$

    Several latents may have the same nearest feature. Equal cosines go to the lower index: a child
    latent that has fully absorbed its parent, $(f_p + f_c)/\sqrt 2$, ties, and rounding decides.

    **Arguments:** as for `recovery`; with `signed=False` the largest $|\cos|$ is chosen.

    **Returns:** feature and cosine of each latent.

    **Raises:** as `recovery`.

    >>> nearest_feature(torch.tensor([[0.6, 0.8], [0.0, 0.0]]), torch.eye(2)).feature.tolist()
    [1, -1]
    """
    check_d_in(decoder, features)
    rows, targets = unit_rows(decoder, "decoder"), unit_rows(features, "features")
    exists = existing(mask, tuple(rows.shape[:-1]), rows.device) & (rows != 0).any(-1)
    index, cosine = [], []
    for chunk in row_chunks(rows.shape[-2], _columns(rows, targets)):
        cosines = (rows[..., chunk, :] @ targets.mT).clamp(-1, 1)
        best = (cosines if signed else cosines.abs()).argmax(-1, keepdim=True)
        index.append(best.squeeze(-1))
        cosine.append(cosines.gather(-1, best).squeeze(-1))
    return NearestFeature(
        feature=torch.where(exists, torch.cat(index, -1), -1),
        cosine=torch.where(exists, torch.cat(cosine, -1), 0.0),
    )


def uniqueness(
    decoder: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "*lead feature d_in"],
    mask: Bool[Tensor, "*member latent"] | None = None,
    *,
    signed: bool = False,
) -> Float64[Tensor, "*member"]:
    r"""How many different features the latents point at, relative to their number.

    $$\frac{|\{\, i^*(j) : j \,\}|}{\text{width}}, \quad i^*(j) = \arg\max_i |\cos(d_j, f_i)|$$

    Duplicates lower it. With more latents than features it cannot exceed feature / width. A zero
    row points at nothing but counts in the width; padding does neither.

    **Arguments:** as for `recovery`; `signed=True` uses the cosine instead of $|\cos|$.

    **Returns:** one number per member, 1 when no two latents share a nearest feature.

    **Raises:** as `recovery`.

    **Reference:** SynthSAEBench, Chanin and Garriga-Alonso 2026, arXiv:2602.14687.

    >>> uniqueness(torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.0, 3.0]]), torch.eye(2))
    tensor(0.5000, dtype=torch.float64)
    """
    nearest = nearest_feature(decoder, features, mask, signed=signed).feature
    exists = existing(mask, tuple(nearest.shape), nearest.device)
    # One more column receives the latents without a feature, and is cut off.
    n_features = features.shape[-2]
    claimed = nearest.new_zeros((*nearest.shape[:-1], n_features + 1), dtype=torch.bool)
    claimed.scatter_(-1, torch.where(nearest < 0, n_features, nearest), True)
    return claimed[..., :n_features].double().sum(-1) / exists.double().sum(-1)


def _columns(rows: Tensor, targets: Tensor) -> int:
    """Entries of the cosine map for one latent of every member."""
    return rows.shape[:-2].numel() * targets.shape[-2]
