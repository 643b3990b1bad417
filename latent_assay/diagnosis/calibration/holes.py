r"""Absorption in a world whose features are known: holes in a parent's latent, and who fills them.

A child $c$ of a feature $p$ is any rarer feature with $P(p \mid c) \ge 0.8$: grandchildren count,
and so do children that sometimes fire without their parent.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from latent_assay.diagnosis.calibration.composition import Composition

GATED = 0.8
"""P(parent | child) from which a feature is another's child."""
RARER = 0.9
"""P(child | parent) up to which it is: two features that always fire together are none's child."""
LEAST = 0.05
"""A latent that carries less than this share of a parent carries nothing."""
EVENTS = 40
"""Samples of parent with child, and of parent alone, without which nothing is said about them."""


@dataclass(frozen=True, kw_only=True)
class Hole:
    r"""What one child does to one latent of its parent.

    All on samples with parent and child and none of the parent's other children (but those that
    must fire with the child), against samples with the parent and none of its children.
    """

    latent: int
    """The parent's latent."""
    parent: int
    """Its own feature."""
    child: int
    """The child."""
    silence: float
    r"""$\delta = P(l \text{ silent} \mid p, c) - P(l \text{ silent} \mid p, \text{no child})$."""
    deficit: float
    """By which share its activation, per magnitude of the parent, falls; silence included."""
    carriers: tuple[tuple[int, float], ...]
    r"""Latents that carry the parent there and not without the child, and the share $\kappa$ of
    the parent's magnitude that each adds; the greatest first."""
    share: float
    """P(these samples | parent): how much of the parent's firing this is about."""

    @property
    def depth(self) -> float:
        """The greater of silence and deficit."""
        return max(self.silence, self.deficit)

    @property
    def carried(self) -> float:
        """What all carriers add."""
        return sum((share for _, share in self.carriers), 0.0)


def children(
    firing: Bool[Tensor, "sample feature"],
) -> Bool[Tensor, "parent child"]:
    """Which features are whose children: P(p | c) at least .8, P(c | p) at most .9."""
    on = firing.float()
    both = (on.T @ on).double()
    count = on.sum(0, dtype=torch.float64).clamp_min(1)
    parent_given_child = both / count[None]
    child_given_parent = both / count[:, None]
    found = (parent_given_child >= GATED) & (child_given_parent <= RARER)
    # a feature that fires nearly always would be everybody's parent
    found &= (parent_given_child - (count / len(firing))[:, None]) >= 0.3
    found.fill_diagonal_(False)
    return found


def holes(
    made_of: Composition,
    z: Float[Tensor, "sample latent"],
    firing: Bool[Tensor, "sample feature"],
    magnitudes: Float[Tensor, "sample feature"],
) -> list[Hole]:
    r"""Every hole that can be measured: each latent of each parent against each child.

    With $m_p$ the parent's magnitude and $\beta_{kp}$ the coefficient of its direction in the
    decoder row of another latent $k$, the share that $k$ *carries* because of the child is

    $$\kappa_k = \frac{E[z_k \beta_{kp} \mid p, c]}{E[m_p \mid p, c]}
      - \frac{E[z_k \beta_{kp} \mid p, \text{no child}]}{E[m_p \mid p, \text{no child}]}.$$

    In the exact model of absorption, where $d_c = f_c + \delta f_p$ and $e_p = f_p - \delta f_c$,
    it is $\delta$ for the child's latent, and so is the deficit.

    **Arguments:**
    - `made_of`: what the latents are made of, on the same samples.
    - `z`: latent activations.
    - `firing`, `magnitudes`: the truth behind them.

    **Reference:** Chanin et al. 2024, "A is for Absorption", arXiv:2409.14507.
    """
    family = children(firing)
    found = []
    for parent in family.any(dim=1).nonzero()[:, 0].tolist():
        latents = made_of.latents_of(parent).tolist()
        mine = family[parent].nonzero()[:, 0].tolist()
        on = firing[:, parent]
        alone = on & ~firing[:, mine].any(dim=1)
        if not latents or int(alone.sum()) < EVENTS:
            continue
        usual = _per_magnitude(z, magnitudes[:, parent], alone)
        for child in mine:
            above = family[:, child]
            others = [c for c in mine if c != child and not above[c]]
            event = on & firing[:, child] & ~firing[:, others].any(dim=1)
            if int(event.sum()) < EVENTS:
                continue
            added = _per_magnitude(z, magnitudes[:, parent], event) - usual
            carried = added * made_of.coefficients[:, parent]
            for latent in latents:
                silent = float((z[event, latent] == 0).double().mean())
                silent_alone = float((z[alone, latent] == 0).double().mean())
                found.append(
                    Hole(
                        latent=latent,
                        parent=parent,
                        child=child,
                        silence=silent - silent_alone,
                        deficit=float(-added[latent] / usual[latent]) if usual[latent] > 0 else 0.0,
                        carriers=_carriers(carried, latent),
                        share=float(event.sum() / on.sum()),
                    )
                )
    return found


def _per_magnitude(
    z: Float[Tensor, "sample latent"],
    magnitude: Float[Tensor, " sample"],
    where: Bool[Tensor, " sample"],
) -> Float64[Tensor, " latent"]:
    """Mean activations of all latents over the mean magnitude of a feature, in some samples."""
    return z[where].double().mean(0) / magnitude[where].double().mean()


def _carriers(carried: Float64[Tensor, " latent"], absorbed: int) -> tuple[tuple[int, float], ...]:
    """The other latents that carry a share worth naming."""
    shares = carried.clone()
    shares[absorbed] = 0
    order = shares.argsort(descending=True).tolist()
    return tuple((at, float(shares[at])) for at in order if shares[at] >= LEAST)
