r"""Pairs of latents: who carries whom, who falls silent, who is the same.

For a latent $c$ and a candidate $p$ with $\cos = \hat d_p \cdot \hat d_c$, over the samples in
which $c$ fires:

- *carried*, $\kappa = \cos \bar z_c / \tilde z_p$: what $c$ adds along $p$'s direction, over $p$'s
  median activation. A child that absorbs the share $\delta$ of its parent carries exactly that
  share of its magnitude, $\kappa \approx \delta$; a superposed neighbour $\cos m_c / m_p$,
  whatever that is.
- *retained*, $P(p \mid c) \cdot \min(1, E[z_p \mid c, p] / E[z_p \mid \neg c, p])$: how much of
  itself $p$ keeps: $1 - \delta$, so that carried and retained add up to one in absorption; at
  chance $P(p)$ for what is unrelated.
- *holes*: the share of $c$'s firings in which $p$ is silent although
  $(e + z_c \hat d_c) \cdot \hat d_p$, what $c$ had to explain along $p$, is at least half of $p$'s
  median activation.
- *cancelled* and *natural*: in how many of $c$'s firings the whole of what $c$, $p$ and the
  residual put along $p$'s direction, $t = (e + z_c \hat d_c + z_p \hat d_p) \cdot \hat d_p$, is
  nothing, and in how many it is $z_c \cos$. Two directions that happen to be near show the latter;
  where $c$ hedges $p$'s feature, its part is taken back, by the residual or by $p$, wherever the
  feature is absent.
- *overlap*, the Jaccard index of the two firings.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.diagnosis.candidates import Candidates
from latent_assay.diagnosis.firing_record import FiringRecord
from latent_assay.diagnosis.subject import Subject

_ENTRIES = 2**25
TOLERANCE = 0.35
"""How near, relative to the part in question, counts as equal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairFirings:
    """Of each latent $c$ and its candidates $p$; NaN where $c$ or $p$ fired too seldom."""

    given: Float[Tensor, "latent candidate"]
    """P(p | c)."""
    lift: Float[Tensor, "latent candidate"]
    """Logarithm of P(p | c) over P(p), each with half a firing added."""
    kept: Float[Tensor, "latent candidate"]
    """E[z_p | both fire] over E[z_p | p fires without c]; 1 if one of them was never seen."""
    overlap: Float[Tensor, "latent candidate"]
    """Jaccard index of the two firings."""
    carried: Float[Tensor, "latent candidate"]
    r"""$\kappa$."""
    holes: Float[Tensor, "latent candidate"]
    """Share of c's firings that are holes of p."""
    cancelled: Float[Tensor, "latent candidate"]
    """Share of c's firings in which its part along p is taken back."""
    natural: Float[Tensor, "latent candidate"]
    """Share of c's firings in which its part along p is there, and no more."""
    hole_row: Float[Tensor, "latent candidate"]
    """Number of a sample with such a hole; -1 if none was kept."""
    median: Float[Tensor, " latent"]
    r"""Median activation $\tilde z$."""

    @property
    def retained(self) -> Float[Tensor, "latent candidate"]:
        """How much of itself p keeps where c fires, from 0 to 1."""
        return self.given * self.kept.clamp(0, 1)


@torch.no_grad()
def pair_firings(subject: Subject, record: FiringRecord, near: Candidates) -> PairFirings:
    """The numbers for every latent and its candidates."""
    n_c = record.firings.double().unsqueeze(-1)
    n_p = record.firings.double()[near.index]
    joint = record.joint.double()
    given = joint / n_c.clamp_min(1)
    expected = n_c * n_p / record.n
    lift = ((joint + 0.5) / (expected + 0.5)).log()
    total_p = record.total[near.index]
    alone = (total_p - record.joint_total) / (n_p - joint).clamp_min(1)
    together = record.joint_total / joint.clamp_min(1)
    seen = (joint >= 5) & (n_p - joint >= 5) & (alone.abs() > 1e-12)
    kept = torch.where(seen, together / alone.where(alone.abs() > 1e-12, torch.ones(())), 1.0)
    overlap = joint / (n_c + n_p - joint).clamp_min(1)
    median = record.values.nanmedian(-1).values
    carried, holes, row, cancelled, natural = _inside(subject, record, near, median)
    few = (n_c < 1) | (n_p < 1)

    def known(x: Tensor) -> Float[Tensor, "latent candidate"]:
        return torch.where(few, torch.nan, x.double()).float()

    return PairFirings(
        given=known(given),
        lift=known(lift),
        kept=known(kept.clamp(0, 3)),
        overlap=known(overlap),
        carried=known(carried),
        holes=known(holes),
        cancelled=known(cancelled),
        natural=known(natural),
        hole_row=row.float(),
        median=median,
    )


def _inside(
    subject: Subject, record: FiringRecord, near: Candidates, median: Float[Tensor, " latent"]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What is carried, holes, a row for each, cancelled and natural, from the samples kept."""
    width, places, d_in = record.residual.shape
    n = near.index.shape[1]
    results: list[tuple[Tensor, ...]] = []
    step = max(1, _ENTRIES // ((places + n) * d_in))
    for start in range(0, width, step):
        part = slice(start, min(start + step, width))
        index = near.index[part]
        others = subject.decoder[index.flatten()].view(*index.shape, -1)
        left = torch.bmm(record.residual[part] - record.usual, others.mT)
        carries = record.kept[part].unsqueeze(-1) * near.cosine[part].unsqueeze(1)
        real = (record.row[part] >= 0).unsqueeze(-1)
        silent = (record.beside[part] == 0) & real
        usual = median[index].unsqueeze(1)
        carried = carries.sum(1) / real.sum(1).clamp_min(1)
        hole = silent & (left + carries >= 0.5 * usual)
        share = hole.sum(1) / real.sum(1).clamp_min(1)
        first = hole.to(torch.int64).argmax(1)
        row = torch.where(hole.any(1), record.row[part].gather(1, first), -1)
        carried = carried / usual.squeeze(1).clamp_min(1e-30)
        whole = left + carries + record.beside[part]
        near_enough = TOLERANCE * carries.abs()
        n_real = real.sum(1).clamp_min(1)
        cancelled = ((whole.abs() < near_enough) & real).sum(1) / n_real
        natural = (((whole - carries).abs() < near_enough) & real).sum(1) / n_real
        results.append((carried, share, row, cancelled, natural))
    carried, share, row, cancelled, natural = (
        torch.cat(each) for each in zip(*results, strict=True)
    )
    return carried, share, row, cancelled, natural
