r"""What the weights alone say of each latent.

Where a child $c$ absorbs its parent $p$, reconstruction without error wants
$e_p = f_p - f_c$ and $d_c = f_c + f_p$ (equal magnitudes): the child's decoder row contains the
parent's, and yet the parent's encoder does not see it. The asymmetry

$$A_{pc} = \hat d_p \cdot \hat d_c - \frac{e_p \cdot \hat d_c}{e_p \cdot \hat d_p}$$

is then $\approx \hat d_p \cdot \hat d_c$. An encoder that only cancels the interference of a
superposed neighbour has it too, so what matters is also how large the cosine is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.diagnosis.candidates import Candidates
from latent_assay.diagnosis.subject import Subject

_ENTRIES = 2**25
DUPLICATE = 0.95
"""A larger cosine means the same direction; such others are no parts."""
PARTS = 4
"""Largest number of others that a decoder row is decomposed into."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairWeights:
    """Of each latent and its candidates."""

    gain: Float[Tensor, "latent candidate"]
    """How much this latent's encoder sees of the candidate's decoder row, as a part of its own."""
    gained: Float[Tensor, "latent candidate"]
    """The reverse: how much the candidate's encoder sees of this decoder row."""
    encoder_cosine: Float[Tensor, "latent candidate"]
    """Cosine of the two encoder rows."""
    part: Float[Tensor, "latent candidate"]
    """The candidate's coefficient in the non-negative decomposition of this decoder row."""
    explained: Float[Tensor, " latent"]
    """Share of this decoder row's square that the decomposition explains."""


@torch.no_grad()
def pair_weights(subject: Subject, near: Candidates) -> PairWeights:
    """Gains, encoder cosines and decompositions for every latent and its candidates."""
    decoder, encoder = subject.decoder, subject.encoder
    own = (encoder * decoder).sum(-1)
    lengths = encoder.norm(dim=-1).clamp_min(1e-30)
    width, n = near.index.shape
    results: list[tuple[Tensor, ...]] = []
    step = max(1, _ENTRIES // (n * decoder.shape[1]))
    for start in range(0, width, step):
        part = slice(start, min(start + step, width))
        index = near.index[part]
        others = decoder[index.flatten()].view(*index.shape, -1)
        theirs = encoder[index.flatten()].view(*index.shape, -1)
        sees = torch.bmm(others, encoder[part].unsqueeze(-1)).squeeze(-1)
        seen = torch.bmm(theirs, decoder[part].unsqueeze(-1)).squeeze(-1)
        alike = torch.bmm(theirs, encoder[part].unsqueeze(-1)).squeeze(-1)
        gram = torch.bmm(others, others.mT)
        share, explained = _decomposed(near.cosine[part], gram, index)
        results.append(
            (
                _ratio(sees, own[part].unsqueeze(-1)),
                _ratio(seen, own[index]),
                alike / (lengths[part].unsqueeze(-1) * lengths[index]),
                share,
                explained,
            )
        )
    gain, gained, cosine, share, explained = (torch.cat(e) for e in zip(*results, strict=True))
    return PairWeights(
        gain=gain, gained=gained, encoder_cosine=cosine, part=share, explained=explained
    )


def _ratio(top: Tensor, bottom: Tensor) -> Tensor:
    """A gain relative to a latent's own; 0 where that is not positive, kept within ±2."""
    return torch.where(bottom > 1e-12, top / bottom.clamp_min(1e-12), 0.0).clamp(-2, 2)


def _decomposed(
    cosine: Float[Tensor, "latent candidate"],
    gram: Float[Tensor, "latent candidate candidate"],
    index: Int[Tensor, "latent candidate"],
) -> tuple[Float[Tensor, "latent candidate"], Float[Tensor, " latent"]]:
    r"""Coefficients $\beta \ge 0$ of at most four candidates that explain a decoder row best.

    Orthogonal matching pursuit: the candidate with the largest remaining cosine joins, all
    coefficients are fitted anew, negative ones become zero. Duplicates do not take part.

    **Returns:** the coefficients, and $1 - \| d - \sum \beta_j d_j \|^2$.
    """
    latents, n = cosine.shape
    chosen = torch.zeros(latents, n, dtype=torch.bool, device=cosine.device)
    beta = torch.zeros_like(cosine)
    ridge = 1e-4 * torch.eye(n, device=cosine.device)
    for _ in range(min(PARTS, n)):
        left = cosine - torch.bmm(gram, beta.unsqueeze(-1)).squeeze(-1)
        left = left.masked_fill(chosen | (cosine > DUPLICATE), -1.0)
        best = left.argmax(-1, keepdim=True)
        joins = left.gather(-1, best) > 0.05
        chosen = chosen.scatter(-1, best, joins | chosen.gather(-1, best))
        both = chosen.unsqueeze(-1) & chosen.unsqueeze(-2)
        system = torch.where(both, gram, 0.0) + ridge
        system = system + torch.diag_embed((~chosen).to(gram.dtype))
        beta = torch.linalg.solve(system, torch.where(chosen, cosine, 0.0))
        chosen = chosen & (beta > 0)
        beta = beta.clamp_min(0)
    fitted = torch.bmm(gram, beta.unsqueeze(-1)).squeeze(-1)
    explained = (2 * (beta * cosine).sum(-1) - (beta * fitted).sum(-1)).clamp(0, 1)
    return beta, explained
