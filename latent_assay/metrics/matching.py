"""One latent for one feature: the best matching, and what it scores."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from latent_assay.errors import DataError, ShapeError
from latent_assay.metrics.directions import cosine_map
from latent_assay.metrics.samples import existing, readable, shape_of


@dataclass(frozen=True, kw_only=True)
class Match:
    """A matching of latents with features, in which neither is used twice."""

    latent: Int64[Tensor, "*member feature"]
    """The latent of each feature; -1 if there were fewer latents than features."""
    feature: Int64[Tensor, "*member latent"]
    """The feature of each latent; -1 if there were fewer features than latents, or for padding."""
    similarity: Float64[Tensor, "*member feature"]
    """Similarity of each feature with its latent, with sign; 0 where there is none."""


def assign(
    similarity: Float[Tensor, "*member latent feature"],
    mask: Bool[Tensor, "*member latent"] | None = None,
    *,
    signed: bool = True,
) -> Match:
    r"""The matching with the largest total of any similarity (Hungarian assignment).

    $$\max_\pi \sum_i s_{\pi(i)\,i}$$

    over injections $\pi$ of the smaller set into the larger, so that min(latent, feature) pairs are
    formed, the poor ones included: look at `similarity` before believing a pair. It takes cosine
    maps of decoder or encoder, correlations, or F1 scores alike. Time grows with the cube of the
    smaller number and memory with the map.

    **Arguments:**
    - `similarity`: of every latent with every feature.
    - `mask`: True where a latent exists; False marks the padding of narrower members, which is
      never matched.
    - `signed`: False matches by $|s|$, so that a latent may stand for a feature with the opposite
      sign.

    **Raises:** `DataError` if a similarity is NaN or infinite; `ShapeError` if the mask does not
    fit.

    >>> pairs = assign(torch.tensor([[0.9, 0.8], [0.7, 0.1]]))
    >>> pairs.latent.tolist(), pairs.feature.tolist()
    ([1, 0], [1, 0])
    """
    if similarity.dim() < 2:
        raise ShapeError(
            f"`similarity` has shape {shape_of(similarity)}; expected [*member, latent, feature]."
        )
    from scipy.optimize import linear_sum_assignment  # slow to import, and few need it

    *lead, latents, features = similarity.shape
    value = readable(similarity).double()
    if not bool(value.isfinite().all()):
        raise DataError(
            "`similarity` holds NaN or infinite values; every latent needs a finite similarity "
            "with every feature. Use 0 where one is undefined."
        )
    device = value.device
    exists = existing(mask, (*lead, latents), device).reshape(-1, latents).cpu()
    value = value.reshape(-1, latents, features).cpu()
    latent = torch.full((len(value), features), -1)
    feature = torch.full((len(value), latents), -1)
    found = torch.zeros(len(value), features, dtype=torch.float64)
    for member, table in enumerate(value):
        real = exists[member].nonzero().squeeze(-1)
        score = table[real] if signed else table[real].abs()
        rows, columns = linear_sum_assignment(score.numpy(), maximize=True)
        row, column = real[torch.from_numpy(rows)], torch.from_numpy(columns)
        latent[member, column] = row
        feature[member, row] = column
        found[member, column] = table[row, column]
    return Match(
        latent=latent.reshape(*lead, features).to(device),
        feature=feature.reshape(*lead, latents).to(device),
        similarity=found.reshape(*lead, features).to(device),
    )


def match(
    decoder: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "*lead feature d_in"],
    mask: Bool[Tensor, "*member latent"] | None = None,
    *,
    signed: bool = True,
) -> Match:
    r"""The one-to-one matching of latents with features that has the largest total cosine.

    $$\max_\pi \sum_i \cos(d_{\pi(i)}, f_i)$$

    Works with fewer latents than features and with more. For encoders, or to match two SAEs by
    what they do rather than where they point, give another map to `assign`.

    **Arguments:**
    - `decoder`: latent directions. A zero row has cosine 0 with everything.
    - `features`: true directions, of any length, shared or one set per member.
    - `mask`: True where a latent exists; False marks padding, which is never matched.
    - `signed`: False matches by $|\cos|$. ReLU latents cannot write $f$ along $-f$; but an SAE with
      large initial weights may learn "$f$ is absent" along $-f$, with $f$ in the decoder's bias.

    **Raises:** `ShapeError` if the shapes do not fit; `DataError` for directions that are not
    finite.

    >>> match(torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.eye(2)).latent.tolist()
    [[1, 0]]
    """
    return assign(cosine_map(decoder, features), mask, signed=signed)


def mcc(
    decoder: Float[Tensor, "*member latent d_in"],
    features: Float[Tensor, "*lead feature d_in"],
    mask: Bool[Tensor, "*member latent"] | None = None,
    *,
    signed: bool = False,
) -> Float64[Tensor, "*member"]:
    r"""Mean correlation coefficient between matched latents and features.

    $$\frac{1}{\min(L, F)} \max_\pi \sum_i |\cos(d_{\pi(i)}, f_i)|$$

    The name comes from independent component analysis, where the coefficient is a correlation of
    activations; for dictionaries it is, by custom, $|\cos|$ of directions. Dead latents count: a
    zero row can only add 0. Because the divisor is the smaller number, features that a narrow SAE
    has no room for are not held against it; fix the width when comparing.

    **Arguments:**
    - `decoder`: latent directions.
    - `features`: true directions, of any length, shared or one set per member.
    - `mask`: True where a latent exists; False marks padding, which does not count in $L$.
    - `signed`: True gives the signed variant, `mcc_signed`: the matching and the mean use the
      cosine itself, so that a latent along $-f$ is not a success.

    **Returns:** one number per member, 1 when every pair is exact.

    **Raises:** `ShapeError` if the shapes do not fit; `DataError` for directions that are not
    finite.

    **Reference:** Hyvärinen and Morioka 2016, arXiv:1605.06336; for dictionaries SynthSAEBench,
    Chanin and Garriga-Alonso 2026, arXiv:2602.14687.

    >>> mcc(torch.tensor([[-1.0, 0.0]]), torch.eye(2)).item()
    1.0
    >>> mcc(torch.tensor([[-1.0, 0.0]]), torch.eye(2), signed=True).item()
    0.0
    """
    pairs = match(decoder, features, mask, signed=signed)
    total = (pairs.similarity if signed else pairs.similarity.abs()).sum(-1)
    exists = existing(mask, tuple(pairs.feature.shape), total.device)
    return total / exists.double().sum(-1).clamp_max(features.shape[-2])
