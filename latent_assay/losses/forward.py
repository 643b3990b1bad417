"""What a loss term may look at: one batch's way through an SAE, and how far training has come."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from latent_assay.errors import ConfigError
from latent_assay.kernels import is_largest
from latent_assay.sae import SAE, Latents
from latent_assay.sparsifiers import JumpReLU


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far training has come."""

    step: int
    """Steps done before this one."""
    samples: int
    """Samples seen before this step."""
    since_fired: Int[Tensor, "member latent"]
    """Samples since each latent last fired."""


class Forward:
    """One batch's way through an SAE.

    Everything beyond the latent activations is computed when a term first asks for it.

    **Arguments:**
    - `sae`: the SAE.
    - `x`: activations, one batch shared by all members or one for each.
    - `weight`: weight of each sample, summing to 1; None means equal weights.
    - `encoded`: latent activations and pre-activations, if they are known already.
    """

    def __init__(
        self,
        sae: SAE,
        x: Float[Tensor, "batch d_in"] | Float[Tensor, "member batch d_in"],
        weight: Float[Tensor, "*lead batch"] | None = None,
        *,
        encoded: tuple[Latents, Float[Tensor, "member batch latent"]] | None = None,
    ):
        self.sae = sae
        self.x = x
        self.weight = weight
        self.latents, self.pre = sae.latents(x, weight) if encoded is None else encoded

    @cached_property
    def z(self) -> Float[Tensor, "member batch latent"]:
        """Latent activations as a dense tensor."""
        return self.latents.dense()

    @property
    def decoder(self) -> Float[Tensor, "member latent d_in"]:
        """The decoder rows of these latents."""
        return self.sae.W_dec

    @cached_property
    def decoder_norm(self) -> Float[Tensor, "member latent"]:
        """The lengths of the decoder rows."""
        return torch.linalg.vector_norm(self.decoder, dim=-1)

    @property
    def bias(self) -> Float[Tensor, "member 1 d_in"]:
        """What the reconstruction begins with."""
        return self.sae.b_dec.unsqueeze(1)

    @cached_property
    def x_hat(self) -> Float[Tensor, "member batch d_in"]:
        """The reconstruction."""
        return self.contributions((self.sae.width,))[0] + self.bias

    def contributions(self, bounds: tuple[int, ...]) -> list[Float[Tensor, "member batch d_in"]]:
        """What each group of latents adds to the reconstruction; groups end at `bounds`."""
        return self.latents.decode(self.sae.W_dec, bounds)

    def whole(self, part: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """A sum over latents, from its part over the latents of this process.

        The same, unless latents are divided over processes (`ShardedForward`). A term that may run
        divided passes every sum over latents through here.
        """
        return part

    def largest(
        self, values: Float[Tensor, "member batch some"], k: int
    ) -> Float[Tensor, "member batch some"]:
        """1 for the k largest values of each sample, 0 for the others."""
        return is_largest(values, k)

    @cached_property
    def firing(self) -> Float[Tensor, "member batch latent"]:
        """1 where a latent fires, with the gradient that JumpReLU gives it.

        **Raises:** `ConfigError` for any other sparsifier, as its count has no gradient.
        """
        sparsifier = self.sae.sparsifier
        if not isinstance(sparsifier, JumpReLU):
            raise ConfigError(
                f"an L0 penalty needs a JumpReLU sparsifier, got {type(sparsifier).__name__}: only "
                "thresholds pass a gradient through the count. Use Lp, or a recipe with k."
            )
        return sparsifier.fires(self.pre)

    def average(self, values: Float[Tensor, "member batch"]) -> Float[Tensor, " member"]:
        """The mean over the batch, weighted if the batch is."""
        # not a product of matrices, which autocast would round to bfloat16
        return values.mean(-1) if self.weight is None else (values * self.weight).sum(-1)


class Level(Forward):
    """A matryoshka level: the SAE that consists of some of the latents only.

    **Arguments:**
    - `whole`: the pass through the whole SAE.
    - `start`, `end`: the latents of this level.
    - `x_hat`: this level's reconstruction.
    """

    def __init__(
        self,
        whole: Forward,
        start: int,
        end: int,
        x_hat: Float[Tensor, "member batch d_in"],
    ):
        self.sae = whole.sae
        self.x = whole.x
        self.weight = whole.weight
        self._whole, self._start, self._end = whole, start, end
        self.__dict__["x_hat"] = x_hat

    @cached_property
    def z(self) -> Float[Tensor, "member batch latent"]:
        """Latent activations of this level's latents."""
        return self._whole.z[:, :, self._start : self._end]

    @property
    def decoder(self) -> Float[Tensor, "member latent d_in"]:
        """The decoder rows of this level's latents."""
        return self._whole.decoder[:, self._start : self._end]

    @cached_property
    def decoder_norm(self) -> Float[Tensor, "member latent"]:
        """The lengths of this level's decoder rows."""
        return self._whole.decoder_norm[:, self._start : self._end]

    @cached_property
    def firing(self) -> Float[Tensor, "member batch latent"]:
        """1 where one of this level's latents fires."""
        return self._whole.firing[:, :, self._start : self._end]

    def whole(self, part: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """A sum over this level's latents, from its part."""
        return self._whole.whole(part)

    @property
    def pre(self) -> Float[Tensor, "member batch latent"]:  # type: ignore[override]
        """Pre-activations of this level's latents."""
        return self._whole.pre[:, :, self._start : self._end]

    def contributions(self, bounds: tuple[int, ...]) -> list[Float[Tensor, "member batch d_in"]]:
        """Levels are not divided further."""
        raise ConfigError(
            "a matryoshka level cannot hold levels of its own; give all levels to one Matryoshka."
        )
