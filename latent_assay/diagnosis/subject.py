"""One member of an SAE as the diagnosis reads it: unit decoder rows, activations in their units."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import ConfigError, DataError
from latent_assay.sae import SAE


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    r"""The SAE under diagnosis.

    A latent's activation is multiplied by the length of its decoder row throughout, so that it is
    the length of what the latent adds to the reconstruction whatever the SAE's own scaling.
    """

    sae: SAE
    """One member, as it is exported."""
    decoder: Float[Tensor, "latent d_in"]
    """Decoder rows of length one; a zero row stays zero."""
    length: Float[Tensor, " latent"]
    """Their lengths before."""
    encoder: Float[Tensor, "latent d_in"]
    """Encoder rows times decoder length, so that `encoder @ x` is in the units of x."""
    offset: Float[Tensor, " latent"]
    """What a latent would add at the mean reconstruction, $x = b_{dec}$, without a threshold."""
    threshold: Float[Tensor, " latent"]
    """What the pre-activation must exceed, in the same units; 0 where there is no threshold."""

    @property
    def width(self) -> int:
        """Number of latents."""
        return self.decoder.shape[0]

    @property
    def d_in(self) -> int:
        """Length of an activation."""
        return self.decoder.shape[1]


@torch.no_grad()
def subject(sae: SAE, member: int | None) -> Subject:
    """The member of an SAE that is to be diagnosed.

    **Raises:** `ConfigError` unless exactly one member is meant; `DataError` if a weight is not
    finite.
    """
    if member is None and sae.members > 1:
        raise ConfigError(
            f"this SAE has {sae.members} members, and a diagnosis is of one. Say which as "
            f"`member`, from 0 to {sae.members - 1}."
        )
    chosen = 0 if member is None else member
    if not 0 <= chosen < sae.members:
        raise ConfigError(f"`member` is {member}, but this SAE has members 0 to {sae.members - 1}.")
    # a copy costs as much memory as the SAE; a single member that exports to itself needs none
    one = sae if sae.members == 1 and not sae.padded else sae.take(chosen)
    one = one.exported() if one.training or one.sparsifier.compares_samples else one
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        if not bool(getattr(one, name).isfinite().all()):
            raise DataError(
                f"`{name}` of this SAE holds numbers that are not finite, so nothing can be said "
                "about its latents. Did its training diverge? Load an earlier checkpoint."
            )
    W_enc, W_dec = one.W_enc.detach()[0].float(), one.W_dec.detach()[0].float()
    b_enc, b_dec = one.b_enc.detach()[0].float(), one.b_dec.detach()[0].float()
    length = W_dec.norm(dim=-1)
    offset = b_enc if one.subtract_b_dec else b_enc + W_enc @ b_dec
    theta = getattr(one.sparsifier, "threshold", None)
    threshold = torch.zeros_like(length)
    if isinstance(theta, Tensor) and theta.shape[-1] == len(length):
        threshold = theta.detach()[0].float()
    return Subject(
        sae=one.eval() if one is not sae else one,
        decoder=W_dec / length.clamp_min(1e-30).unsqueeze(-1),
        length=length,
        encoder=W_enc * length.unsqueeze(-1),
        offset=offset * length,
        threshold=threshold * length,
    )
