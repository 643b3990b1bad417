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
    carrier: int
    """The child's latent that carries most of the parent; -1 if the child has none."""
    carried: float
    """The share of the parent's magnitude which that latent adds to the reconstruction."""
    share: float
    """P(these samples | parent): how much of the parent's firing this is about."""


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
    decoder row of a latent $k$, the *carried* share of $k$ is

    $$\kappa = \frac{E[z_k \beta_{kp} \mid p, c]}{E[m_p \mid p, c]},$$

    taken over the child's latents. In the exact model of absorption, where $d_c = f_c + \delta
    f_p$ and $e_p = f_p - \delta f_c$, carried share and deficit are both $\delta$.

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
        for child in mine:
            above = family[:, child]
            others = [c for c in mine if c != child and not above[c]]
            event = on & firing[:, child] & ~firing[:, others].any(dim=1)
            if int(event.sum()) < EVENTS:
                continue
            strength = magnitudes[event, parent].double().mean()
            carriers = made_of.latents_of(child)
            carried = (
                z[event][:, carriers].double().mean(0) * made_of.coefficients[carriers, parent]
            ) / strength
            best = int(carried.argmax()) if len(carriers) else -1
            for latent in latents:
                silent = float((z[event, latent] == 0).double().mean())
                silent_alone = float((z[alone, latent] == 0).double().mean())
                found.append(
                    Hole(
                        latent=latent,
                        parent=parent,
                        child=child,
                        silence=silent - silent_alone,
                        deficit=_deficit(z[:, latent], magnitudes[:, parent], event, alone),
                        carrier=int(carriers[best]) if best >= 0 else -1,
                        carried=float(carried[best]) if best >= 0 else 0.0,
                        share=float(event.sum() / on.sum()),
                    )
                )
    return found


def _deficit(
    z: Float[Tensor, " sample"],
    magnitude: Float[Tensor, " sample"],
    event: Bool[Tensor, " sample"],
    alone: Bool[Tensor, " sample"],
) -> float:
    def per_magnitude(where: Tensor) -> Float64[Tensor, ""]:
        return z[where].double().mean() / magnitude[where].double().mean()

    usual = per_magnitude(alone)
    return float(1 - per_magnitude(event) / usual) if usual > 0 else 0.0
