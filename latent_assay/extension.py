r"""Extending an SAE: the same latents, and new ones behind them.

An extended SAE and the one that it came from, trained on side by side, tell what new latents change
in the old ones: see `latent_assay.metrics.hedging_degree` and `latent_assay.diagnosis`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError
from latent_assay.initialisation import tied_random
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU, Sparsifier


def extend(
    sae: SAE,
    n: int | Sequence[int],
    generators: torch.Generator | Sequence[torch.Generator],
    *,
    norm: float | None = None,
    threshold: float | None = None,
) -> SAE:
    r"""A new SAE with n more latents in every member; the given one is left as it is.

    New rows are random directions of length `norm`, the encoder equal to the decoder, with $b_{enc}
    = 0$. A member's new latents follow its own last one, padding comes after them:
    member $m$ keeps latents 0 to $w_m - 1$ and gets $w_m$ to $w_m + n_m - 1$.

    - *Tied* SAEs stay tied. *Unit* decoders get new rows at length one, where training would bring
      them at its first step anyway.
    - *k* of TopK and BatchTopK, and the running threshold of BatchTopK, are carried over: old and
      new latents share as many firings as the old ones had.
    - *Thresholds* of JumpReLU are carried over; for new ones see `threshold`.
    - *Frozen* parameters stay frozen for new latents too.
    - *Matryoshka* levels belong to the objective, which has to be made anew for the new width with
      the last level ending there: new latents then are the last of the outermost level and of no
      other. Members of unequal width share levels, so that new latents of a narrow member may fall
      into an inner one; extend such members apart.

    **Arguments:**
    - `sae`: any SAE.
    - `n`: how many latents to add, one number or one for each member.
    - `generators`: one generator, from which members draw in turn, or one for each member, with
      which a member gets the same latents in any company.
    - `norm`: the length of new rows; None for 0.1, and for 1 if the decoder is held at length one
      (another number then applies to the encoder only). A new latent must fire to learn: beside
      trained ones that compete for k places short rows are silent until an `AuxK` wakes them.
    - `threshold`: of new JumpReLU latents. None takes `norm` times the median of $\theta_j /
      \|e_j\|$ over the member's latents with an encoder row $e_j \ne 0$ (0 if there is none): new
      latents must see as much along their direction as old ones must, so that they neither fire on
      everything nor never.

    **Returns:** the extended SAE, in the same mode (training or evaluation).

    **Raises:** `ConfigError` for counts, a norm or a threshold out of range, or another number of
    generators than of members.

    **Reference:** norm 0.1 and equal rows as in Chanin et al. 2025, "Feature Hedging",
    arXiv:2505.11756, section 4; unit decoders and thresholds are not treated there.

    >>> from latent_assay.sparsifiers import ReLU
    >>> more = extend(SAE(torch.eye(3)[None], sparsifier=ReLU()), 2, torch.Generator())
    >>> more.widths, torch.equal(more.W_dec[0, :3], torch.eye(3))
    ((5,), True)
    """
    counts = [n] * sae.members if isinstance(n, int) else list(n)
    if len(counts) != sae.members or min(counts, default=0) < 1:
        raise ConfigError(
            f"`n` must be the number of new latents, at least 1, for all members or for each of "
            f"{sae.members}, got {n}."
        )
    if norm is None:
        norm = 1.0 if sae.decoder_norm == "unit" else 0.1
    if not norm > 0:
        raise ConfigError(f"the norm of new rows must be positive, got {norm}.")
    if threshold is not None and not threshold >= 0:
        raise ConfigError(f"`threshold` must not be negative, got {threshold}.")
    each = (
        [generators] * sae.members if isinstance(generators, torch.Generator) else list(generators)
    )
    if len(each) != sae.members:
        raise ConfigError(
            f"give one generator, or one for each of {sae.members} members, got {len(each)}."
        )
    widths = [width + more for width, more in zip(sae.widths, counts, strict=True)]
    W_enc, W_dec, b_enc = (
        _padded(tensor.detach(), max(widths)) for tensor in (sae.W_enc, sae.W_dec, sae.b_enc)
    )
    for member, (start, stop) in enumerate(zip(sae.widths, widths, strict=True)):
        drawn = _drawn(each[member], stop - start, sae.d_in, norm).to(W_enc)
        unit = sae.decoder_norm == "unit"
        W_enc[member, start:stop] = drawn
        W_dec[member, start:stop] = F.normalize(drawn, dim=-1) if unit else drawn
        b_enc[member, start:stop] = 0
    sparsifier = Sparsifier.stack([sae.sparsifier], max(widths))
    if isinstance(sparsifier, JumpReLU):
        _add_thresholds(sparsifier, sae, widths, norm=norm, threshold=threshold)
    return SAE(
        W_dec.clone() if sae.tied else W_enc,
        None if sae.tied else W_dec,
        b_enc=b_enc,
        b_dec=sae.b_dec.detach().clone(),
        sparsifier=sparsifier,
        frozen=sae.frozen,
        decoder_norm=sae.decoder_norm,
        subtract_b_dec=sae.subtract_b_dec,
        widths=widths,
    ).train(sae.training)


def _padded(tensor: Tensor, width: int) -> Tensor:
    """A copy with rows of zeros up to a width."""
    rest = (0, 0) * (tensor.dim() - 2)
    return F.pad(tensor, [*rest, 0, width - tensor.shape[1]]).clone()


def _drawn(generator: torch.Generator, n: int, d_in: int, norm: float) -> Float[Tensor, "new d_in"]:
    """Random rows of one length."""
    if generator.device.type == "cpu":
        return tied_random(norm)(generator, n, d_in)[0]
    rows = torch.randn(n, d_in, generator=generator, device=generator.device)
    return norm * F.normalize(rows, dim=-1)


@torch.no_grad()
def _add_thresholds(
    sparsifier: JumpReLU, sae: SAE, widths: Sequence[int], *, norm: float, threshold: float | None
) -> None:
    """Set the thresholds of new latents, given or relative to the old ones'."""
    for member, (start, stop) in enumerate(zip(sae.widths, widths, strict=True)):
        value = threshold
        if value is None:
            length = sae.W_enc[member, :start].norm(dim=-1)
            relative = (sparsifier.threshold[member, :start] / length)[length > 0]
            value = norm * float(relative.median()) if len(relative) else 0.0
        sparsifier.threshold[member, start:stop] = value
