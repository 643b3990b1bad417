"""Who is whose parent, child, duplicate, sibling, part or hedge."""

import numpy as np
import torch
from torch import Tensor

from latent_assay.diagnosis.candidates import Candidates
from latent_assay.diagnosis.evidence import Relatives, Role
from latent_assay.diagnosis.hedge_evidence import Hedges
from latent_assay.diagnosis.pair_evidence import PairFirings
from latent_assay.diagnosis.weights_evidence import PairWeights

_SAME = 0.9
_PART = 0.3
_STRONG = 0.3
_HEDGE = 0.05


def relatives(
    near: Candidates,
    pairs: PairWeights,
    firings: PairFirings | None,
    hedge: Hedges | None,
    hedged: Tensor | None,
    strength: Tensor | None = None,
) -> Relatives:
    """Relations that are worth showing, whatever the verdict.

    **Arguments:**
    - `near`, `pairs`: of the weights.
    - `firings`, `hedge`: of the activations; None without.
    - `hedged`: the latent nearest to each hedged direction, -1 if none.
    - `strength`: how much each latent looks like a child of each candidate.
    """
    width, n = near.index.shape
    latent = torch.arange(width).unsqueeze(-1).expand(-1, n)
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def add(which: Tensor, role: Role, share: Tensor, *, turned: bool = False) -> None:
        a, b = latent[which], near.index[which]
        if turned:
            a, b = b, a
        found.append((a, b, torch.full_like(a, int(role)), share[which].double()))

    other = near.index != latent
    same = other & (near.cosine > _SAME)
    if firings is None or strength is None:
        add(same, Role.DUPLICATE, near.cosine)
        seen = other & ~same & (near.cosine - pairs.gain.clamp_min(0) > _PART)
        add(seen & (pairs.part > _PART), Role.PARENT, pairs.part)
    else:
        together = firings.overlap.nan_to_num(0.0) >= 0.5
        add(same & together, Role.DUPLICATE, near.cosine)
        add(same & ~together, Role.SIBLING, near.cosine)
        strong = other & (strength > _STRONG)
        add(strong, Role.PARENT, near.cosine)
        add(strong, Role.CHILD, firings.holes.nan_to_num(0.0), turned=True)
    add(other & ~same & (pairs.part > _PART), Role.PART, pairs.part)
    if hedge is not None and hedged is not None:
        which = hedge.strength.abs() > _HEDGE
        own = torch.arange(width)[which]
        found.append(
            (
                own,
                hedged[which],
                torch.full_like(own, int(Role.HEDGED)),
                hedge.strength[which].double(),
            )
        )
    latents, others, roles, shares = (torch.cat(each).numpy() for each in zip(*found, strict=True))
    order = np.lexsort((-np.abs(shares), roles, latents))
    return Relatives(
        latent=latents[order], other=others[order], role=roles[order], share=shares[order]
    )
