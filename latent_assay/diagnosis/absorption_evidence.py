r"""Who absorbs whom: pairs of latents scored by everything that absorption must show at once.

Where a child $c$ absorbs a share $\delta$ of its parent $p$, in units of the parent's usual
activation $\bar z_p$ (that without the child):

- the child's decoder row points towards the parent's, $\hat d_p \cdot \hat d_c > 0$, and yet the
  parent's encoder does not see it: $e_p \cdot d_c \approx 0$, not
  $\hat d_p \cdot \hat d_c$ (a tied SAE cannot absorb) and not far below zero (a conjunction's
  latent silences its parts);
- what the child carries and what the parent retains make up the whole:
  $\kappa + \rho = 1$ with $\kappa = \hat d_p \cdot \hat d_c \, E[z_c \mid c] / \bar z_p$ and
  $\rho = E[z_p \mid c] / \bar z_p$, whatever $\delta$ is. A neighbour in superposition carries what
  it happens to;
- the two fire together far less, or far more, often than by chance, while unrelated latents fire
  together by chance;
- what the child carries is really there: the residual does not take it back (*cancelled*, see
  `pair_evidence`), as it does for a feature that merely often comes with it;
- the parent also fires without the child, in a fifth of the occasions of either or more: else
  nothing tells which of the two is the parent.

The score multiplies these, so that each can refute, with what the parent has lost, $1 - \rho$. Of
two latents at most one is the other's parent: the one for which the score is higher.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.diagnosis.candidates import Candidates
from latent_assay.diagnosis.firing_record import FiringRecord
from latent_assay.diagnosis.pair_evidence import PairFirings
from latent_assay.diagnosis.subject import Subject
from latent_assay.diagnosis.weights_evidence import PairWeights

_FEWEST = 20
_SAME = 0.95
_UNBALANCED = 0.45
"""By how much what is carried and what is retained may miss one: neighbours in superposition carry
and take some too."""
_LEAST = 0.03
"""A pair with a smaller score is no pair, and nothing more is said about it."""
_ENTRIES = 2**25


@dataclass(frozen=True, kw_only=True, eq=False)
class Kinship:
    """Of each latent $c$ and its candidates $p$, as child and parent."""

    score: Float[Tensor, "latent candidate"]
    """How much it looks like absorption: from 0 to 1."""
    balance: Float[Tensor, "latent candidate"]
    r"""$\kappa + \rho$."""
    retained: Float[Tensor, "latent candidate"]
    r"""$\rho$."""
    carried: Float[Tensor, "latent candidate"]
    r"""$\kappa$."""
    unseen: Float[Tensor, "latent candidate"]
    r"""$1 - e_p \cdot d_c / (\hat d_p \cdot \hat d_c)$, both in units of the parent's own."""
    chance: Float[Tensor, "latent candidate"]
    """By how many standard deviations the number of common firings is off chance."""
    cancelled: Float[Tensor, "latent candidate"]
    """Share of the child's firings in which its part along the parent is taken back."""
    spread: Float[Tensor, "latent candidate"]
    r"""Standard deviation of the residual along the parent, across the child, where the child
    fires, over $\bar z_p$: a magnitude that nobody follows."""


@torch.no_grad()
def kinship(
    subject: Subject,
    record: FiringRecord,
    near: Candidates,
    pairs: PairWeights,
    firings: PairFirings,
) -> Kinship:
    """The numbers for every latent and its candidates; 0 where one of them fired too seldom.

    **Arguments:**
    - `subject`, `record`, `near`, `pairs`, `firings`: as everywhere.
    """
    n_c = record.firings.double().unsqueeze(-1)
    n_p = record.firings.double()[near.index]
    joint, total_p = record.joint.double(), record.total[near.index].double()
    cosine = near.cosine.double()
    usual = (total_p - record.joint_total) / (n_p - joint).clamp_min(1)
    mean_c = record.total.double().unsqueeze(-1) / n_c.clamp_min(1)
    retained = record.joint_total / n_c.clamp_min(1) / usual.clamp_min(1e-30)
    carried = cosine * mean_c / usual.clamp_min(1e-30)
    balance = (carried + retained).clamp(0, 4)
    unseen = 1 - pairs.gained.double() / cosine.clamp_min(1e-3)
    expected = n_c * n_p / record.n
    deviation = (expected * (1 - n_p / record.n)).clamp_min(0).sqrt()
    chance = ((joint - expected).abs() / (deviation + 1)).clamp_max(50)
    cancelled = firings.cancelled.nan_to_num(0.0).double()
    alone = (n_p - joint) / (n_p - joint + n_c).clamp_min(1)
    enough = (n_c >= _FEWEST) & (n_p >= _FEWEST) & (n_p - joint >= _FEWEST) & (usual > 0)
    real = enough & (cosine > 0.1) & (cosine < _SAME)
    score = (
        (1 - retained).clamp(0, 1)
        * (-(((balance - 1) / _UNBALANCED) ** 2)).exp()
        * ((cosine - 0.1) / 0.15).clamp(0, 1)
        * ((unseen - 0.3) / 0.4).clamp(0, 1)
        * ((pairs.gained.double() + 1) / 0.5).clamp(0, 1)
        * (chance / 5).clamp(0, 1)
        * (1 - cancelled / 0.4).clamp(0, 1)
        * ((alone - 0.05) / 0.15).clamp(0, 1)
    )
    score = _one_way(torch.where(real, score, 0.0), near)

    def known(x: Tensor) -> Float[Tensor, "latent candidate"]:
        return torch.where(real, x, 0.0).float()

    return Kinship(
        score=known(score),
        balance=known(balance),
        retained=known(retained.clamp(0, 2)),
        carried=known(carried.clamp(0, 4)),
        unseen=known(unseen.clamp(-2, 4)),
        chance=known(chance),
        cancelled=known(cancelled),
        spread=known(_spread(subject, record, near) / usual.clamp_min(1e-30)).clamp(0, 2),
    )


def _one_way(
    score: Float[Tensor, "latent candidate"], near: Candidates
) -> Float[Tensor, "latent candidate"]:
    """The scores, but 0 where the same pair scores higher with its roles exchanged."""
    own = torch.arange(len(score)).view(-1, 1, 1)
    back = (near.index[near.index] == own).to(score.dtype) * score[near.index]
    return torch.where(score >= back.amax(-1), score, 0.0)


def _spread(
    subject: Subject, record: FiringRecord, near: Candidates
) -> Float[Tensor, "latent candidate"]:
    """Standard deviation of the residual along each candidate's row, across the latent's own."""
    width, places, d_in = record.residual.shape
    n = near.index.shape[1]
    found = []
    step = max(1, _ENTRIES // ((places + n) * d_in))
    for start in range(0, width, step):
        part = slice(start, start + step)
        index, cosine = near.index[part], near.cosine[part].unsqueeze(1)
        others = subject.decoder[index.flatten()].view(*index.shape, -1)
        along = torch.bmm(record.residual[part], others.mT)
        own = torch.bmm(record.residual[part], subject.decoder[part].unsqueeze(-1))
        across = (along - cosine * own) / (1 - cosine.square()).clamp_min(0.05).sqrt()
        real = (record.row[part] >= 0).unsqueeze(-1)
        count = real.sum(1).clamp_min(1)
        mean = (across * real).sum(1) / count
        square = ((across - mean.unsqueeze(1)).square() * real).sum(1) / count
        found.append(square.sqrt())
    return torch.cat(found)


def kinship_columns(kin: Kinship, near: Candidates) -> dict[str, Tensor]:
    """The best parent and the best child of each latent.

    **Arguments:**
    - `kin`: of the pairs.
    - `near`: which pairs.
    """
    width, n = kin.score.shape
    names = ("balance", "retained", "carried", "unseen", "chance", "cancelled", "spread")
    best = kin.score.argmax(-1, keepdim=True)
    columns = {"kin_parent": kin.score.gather(-1, best).squeeze(-1)}
    nothing = columns["kin_parent"] <= _LEAST
    for name in names:
        value = getattr(kin, name).gather(-1, best).squeeze(-1)
        columns[f"kin_parent_{name}"] = torch.where(nothing, torch.nan, value)
    columns["kin_parent_cosine"] = torch.where(
        nothing, torch.nan, near.cosine.gather(-1, best).squeeze(-1)
    )
    # each latent is a candidate in the lists of others
    flat, parent = kin.score.flatten(), near.index.flatten()
    top = torch.zeros(width).scatter_reduce_(0, parent, flat, "amax")
    hit = (flat == top[parent]) & (flat > 0)
    entry = torch.where(hit, torch.arange(width * n), -1)
    place = torch.full((width,), -1).scatter_reduce_(0, parent, entry, "amax")
    known, at = (place >= 0) & (top > _LEAST), place.clamp_min(0)
    columns["kin_child"] = top
    for name in names:
        value = getattr(kin, name).flatten()[at]
        columns[f"kin_child_{name}"] = torch.where(known, value, torch.nan)
    columns["kin_child_cosine"] = torch.where(known, near.cosine.flatten()[at], torch.nan)
    return columns


KINSHIP_COLUMNS = {
    f"kin_{role}{name}": text.format(of=of)
    for role, of in (("parent", "its likeliest parent"), ("child", "its likeliest child"))
    for name, text in (
        ("", "How much the pair with {of} looks like absorption, from 0 to 1."),
        ("_balance", "What the child carries and what the parent retains, with {of}; 1 in theory."),
        ("_retained", "What the parent retains where the child fires, with {of}."),
        ("_carried", "What the child carries of the parent, with {of}."),
        ("_unseen", "Share of the child's part along the parent that the parent's encoder does not "
         "see, with {of}."),
        ("_chance", "Standard deviations of their common firings off chance, with {of}."),
        ("_cancelled", "Share of the child's firings in which its part along the parent is taken "
         "back, with {of}."),
        ("_spread", "How much the residual along the parent varies where the child fires, with "
         "{of}."),
        ("_cosine", "Cosine of the decoder rows, with {of}."),
    )
}  # fmt: skip
"""The columns of `kinship_columns` and what they mean."""
