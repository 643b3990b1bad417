"""The columns of evidence that come from firing: the best of many pairs for each latent."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.diagnosis.candidates import Candidates
from latent_assay.diagnosis.firing_record import FiringRecord
from latent_assay.diagnosis.hedge_evidence import Hedges
from latent_assay.diagnosis.pair_evidence import PairFirings
from latent_assay.diagnosis.peaks import Peaks
from latent_assay.diagnosis.ray_evidence import Rays
from latent_assay.diagnosis.weights_evidence import PairWeights

DENSE_RATE, DENSE_TIMES, DENSE_ALWAYS = 0.1, 10.0, 0.5
_SAME = 0.95
"""From this cosine on two decoder rows are the same direction, and neither absorbs the other."""
_FEWEST = 10
"""A latent that fired less often is nobody's child or parent."""


def firing_columns(
    seen: FiringRecord,
    near: Candidates,
    pairs: PairWeights,
    firings: PairFirings,
    hedge: Hedges,
    groups: Peaks,
    ray: Rays,
) -> dict[str, Tensor]:
    """Every column that needs activations."""
    columns = _rates(seen)
    strength = kinship_strength(seen, near, firings, pairs)
    columns |= _as_child(strength, near, pairs, firings)
    columns |= _as_parent(strength, seen, near, pairs, firings)
    columns |= _same(seen, near, firings)
    columns |= _hedge(hedge)
    columns |= _mixed(near, firings)
    columns |= {
        "ray_strength": ray.strength,
        "ray_off": ray.off.clamp_max(4),
        "ray_share": ray.share,
        "ray_own": ray.own,
    }
    columns["foreign"] = torch.stack(
        [columns[name].nan_to_num(0.0) for name in ("hedge_strength", "mixed_strength")]
        + [ray.strength.nan_to_num(0.0)]
    ).amax(0)
    columns["swing"] = _swing(seen)
    columns |= {
        "peaks": torch.where(groups.number > 0, groups.number.double(), torch.nan),
        "peaks_gain": groups.gain,
        "peaks_valley": groups.valley,
        "peaks_minor": groups.minor,
    }
    return columns


def _rates(seen: FiringRecord) -> dict[str, Tensor]:
    density = seen.firings.double() / seen.n
    crowd = (density > DENSE_RATE) & (density > DENSE_TIMES * density.mean())
    return {
        "firings": seen.firings.double(),
        "density": density,
        "silent": (seen.firings == 0).double(),
        "crowd": (crowd | (density > DENSE_ALWAYS)).double(),
        "evidence_size": (1 + seen.firings.double()).log10(),
    }


def kinship_strength(
    seen: FiringRecord,
    near: Candidates,
    firings: PairFirings,
    pairs: PairWeights,
) -> Float[Tensor, "latent candidate"]:
    r"""How much each latent looks like a child that carries the candidate: from 0 to 1.

    $$\min(\kappa, 1 - r) \cdot \max(0, 1 - |\kappa + r - 1|)$$

    with $\kappa$ carried and $r$ retained, which add up to one in absorption. 0 for the same
    direction, for latents that hardly fired, where the candidate's own activation is longer (a
    child's is that of parent and child together), for a child whose decoder row others explain
    entirely (it is composed), and where the candidate's encoder sees the child's decoder row as
    its own decoder row does.
    """
    enough = (seen.firings >= _FEWEST).unsqueeze(-1) & (seen.firings >= _FEWEST)[near.index]
    longer = firings.median.unsqueeze(-1) >= 0.97 * firings.median[near.index]
    real = enough & longer & (near.cosine > 0.05) & (near.cosine < _SAME)
    carried, kept = firings.carried, firings.retained.clamp(0, 1)
    conserved = (1 - (carried + kept - 1).abs()).clamp(0, 1)
    own = ((1 - pairs.explained) / 0.1).clamp(0, 1).unsqueeze(-1)
    unseen = (1 - pairs.gained / near.cosine.clamp_min(1e-6)).mul(2).clamp(0, 1)
    strength = torch.minimum(carried.clamp(0, 1), 1 - kept) * conserved * own * unseen
    return torch.where(real, strength, 0.0).nan_to_num(0.0)


def _as_child(
    strength: Float[Tensor, "latent candidate"],
    near: Candidates,
    pairs: PairWeights,
    firings: PairFirings,
) -> dict[str, Tensor]:
    """This latent as the child of its best parent."""
    best = strength.argmax(-1, keepdim=True)

    def at(x: Tensor) -> Tensor:
        return x.gather(-1, best).squeeze(-1)

    parent = at(near.index)
    two = pairs.part.topk(min(2, pairs.part.shape[1]), dim=-1).indices
    return {
        "parent_strength": at(strength),
        "parent_cosine": at(near.cosine),
        "parent_carried": at(firings.carried).clamp(0.02, 10).log(),
        "parent_retained": at(firings.retained),
        "parent_lift": at(firings.lift),
        "parent_holes": at(firings.holes),
        "parent_gain": at(pairs.gained),
        "parent_longer": _log_ratio(firings.median, firings.median[parent]),
        "own_part": 1 - pairs.explained,
        "parts_silent": firings.retained.gather(-1, two).amax(-1),
        "parts_carried": firings.carried.gather(-1, two).amin(-1).clamp(0, 2),
    }


def _as_parent(
    strength: Float[Tensor, "latent candidate"],
    seen: FiringRecord,
    near: Candidates,
    pairs: PairWeights,
    firings: PairFirings,
) -> dict[str, Tensor]:
    """This latent as the parent of its best child; each latent is in the lists of others."""
    width = len(strength)
    parent = near.index.flatten()
    child, place = best_of(strength.flatten(), parent, width)
    child = child // strength.shape[1]
    known = place >= 0
    flat = place.clamp_min(0)

    def at(x: Tensor, fill: float = torch.nan) -> Tensor:
        return torch.where(known, x.flatten()[flat].double(), fill)

    # of the samples in which the feature is there: fired, or carried by a child meanwhile
    holes = torch.where(strength > 0.2, firings.holes.nan_to_num(0.0), 0.0).double()
    missing = torch.zeros(width, dtype=torch.float64).index_add_(
        0, parent, (holes * seen.firings.double().unsqueeze(-1)).flatten()
    )
    weak = ((1 - firings.kept.clamp(0, 1)) * firings.given).nan_to_num(0.0)
    weak = torch.where((near.cosine > 0.05) & (near.cosine < _SAME), weak, 0.0).double()
    weakened, _ = _largest(weak.flatten(), parent, width)
    return {
        "lost": missing / (missing + seen.firings.double()).clamp_min(1),
        "child_strength": at(strength, 0.0),
        "child_cosine": at(near.cosine),
        "child_carried": at(firings.carried).clamp(0.02, 10).log(),
        "child_retained": at(firings.retained),
        "child_lift": at(firings.lift),
        "child_holes": at(firings.holes, 0.0),
        "child_gain": at(pairs.gained),
        "child_longer": torch.where(
            known, _log_ratio(firings.median[child], firings.median).double(), torch.nan
        ),
        "weakened": weakened,
    }


def best_of(
    value: Float[Tensor, " entry"], group: Int[Tensor, " entry"], groups: int
) -> tuple[Int[Tensor, " group"], Int[Tensor, " group"]]:
    """For each group the entry with the largest positive value.

    **Returns:** its index, 0 if there is none; and the same with -1 if there is none.
    """
    best, _ = _largest(value, group, groups)
    hit = (value == best[group]) & (value > 0)
    entry = torch.where(hit, torch.arange(len(value)), -1)
    place = torch.full((groups,), -1, dtype=torch.int64)
    place.scatter_reduce_(0, group, entry, "amax")
    return place.clamp_min(0), place


def _largest(
    value: Tensor, group: Int[Tensor, " entry"], groups: int
) -> tuple[Tensor, Bool[Tensor, " group"]]:
    best = torch.zeros(groups, dtype=value.dtype)
    best.scatter_reduce_(0, group, value, "amax")
    return best, best > 0


def _same(seen: FiringRecord, near: Candidates, firings: PairFirings) -> dict[str, Tensor]:
    """The nearest latents that fire with this one, and those that do not."""
    overlap = firings.overlap.nan_to_num(0.0)
    together = (near.cosine.clamp_min(0) * overlap).argmax(-1, keepdim=True)
    fires = (seen.firings >= _FEWEST).unsqueeze(-1) & (seen.firings >= _FEWEST)[near.index]
    apart = torch.where((overlap < 0.5) & fires, near.cosine, 0.0).clamp_min(0)
    sibling = apart.argmax(-1, keepdim=True)
    return {
        "twin_cosine": near.cosine.gather(-1, together).squeeze(-1),
        "twin_overlap": overlap.gather(-1, together).squeeze(-1),
        "sibling_cosine": apart.gather(-1, sibling).squeeze(-1),
        "sibling_overlap": overlap.gather(-1, sibling).squeeze(-1),
    }


def _hedge(hedge: Hedges) -> dict[str, Tensor]:
    sign = hedge.part.sign()
    lift = ((hedge.present + 0.01) / (hedge.elsewhere + 0.01)).log()
    return {
        "hedge_strength": hedge.strength.abs(),
        "hedge_part": hedge.part.abs(),
        "hedge_offset": (hedge.offset * sign).clamp(-1, 2),
        "hedge_apart": hedge.apart.clamp_max(20),
        "hedge_sign": sign,
        "hedge_lift": lift,
        "hedge_carried": hedge.carried.abs(),
        "hedge_cancelled": hedge.cancelled,
        "hedge_natural": hedge.natural,
        "source_part": hedge.source.abs().clamp_max(2),
        "tail_part": hedge.tail,
        "tail_carried": hedge.tail_carried,
        "hedge_silent": hedge.silent.clamp_max(4),
    }


def _mixed(near: Candidates, firings: PairFirings) -> dict[str, Tensor]:
    """Parts along other latents' directions that are taken back wherever those are absent."""
    back, stays = firings.cancelled.nan_to_num(0.0), firings.natural.nan_to_num(0.0)
    oftener = ((back - stays) / (back + stays + 0.05)).clamp_min(0)
    score = torch.where(near.cosine < _SAME, near.cosine.abs() * oftener, 0.0)
    best = score.argmax(-1, keepdim=True)

    def at(x: Tensor) -> Tensor:
        return x.gather(-1, best).squeeze(-1)

    return {
        "mixed_strength": at(score),
        "mixed_total": score.square().sum(-1).sqrt(),
        "mixed_cosine": at(near.cosine),
        "mixed_cancelled": at(back),
        "mixed_natural": at(stays),
        "mixed_given": at(firings.given),
    }


def _swing(seen: FiringRecord) -> Float[Tensor, " latent"]:
    """How much the mean activation depends on whether a candidate fires, relative to the mean."""
    fires = (seen.beside != 0) & (seen.row >= 0).unsqueeze(-1)
    real = (seen.row >= 0).sum(-1).unsqueeze(-1)
    with_it = fires.sum(1)
    total = seen.kept.sum(-1, keepdim=True)
    sum_with = (seen.kept.unsqueeze(-1) * fires).sum(1)
    inside = sum_with / with_it.clamp_min(1)
    outside = (total - sum_with) / (real - with_it).clamp_min(1)
    mean = (total / real.clamp_min(1)).abs().clamp_min(1e-30)
    enough = (with_it >= 8) & (real - with_it >= 8)
    return torch.where(enough, (inside - outside).abs() / mean, 0.0).amax(-1).clamp_max(4)


def _log_ratio(top: Tensor, bottom: Tensor) -> Tensor:
    ratio = top / bottom
    return torch.where(ratio > 0, ratio.clamp(math.exp(-5), math.exp(5)).log(), torch.nan)
