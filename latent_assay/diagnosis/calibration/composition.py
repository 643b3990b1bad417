r"""What decoder rows are made of, and whose a latent is, in a world whose features are known.

A decoder row is written in the features, $d_l = \sum_i \beta_{li} f_i + \varepsilon_l$, and a
latent's *own* feature is the one among the large $\beta_{li}$ whose firing it tells best.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

LARGE = 0.4
"""A feature may be a latent's own if its coefficient is at least this share of the largest."""
TELLS = 0.1
"""A latent has an own feature only if its firing tells that feature's with at least this F1."""
SURE = 0.6
"""A latent is surely its own feature's if that is there in this share of its firings."""
ATOMS = 8
"""Features that a row may be made of where they are linearly dependent."""
EXPLAINED = 0.05
"""A row is explained when this share of its length, or less, is left."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Composition:
    """Whose each latent is and what it carries; measured on samples with their truth."""

    coefficients: Float64[Tensor, "latent feature"]
    r"""$\beta$: decoder rows in the features."""
    own: Int64[Tensor, " latent"]
    """Each latent's own feature; -1 for none."""
    rate: Float64[Tensor, " latent"]
    """How often each latent fires."""
    feature_rate: Float64[Tensor, " feature"]
    """How often each feature fires."""
    precision: Float64[Tensor, "latent feature"]
    """P(feature fires | latent fires); 0 for a latent that never fires."""
    recall: Float64[Tensor, "latent feature"]
    """P(latent fires | feature fires); 0 for a feature that never fires."""
    f1: Float64[Tensor, "latent feature"]
    """Harmonic mean of both."""

    @property
    def ratios(self) -> Float64[Tensor, "latent feature"]:
        r"""$\beta_{lj} / \beta_{l i}$ with $i$ the own feature, or the largest if there is none."""
        largest = self.coefficients.abs().argmax(dim=1)
        of = torch.where(self.own >= 0, self.own, largest)
        base = self.coefficients.gather(1, of[:, None])
        return torch.where(base != 0, self.coefficients / base, 0.0)

    @property
    def sure(self) -> Bool[Tensor, " latent"]:
        """Which latents have an own feature that is there in .6 of their firings or more."""
        own = self.own.clamp_min(0)[:, None]
        return (self.own >= 0) & (self.precision.gather(1, own)[:, 0] >= SURE)

    def latents_of(self, feature: int) -> Int64[Tensor, " latent"]:
        """The latents whose own feature is this one."""
        return (self.own == feature).nonzero()[:, 0]

    @property
    def represented(self) -> Bool[Tensor, " feature"]:
        """Which features are some latent's own, and told apart: it fires for little else."""
        found = torch.zeros(self.coefficients.shape[1], dtype=torch.bool)
        has = self.own >= 0
        sure = has & (self.precision.gather(1, self.own.clamp_min(0)[:, None])[:, 0] >= 0.5)
        found[self.own[sure]] = True
        return found


def composition(
    decoder: Float[Tensor, "latent d_in"],
    features: Float[Tensor, "feature d_in"],
    z: Float[Tensor, "sample latent"],
    firing: Bool[Tensor, "sample feature"],
) -> Composition:
    r"""Compose decoder rows from features, and find each latent's own.

    The candidates for latent $l$ are the features with $\beta_{li} \ge 0.4 \max_j |\beta_{lj}|$;
    its own feature is the candidate with the highest
    $F1_{li} (\beta_{li} / \max_j |\beta_{lj}|)^{1/4}$, where F1 is that of the latent's firing as a
    sign of the feature's. Direction alone would not do: a latent of a child that has absorbed its
    parent, $(f_p + f_c)/\sqrt 2$, lies as near to one as to the other, but fires with the child.
    Firing alone would not do either: a parent's latent that is left with few occasions may tell
    something else as well as its own feature.

    **Arguments:**
    - `decoder`: decoder rows.
    - `features`: true directions.
    - `z`: latent activations on samples.
    - `firing`: which features fire in them.

    **Returns:** coefficients, own features, and how firing goes together.
    """
    fires = (z != 0).float()
    on = firing.float()
    n = len(z)
    both = (fires.T @ on).double()
    latent, feature = fires.sum(0, dtype=torch.float64), on.sum(0, dtype=torch.float64)
    f1 = _share(2 * both, latent[:, None] + feature[None])
    beta = coefficients(decoder, features)
    part = beta / beta.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    # the fourth root: direction decides where firing hardly does, and no more
    score = torch.where(part >= LARGE, f1 * part.clamp_min(0) ** 0.25, -1.0)
    best = score.max(dim=1)
    return Composition(
        coefficients=beta,
        own=torch.where(best.values >= TELLS, best.indices, -1),
        rate=latent / n,
        feature_rate=feature / n,
        precision=_share(both, latent[:, None].expand_as(both)),
        recall=_share(both, feature[None].expand_as(both)),
        f1=f1,
    )


def coefficients(
    decoder: Float[Tensor, "latent d_in"], features: Float[Tensor, "feature d_in"]
) -> Float64[Tensor, "latent feature"]:
    r"""Decoder rows in the features: $\beta$ of the smallest $\| d_l - \sum_i \beta_{li} f_i \|$.

    Where the features are linearly dependent (superposition) that has many solutions, and the
    sparse one is meant: features are taken in one at a time, always the one along which most of the
    rest lies, all coefficients are fitted anew after each (orthogonal matching pursuit), until
    5% of the length or less is left, or eight features are in. What is left is noise, and is not
    given to anybody.

    **Arguments:**
    - `decoder`: decoder rows; a zero row has zero coefficients.
    - `features`: true directions.

    **Reference:** Pati, Rezaiifar and Krishnaprasad 1993, "Orthogonal Matching Pursuit".
    """
    rows, atoms = decoder.detach().double().cpu(), features.double().cpu()
    n, d_in = atoms.shape
    if n <= d_in and int(torch.linalg.matrix_rank(atoms)) == n:
        return rows @ torch.linalg.pinv(atoms)
    found = torch.zeros(len(rows), n, dtype=torch.float64)
    lengths = atoms.norm(dim=1).clamp_min(1e-12)
    for at, row in enumerate(rows):
        size, rest, chosen = row.norm(), row, list[int]()
        while len(chosen) < min(ATOMS, d_in) and rest.norm() > EXPLAINED * size:
            chosen.append(int(((atoms @ rest).abs() / lengths).argmax()))
            basis = atoms[chosen].T
            fitted = torch.linalg.lstsq(basis, row[:, None]).solution
            rest = row - (basis @ fitted)[:, 0]
            found[at] = 0
            found[at, chosen] = fitted[:, 0]
    return found


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp_min(1e-300), 0.0)
