"""The optimiser's step on a GPU: projection, clipping, Adam and unit length in one sweep."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent_assay.kernels import triton, uses_triton
from latent_assay.optimizer import Adam
from latent_assay.sae import SAE


class RowStep:
    """What `SAE.constrain_gradients`, `clip_by_member`, `Adam.step` and unit rows do, row by row.

    Each weight is read and written once, where the four apart pass over it about seven times.

    **Arguments:**
    - `sae`: the SAE.
    - `adam`: its optimiser, whose moments and rates are used.
    - `clip`: largest norm of each member's gradient; None does not clip.
    - `norm_of_squares`: makes each member's norm of the squared norms of its gradients.
    """

    def __init__(
        self,
        sae: SAE,
        adam: Adam,
        clip: Float[Tensor, " member"] | None,
        norm_of_squares: Callable[[Mapping[str, Tensor]], Tensor],
    ) -> None:
        self.sae = sae
        self.adam = adam
        self.clip = clip
        self.norm_of_squares = norm_of_squares

    @property
    def applies(self) -> bool:
        """Whether the kernels run on this SAE's weights, all in float32."""
        kinds = {p.dtype for p in self.adam.parameters.values()}
        return kinds == {torch.float32} and uses_triton(self.sae.W_enc)

    @torch.no_grad()
    def __call__(
        self,
        factor: float,
        verdict: Callable[[Float[Tensor, " member"]], Bool[Tensor, " member"]],
    ) -> Float[Tensor, " member"]:
        """Move the parameters along their gradients.

        **Arguments:**
        - `factor`: the schedule's factor on every learning rate.
        - `verdict`: given the gradients' norms, which members may move.

        **Returns:** each member's norm before clipping.
        """
        self.sae.zero_padding_gradients()
        found = {name: p.grad for name, p in self.adam.parameters.items() if p.grad is not None}
        unit = "W_dec" if self.sae.decoder_norm == "unit" and not self.sae.tied else None
        if self.sae.tied and self.sae.decoder_norm == "unit":
            unit = "W_enc"
        radial, norm = self._norms(found, unit)
        scale = None
        if self.clip is not None:
            scale = (self.clip.to(norm.dtype) / (norm + 1e-6)).clamp_max(1)
        accept = verdict(norm)
        self.adam.steps += 1
        for name, grad in found.items():
            triton.adam_rows(
                _rows(self.adam.parameters[name].data),
                _rows(grad.contiguous()),
                _rows(self.adam.first[name]),
                _rows(self.adam.second[name]),
                lr=self.adam.rates * factor,
                accept=accept,
                step=self.adam.steps,
                betas=self.adam.betas,
                eps=self.adam.eps,
                scale=scale,
                radial=radial if name == unit else None,
                unit=name == unit,
            )
        self.sae.sparsifier.constrain()
        return norm

    def _norms(
        self, gradients: Mapping[str, Tensor], unit: str | None
    ) -> tuple[Tensor | None, Float[Tensor, " member"]]:
        radial: Tensor | None = None
        squares = {}
        for name, grad in gradients.items():
            rows = self.adam.parameters[name].data if name == unit else None
            along, square = triton.gradient_norms(_rows(grad.contiguous()), rows)
            radial = along if name == unit else radial
            squares[name] = square
        return radial, self.norm_of_squares(squares)


def _rows(tensor: Tensor) -> Float[Tensor, "member row d_in"]:
    """Biases as one row per member."""
    return tensor if tensor.dim() == 3 else tensor.unsqueeze(1)
