r"""The one sparse autoencoder: encoder, sparsifier, decoder, for one or many members at once.

$$z = \sigma(W_{enc}(x - b_{dec}) + b_{enc}), \qquad \hat x = W_{dec}^\top z + b_{dec}$$

Rows of both weight matrices are latents. Everything has a leading member axis: an SAE with six
members is six SAEs of equal shape that train side by side and never influence one another.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.kernels import Selection, SparseLatents, Workspace, prefers_sparse, sparse_latents
from latent_assay.sparsifiers import Sparsifier

DecoderNorm = Literal["free", "unit"]
"""Whether decoder rows may have any length, or are held at length one."""

PARAMETERS = ("W_enc", "W_dec", "b_enc", "b_dec")


class DenseLatents:
    """Latent activations held as one dense tensor; the plain counterpart of `SparseLatents`.

    **Arguments:**
    - `value`: the tensor.
    - `fired`: whether each latent fired in the batch, if that is known already.
    """

    def __init__(
        self,
        value: Float[Tensor, "member batch latent"],
        fired: Bool[Tensor, "member latent"] | None = None,
    ):
        self.value = value
        self._fired = fired

    def dense(self) -> Float[Tensor, "member batch latent"]:
        """The tensor itself."""
        return self.value

    def fired(
        self, weight: Float[Tensor, "*lead batch"] | None = None
    ) -> Bool[Tensor, "member latent"]:
        """Whether each latent fired for at least one sample; samples of weight 0 do not count."""
        if self._fired is not None:
            return self._fired
        firing = self.value.detach() != 0
        if weight is not None:
            firing = firing & (weight > 0).unsqueeze(-1)
        return firing.any(dim=1)

    def l0(self, weight: Float[Tensor, "*lead batch"] | None = None) -> Float[Tensor, " member"]:
        """Mean number of firing latents per sample."""
        count = (self.value.detach() != 0).sum(-1).to(torch.float64)
        return count.mean(-1) if weight is None else (count * weight).sum(-1)

    def decode(
        self, W_dec: Float[Tensor, "member latent d_in"], bounds: tuple[int, ...]
    ) -> list[Float[Tensor, "member batch d_in"]]:
        """What each group of latents contributes to the reconstruction; groups end at `bounds`."""
        starts = (0, *bounds[:-1])
        return [
            self.value[:, :, start:end] @ W_dec[:, start:end]
            for start, end in zip(starts, bounds, strict=True)
        ]


Latents = DenseLatents | SparseLatents
"""Latent activations in either form."""


class SAE(nn.Module):
    """One or more sparse autoencoders of equal shape.

    Made by a recipe as a rule; by hand:

    >>> from latent_assay.sparsifiers import ReLU
    >>> sae = SAE(torch.eye(3)[None], sparsifier=ReLU())
    >>> sae(torch.tensor([[1.0, -2.0, 0.5]]))
    tensor([[[1.0000, 0.0000, 0.5000]]], grad_fn=<AddBackward0>)

    **Arguments:**
    - `W_enc`: encoder rows.
    - `W_dec`: decoder rows; None makes a *tied* SAE, in which one tensor serves both.
    - `b_enc`, `b_dec`: biases, zero if None.
    - `sparsifier`: turns pre-activations into latent activations.
    - `frozen`: names of parameters that training leaves alone, such as `("b_enc",)`.
    - `decoder_norm`: "unit" holds decoder rows at length one during training (not before).
    - `subtract_b_dec`: whether the encoder reads $x - b_{dec}$ or $x$.
    - `widths`: the width of each member where it is less than the number of rows; further rows are
      padding, held at zero.
    """

    W_enc: Float[Tensor, "member latent d_in"]
    W_dec: Float[Tensor, "member latent d_in"]
    b_enc: Float[Tensor, "member latent"]
    b_dec: Float[Tensor, "member d_in"]

    def __init__(
        self,
        W_enc: Float[Tensor, "member latent d_in"],
        W_dec: Float[Tensor, "member latent d_in"] | None = None,
        *,
        sparsifier: Sparsifier,
        b_enc: Float[Tensor, "member latent"] | None = None,
        b_dec: Float[Tensor, "member d_in"] | None = None,
        frozen: Iterable[str] = (),
        decoder_norm: DecoderNorm = "free",
        subtract_b_dec: bool = True,
        widths: Sequence[int] | None = None,
    ):
        super().__init__()
        if W_enc.dim() != 3 or 0 in W_enc.shape:
            raise ShapeError(
                f"W_enc must have shape [member, latent, d_in], got {list(W_enc.shape)}; for a "
                "single SAE add the member axis with W_enc[None]."
            )
        members, width, d_in = W_enc.shape
        expected = {
            "W_dec": (W_dec, (members, width, d_in)),
            "b_enc": (b_enc, (members, width)),
            "b_dec": (b_dec, (members, d_in)),
        }
        for name, (tensor, shape) in expected.items():
            if tensor is not None and tensor.shape != shape:
                raise ShapeError(
                    f"{name} must have shape {list(shape)} to fit W_enc {[members, width, d_in]}, "
                    f"got {list(tensor.shape)}."
                )
        if decoder_norm not in get_args(DecoderNorm):
            raise ConfigError(f'decoder_norm must be "free" or "unit", got {decoder_norm!r}.')
        self.tied = W_dec is None
        self.frozen = tuple(sorted(set(frozen)))
        self.decoder_norm = decoder_norm
        self.subtract_b_dec = subtract_b_dec
        if unknown := set(self.frozen) - set(PARAMETERS):
            raise ConfigError(f"`frozen` may name {', '.join(PARAMETERS)}; got {sorted(unknown)}.")
        # contiguous: products of equal weights laid out otherwise differ in their last digits
        self.W_enc = nn.Parameter(W_enc.contiguous())
        self.W_dec = self.W_enc if W_dec is None else nn.Parameter(W_dec.contiguous())
        b_enc = W_enc.new_zeros(members, width) if b_enc is None else b_enc
        b_dec = W_enc.new_zeros(members, d_in) if b_dec is None else b_dec
        self.b_enc, self.b_dec = nn.Parameter(b_enc.contiguous()), nn.Parameter(b_dec.contiguous())
        for name in self.frozen:
            getattr(self, name).requires_grad_(False)
        sparsifier.check(members, width)
        self.sparsifier = sparsifier
        self.widths = tuple(widths) if widths is not None else (width,) * members
        if len(self.widths) != members or not all(1 <= each <= width for each in self.widths):
            raise ConfigError(
                f"widths must be {members} numbers from 1 to {width}, got {list(self.widths)}."
            )
        self.padded = any(each < width for each in self.widths)
        for member, each in enumerate(self.widths):
            if each < width:  # a narrower member must be able to stand alone
                sparsifier.take([member], each).check(1, each)
        self._workspace = Workspace()
        self._zero_padding()

    # ------------------------------------------------------------------ shape

    @property
    def members(self) -> int:
        """Number of members."""
        return self.W_enc.shape[0]

    @property
    def width(self) -> int:
        """Number of latents, padding included."""
        return self.W_enc.shape[1]

    @property
    def d_in(self) -> int:
        """Length of an activation."""
        return self.W_enc.shape[2]

    @property
    def padding(self) -> Bool[Tensor, "member latent"] | None:
        """True for rows that are padding; None if there are none."""
        if not self.padded:
            return None
        widths = torch.tensor(self.widths, device=self.W_enc.device)
        return torch.arange(self.width, device=self.W_enc.device) >= widths.unsqueeze(-1)

    def extra_repr(self) -> str:
        """One line for `print`."""
        width = self.widths[0] if len(set(self.widths)) == 1 else list(self.widths)
        parts = [f"d_in={self.d_in}", f"width={width}", f"members={self.members}"]
        parts += ["tied"] if self.tied else []
        parts += [f"decoder_norm={self.decoder_norm}"] if self.decoder_norm != "free" else []
        parts += [f"frozen={','.join(self.frozen)}"] if self.frozen else []
        return ", ".join(parts)

    # ------------------------------------------------------------------ use

    def pre_activations(
        self,
        x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
        *,
        again: bool = False,
    ) -> Float[Tensor, "member batch latent"]:
        r"""$W_{enc}(x - b_{dec}) + b_{enc}$.

        **Arguments:**
        - `x`: activations, one batch shared by all members or one for each.
        - `again`: write into the memory of the last such call, which on CPU is faster; without
          gradients only.
        """
        self.check_input(x)
        x = x.expand(self.members, -1, -1)
        bias = self.encoder_bias().unsqueeze(1)
        if not again or x.device.type != "cpu":
            return torch.baddbmm(bias, x, self.W_enc.mT)
        out = self._workspace.room((self.members, x.shape[1], self.width), self.W_enc)
        return torch.baddbmm(bias, x, self.W_enc.mT, out=out)

    def encoder_bias(self) -> Float[Tensor, "member latent"]:
        r"""$b_{enc} - W_{enc} b_{dec}$, what remains when the encoder is written for raw $x$."""
        if not self.subtract_b_dec:
            return self.b_enc
        return self.b_enc - (self.W_enc @ self.b_dec.unsqueeze(-1)).squeeze(-1)

    def encode(
        self, x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"]
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations z."""
        return self.sparsifier(self.pre_activations(x))

    def decode(self, z: Float[Tensor, "member batch latent"]) -> Float[Tensor, "member batch d_in"]:
        """The reconstruction from latent activations."""
        if z.dim() != 3 or z.shape[0] != self.members or z.shape[2] != self.width:
            raise ShapeError(
                f"z must have shape [{self.members}, batch, {self.width}], got {list(z.shape)}."
            )
        return z @ self.W_dec + self.b_dec.unsqueeze(1)

    def forward(
        self, x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"]
    ) -> Float[Tensor, "member batch d_in"]:
        """The reconstruction of x."""
        return self.decode(self.encode(x))

    def latents(
        self,
        x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> tuple[Latents, Float[Tensor, "member batch latent"]]:
        """Latent activations in the form that is faster to decode, and the pre-activations.

        Equal to `encode` in value and gradient. On the sparse path, which an x that wants a
        gradient itself does not take, the pre-activations carry no gradient.
        """
        if not x.requires_grad and self.prefers_sparse(x):
            pre, selection = self.selected(x, weight)
            if selection is not None:
                z = sparse_latents(x, self.W_enc, self.encoder_bias(), pre, selection)
                return z, pre
        pre = self.pre_activations(x)
        return DenseLatents(self.sparsifier(pre, weight)), pre

    @torch.no_grad()
    def selected(
        self,
        x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> tuple[Float[Tensor, "member batch latent"], Selection | None]:
        """Pre-activations, and the list of latents that may fire, if the sparsifier offers one."""
        pre = self.pre_activations(x, again=self.training)
        return pre, self.sparsifier.select(pre, weight)

    def prefers_sparse(
        self, x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"]
    ) -> bool:
        """Whether such a batch is decoded faster through a list of firing latents."""
        self.check_input(x)
        l0 = self.sparsifier.expected_l0
        return l0 is not None and prefers_sparse(
            members=self.members,
            batch=x.shape[-2],
            width=self.width,
            d_in=self.d_in,
            l0=l0,
            like=self.W_enc,
        )

    def check_input(self, x: Tensor) -> None:
        """Raise `ShapeError` unless x is a batch of activations for this SAE."""
        if x.dim() not in (2, 3) or (x.dim() == 3 and x.shape[0] != self.members):
            raise ShapeError(
                f"x must have shape [batch, {self.d_in}], or [{self.members}, batch, {self.d_in}] "
                f"with one batch per member; got {list(x.shape)}. Flatten positions into the batch "
                "first."
            )
        if x.shape[-1] != self.d_in:
            raise ShapeError(
                f"x has d_in {x.shape[-1]} but this SAE reads d_in {self.d_in}; was it trained at "
                "another hook point or on another model?"
            )

    # ------------------------------------------------------------------ constraints in training

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Bring every decoder row to length one; zero rows stay zero."""
        # in place: memory for another matrix of this size costs several times what is done with it
        norm = torch.linalg.vector_norm(self.W_dec, dim=-1, keepdim=True)
        self.W_dec.div_(norm.clamp_min_(1e-12))

    @torch.no_grad()
    def constrain_gradients(self) -> None:
        r"""Remove what training must not follow: padding, and the radial part for unit rows.

        For a row $d$ of length one, $g \leftarrow g - (g \cdot d)\, d$.
        """
        self.zero_padding_gradients()
        if self.decoder_norm == "unit" and self.W_dec.grad is not None:
            radial = torch.einsum("mli,mli->ml", self.W_dec.grad, self.W_dec)
            self.W_dec.grad.addcmul_(radial.unsqueeze(-1), self.W_dec, value=-1)

    @torch.no_grad()
    def zero_padding_gradients(self) -> None:
        """Hold padding where it is."""
        padding = self.padding
        if padding is not None:
            own = (self.W_enc, self.W_dec, self.b_enc, *self.sparsifier.parameters())
            for parameter in own:
                if parameter.grad is not None and parameter.dim() > 1:
                    parameter.grad[padding] = 0

    @torch.no_grad()
    def constrain(self) -> None:
        """Put parameters back where they must be after an optimiser's step."""
        if self.decoder_norm == "unit":
            self.normalise_decoder()
        self.sparsifier.constrain()

    @torch.no_grad()
    def _zero_padding(self) -> None:
        padding = self.padding
        if padding is not None:
            for tensor in (self.W_enc, self.W_dec, self.b_enc):
                tensor[padding] = 0

    # ------------------------------------------------------------------ members

    def take(self, members: int | Sequence[int]) -> "SAE":
        """A copy of one member or several, without padding that they do not need."""
        chosen = [members] if isinstance(members, int) else list(members)
        if not chosen or not all(-self.members <= each < self.members for each in chosen):
            raise ConfigError(f"this SAE has members 0 to {self.members - 1}, asked for {members}.")
        width = max(self.widths[each] for each in chosen)
        return SAE(
            self.W_enc.data[chosen, :width].clone(),
            None if self.tied else self.W_dec.data[chosen, :width].clone(),
            b_enc=self.b_enc.data[chosen, :width].clone(),
            b_dec=self.b_dec.data[chosen].clone(),
            sparsifier=self.sparsifier.take(chosen, width),
            frozen=self.frozen,
            decoder_norm=self.decoder_norm,
            subtract_b_dec=self.subtract_b_dec,
            widths=[self.widths[each] for each in chosen],
        ).train(self.training)

    def unstack(self) -> list["SAE"]:
        """Every member as an SAE of its own."""
        return [self.take(member) for member in range(self.members)]

    def rescaled(self, scale: float) -> "SAE":
        r"""The same SAE for inputs that are not multiplied by `scale` before it reads them.

        All sparsifiers satisfy $\sigma(cz) = c\,\sigma(z)$ once thresholds are scaled too, so an
        SAE trained on $s x$ reads $x$ when its biases and thresholds are divided by $s$; its
        weights stay, and its latent activations are divided by $s$.
        """
        if not 0 < scale < float("inf"):
            raise ConfigError(f"scale must be positive, got {scale}.")
        copy = deepcopy(self)
        with torch.no_grad():
            copy.b_enc.div_(scale)
            copy.b_dec.div_(scale)
        copy.sparsifier.rescale(1 / scale)
        return copy

    def exported(self) -> "SAE":
        """The SAE as it is used and saved: every sample alone, in evaluation mode.

        BatchTopK becomes a JumpReLU with its running threshold.
        """
        copy = deepcopy(self).eval()
        copy.sparsifier = copy.sparsifier.exported(self.width).eval()
        for parameter in copy.sparsifier.parameters():
            parameter.data = parameter.data.to(self.W_enc.dtype)
        return copy


def stack(saes: Sequence[SAE]) -> SAE:
    """One SAE whose members are those of several; narrower ones are padded.

    **Raises:** `ConfigError` if they differ in d_in, sparsifier, ties, biases or constraints.
    """
    if not saes:
        raise ConfigError("nothing to stack: expected at least one SAE, got an empty list.")
    for name in ("d_in", "tied", "frozen", "decoder_norm", "subtract_b_dec"):
        found = {getattr(sae, name) for sae in saes}
        if len(found) > 1:
            raise ConfigError(f"SAEs to stack must agree in {name}, got {sorted(map(str, found))}.")
    if len(dtypes := {sae.W_enc.dtype for sae in saes}) > 1:
        raise ConfigError(f"SAEs to stack must agree in dtype, got {sorted(map(str, dtypes))}.")
    width = max(sae.width for sae in saes)

    def padded(name: str) -> Tensor:
        rows = [getattr(sae, name).data for sae in saes]
        rest = [(0, 0)] * (rows[0].dim() - 2)
        return torch.cat(
            [F.pad(each, [*sum(reversed(rest), ()), 0, width - each.shape[1]]) for each in rows]
        )

    return SAE(
        padded("W_enc"),
        None if saes[0].tied else padded("W_dec"),
        b_enc=padded("b_enc"),
        b_dec=torch.cat([sae.b_dec.data for sae in saes]),
        sparsifier=Sparsifier.stack([sae.sparsifier for sae in saes], width),
        frozen=saes[0].frozen,
        decoder_norm=saes[0].decoder_norm,
        subtract_b_dec=saes[0].subtract_b_dec,
        widths=[width for sae in saes for width in sae.widths],
    ).train(saes[0].training)
