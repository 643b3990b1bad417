r"""A language model that goes on with what an SAE makes of its activations, edited if wanted.

With $z$ the latent activations of $x$ and $z'$ the same after ablation and steering, the model goes
on with

$$ x' = \mathrm{dec}(z') \qquad\text{or, with the error term kept,}\qquad
   x' = \mathrm{dec}(z') + \big(x - \mathrm{dec}(z)\big). $$

Kept, the error term makes an SAE without edits change nothing, so that whatever changes comes from
the edits; dropped, the model sees only what the SAE explains, error and edits together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent_assay.activations.language_model import LanguageModel
from latent_assay.errors import ConfigError, ShapeError
from latent_assay.sae import SAE


@dataclass(frozen=True, kw_only=True)
class Splice:
    """An SAE as a function of activations, for `spliced` and for `loss_recovered`.

    >>> from latent_assay.sparsifiers import ReLU
    >>> sae = SAE(torch.eye(2)[None], sparsifier=ReLU()).eval()
    >>> x = torch.tensor([[1.0, -2.0]])
    >>> Splice(sae=sae)(x), Splice(sae=sae, keep_error=True)(x)
    (tensor([[1., 0.]]), tensor([[ 1., -2.]]))
    >>> Splice(sae=sae, keep_error=True, steer={1: 5.0})(x)
    tensor([[1., 3.]])
    """

    sae: SAE
    """The SAE; it reads raw activations."""
    member: int = 0
    """Which of its members."""
    keep_error: bool = False
    """Whether what the SAE leaves out is added back."""
    ablate: Sequence[int] = ()
    """Latents whose activation is set to 0."""
    steer: Mapping[int, float] = field(default_factory=dict)
    """Latents whose activation is set to a value."""

    def __post_init__(self) -> None:
        sae = self.sae
        if not 0 <= self.member < sae.members:
            raise ConfigError(
                f"this SAE has members 0 to {sae.members - 1}, asked for was {self.member}."
            )
        width = sae.widths[self.member]
        for latent in (*self.ablate, *self.steer):
            if not 0 <= latent < width:
                raise ConfigError(
                    f"latent {latent} is to be edited, but this SAE has latents 0 to {width - 1}."
                )
        if both := sorted(set(self.ablate) & set(self.steer)):
            raise ConfigError(
                f"latent {both[0]} is to be ablated and steered; ablation sets it to 0, steering "
                "to a value. Choose one."
            )
        if sae.training and sae.sparsifier.compares_samples:
            raise ConfigError(
                "this SAE is in training mode, where what fires for one token depends on the "
                "others in its batch. Call sae.eval() first."
            )

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "row d_in"]) -> Float[Tensor, "row d_in"]:
        """What the model goes on with instead of `x`.

        **Raises:** `ShapeError` if the SAE was made for another hook point.
        """
        like = self.sae.W_enc
        x = x.to(like)
        z = self.sae.encode(x)
        edited = z.clone()
        if self.ablate:
            edited[..., list(self.ablate)] = 0.0
        for latent, value in self.steer.items():
            edited[..., latent] = value
        x_hat = self.sae.decode(edited)[self.member]
        if self.keep_error:
            x_hat = x_hat + (x - self.sae.decode(z)[self.member])
        return x_hat


@contextmanager
def spliced(
    model: LanguageModel,
    hook_point: str,
    sae: SAE,
    *,
    member: int = 0,
    keep_error: bool = False,
    ablate: Sequence[int] = (),
    steer: Mapping[int, float] | None = None,
    where: Bool[Tensor, "batch position"] | None = None,
    max_norm: float | None = None,
) -> Iterator[None]:
    r"""Within the block, the model goes on with an SAE's reconstruction at a hook point.

    Blocks may be nested, at different hook points or at one.

    **Arguments:**
    - `model`: the model; nothing of it is changed after the block.
    - `hook_point`: where the SAE reads.
    - `sae`: it reads raw activations, as every saved SAE does.
    - `member`: which of its members.
    - `keep_error`: add back what the SAE leaves out. Without edits nothing then changes, up to
      rounding.
    - `ablate`: latents set to 0 at every position.
    - `steer`: latents set to a value at every position, whether they fired or not.
    - `where`: positions at which the activation is replaced; None for all. Special tokens, on
      which an SAE was not trained, are better left out.
    - `max_norm`: leave longer activations as they are; see `loss_recovered`.

    **Raises:** `ConfigError` for a latent or member that does not exist or is to be ablated and
    steered; `HookError` for an unknown hook point; `ShapeError` if the SAE does not fit it, or,
    during the forward pass, if `where` does not fit the tokens.
    """
    splice = Splice(
        sae=sae, member=member, keep_error=keep_error, ablate=ablate, steer=dict(steer or {})
    )
    d_in = model.d_in(hook_point)
    if sae.d_in != d_in:
        raise ShapeError(
            f"this SAE reads d_in {sae.d_in}, but activations at `{hook_point}` have d_in {d_in}. "
            "Was it trained at another hook point or on another model?"
        )
    with model.replace(hook_point, Replacement(where=where, substitute=splice, max_norm=max_norm)):
        yield


@dataclass
class Replacement:
    """Replaces the activations at some positions and leaves the rest as they are, to the bit."""

    where: Bool[Tensor, "batch position"] | None
    """Positions that are replaced; None for all."""
    substitute: Callable[[Tensor], Any]
    """From `[row, d_in]` to the same shape."""
    max_norm: float | None
    """Longer activations stay as they are; None for no such limit."""
    n_replaced: int = 0
    """How many were replaced in the last forward pass."""

    def __call__(
        self, x: Float[Tensor, "batch position d_in"]
    ) -> Float[Tensor, "batch position d_in"]:
        """The activations with those at these positions replaced."""
        if self.where is None:
            where = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        else:
            where = self.where.to(x.device)
        if where.shape != x.shape[:2]:
            raise ShapeError(
                f"`where` has shape {list(where.shape)}, but the model reads tokens of shape "
                f"{list(x.shape[:2])}; expected one flag per token."
            )
        if self.max_norm is not None:
            where = where & (x.float().norm(dim=-1) <= self.max_norm)
        self.n_replaced = int(where.sum())
        new = x.clone()
        if self.n_replaced:
            new[where] = self.substitute(x[where]).to(x)
        return new
