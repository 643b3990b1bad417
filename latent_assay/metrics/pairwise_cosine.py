"""How alike the decoder rows of one SAE are: a sign of latents that mix features."""

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from latent_assay.metrics.directions import row_chunks, unit_rows
from latent_assay.metrics.samples import existing


def decoder_pairwise_cosine(
    decoder: Float[Tensor, "*member latent d_in"],
    mask: Bool[Tensor, "*member latent"] | None = None,
) -> Float64[Tensor, "*member"]:
    r"""Mean absolute cosine over all pairs of decoder rows of a member.

    $$c_{dec} = \frac{2}{L (L - 1)} \sum_{i < j} \lvert \cos(d_i, d_j) \rvert$$

    over the $L$ living latents. Latents that mix features share parts of them, so that their rows
    are more alike. Among SAEs of one width it is smallest near the right L0: below, latents carry
    parts of correlated features to pay for the firings that they lack; above, they mix because
    nothing forbids it. It does not fall to 0: random directions have about
    $\sqrt{2 / (\pi d_{in})}$. Compare it between SAEs of one width only.

    The map of all pairs is never held: rows are compared in chunks, each pair once, in the
    decoder's own precision (at least float32) and summed in float64. 65,536 latents of 2,304
    dimensions take $10^{13}$ multiplications.

    **Arguments:**
    - `decoder`: latent directions $d_j$, of any length. A zero row has no direction and is left
      out.
    - `mask`: True for the latents that count. Leave out padding, and latents that never fire:
      they keep the directions that they happened to have.

    **Returns:** one number per member; NaN with fewer than two latents that count.

    **Raises:** `ShapeError` if the mask does not fit; `DataError` for directions that are not
    finite, or a member without any latent.

    **Reference:** Chanin and Garriga-Alonso 2025, "Sparse but Wrong: Incorrect L0 Leads to
    Incorrect Features in Sparse Autoencoders", arXiv:2508.16560.

    >>> decoder_pairwise_cosine(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])).item()
    0.3333333333333333
    """
    rows = unit_rows(decoder, "decoder")
    counts = existing(mask, tuple(rows.shape[:-1]), rows.device) & (rows != 0).any(-1)
    precision = torch.promote_types(decoder.dtype, torch.float32)
    flat = [
        _mean(member[one].to(precision))
        for member, one in zip(
            rows.reshape(-1, *rows.shape[-2:]), counts.reshape(-1, rows.shape[-2]), strict=True
        )
    ]
    return torch.stack(flat).reshape(rows.shape[:-2])


def _mean(rows: Float[Tensor, "latent d_in"]) -> Float64[Tensor, ""]:
    latents = len(rows)
    total = torch.zeros((), dtype=torch.float64, device=rows.device)
    if latents < 2:
        return total / 0
    for chunk in row_chunks(latents, latents):
        # the square on the diagonal has each of its pairs twice, and each row with itself
        own = rows[chunk]
        square = (own @ own.T).abs_()
        square.fill_diagonal_(0)
        total += square.sum(dtype=torch.float64) / 2
        total += (own @ rows[chunk.stop :].T).abs_().sum(dtype=torch.float64)
    return total / (latents * (latents - 1) / 2)
