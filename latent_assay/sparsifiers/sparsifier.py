"""What every sparsifier has in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from latent_assay.distributed import Ranks
from latent_assay.errors import ConfigError
from latent_assay.kernels import Selection

PerMember = int | float | Sequence[int | float]
"""One value for all members, or a sequence with one for each."""


class Sparsifier(nn.Module, ABC):
    """Maps pre-activations to latent activations, member by member.

    A subclass defines `forward`. One that fires few latents also defines `select`, which opens
    the sparse path, and one that behaves differently in training and in use defines `exported`.
    """

    name: ClassVar[str]
    """The word for it in files."""
    compares_samples: ClassVar[bool] = False
    """Whether what fires for one sample depends on the others."""
    is_gate: ClassVar[bool] = False
    """Whether z is the pre-activation where that is positive and fires, and zero elsewhere, the
    gradient being 1 or 0 accordingly."""

    @abstractmethod
    def forward(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Float[Tensor, "member batch latent"]:
        """Latent activations.

        **Arguments:**
        - `pre`: pre-activations.
        - `weight`: weight of each sample, summing to 1; matters to batch-wide sparsifiers only.
        """

    def select(
        self,
        pre: Float[Tensor, "member batch latent"],
        weight: Float[Tensor, "*lead batch"] | None = None,
    ) -> Selection | None:
        """The entries at which `forward` may fire, where it then equals max(pre, 0).

        None if this sparsifier has no such list to offer.
        """
        return None

    @property
    def expected_l0(self) -> float | None:
        """Upper bound of the mean number of firing latents, if there is one by construction."""
        return None

    def exported(self, width: int) -> "Sparsifier":
        """The sparsifier for use after training; it treats every sample alone."""
        return self

    def on_rank(self, rows: Int[Tensor, " row"], ranks: Ranks) -> "Sparsifier":
        """The sparsifier of a process that holds some of the latents, others holding the rest.

        **Arguments:**
        - `rows`: the latents of this process.
        - `ranks`: all processes.

        **Raises:** `ConfigError` if it cannot be divided.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot be divided over processes: it does not say how "
            "(`Sparsifier.on_rank`). Train in one process."
        )

    def constrain(self) -> None:
        """Put parameters back where they must be after an optimiser's step."""

    def rescale(self, factor: float) -> None:
        """Keep the same firing when pre-activations are multiplied by a positive factor."""

    def check(self, members: int, width: int) -> None:
        """Raise `ConfigError` if this sparsifier does not fit so many members and latents."""
        for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
            if tensor.shape[0] != members:
                raise ConfigError(
                    f"{type(self).__name__}.{name} has {tensor.shape[0]} members but the SAE has "
                    f"{members}; give one value, or one for each member."
                )

    def settings(self) -> dict[str, Any]:
        """What describes it in a file, apart from tensors with an entry per latent."""
        return {}

    def shared(self) -> dict[str, Any]:
        """The settings that all members have in common."""
        own = dict(self.named_buffers())
        return {name: value for name, value in self.settings().items() if name not in own}

    def take(self, members: Sequence[int], width: int) -> "Sparsifier":
        """A copy for some of the members and the first `width` latents."""
        copy = deepcopy(self)
        for tensor in copy._own():
            kept = tensor.data[list(members)]
            tensor.data = (kept[:, :width] if kept.dim() > 1 else kept).clone()
        copy.derive()
        return copy

    @staticmethod
    def stack(sparsifiers: Sequence["Sparsifier"], width: int) -> "Sparsifier":
        """One sparsifier for the members of several of one kind, padded with zeros to `width`."""
        first = sparsifiers[0]
        for other in sparsifiers[1:]:
            if type(other) is not type(first):
                raise ConfigError(
                    f"cannot stack a {type(first).__name__} SAE with a {type(other).__name__} one; "
                    "members of one SAE share their sparsifier. Keep them apart."
                )
            if other.shared() != first.shared():
                raise ConfigError(
                    f"cannot stack {type(first).__name__} SAEs that differ in {first.shared()} and "
                    f"{other.shared()}, which the members of one SAE share. Keep them apart."
                )
        copy = deepcopy(first)
        for tensors in zip(copy._own(), *(each._own() for each in sparsifiers), strict=True):
            tensors[0].data = torch.cat(
                [
                    F.pad(each.data, [0, width - each.shape[1]]) if each.dim() > 1 else each.data
                    for each in tensors[1:]
                ]
            )
        copy.derive()
        return copy

    def derive(self) -> None:
        """Recompute whatever was derived from the tensors; called when they are replaced."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Sparsifier":
        """Buffers follow to another device but keep their type: k = 257 has no bfloat16."""
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            after = getattr(self, name)
            if after.dtype != buffer.dtype:
                setattr(self, name, buffer.to(after.device))
        return self

    def _own(self) -> list[Tensor]:
        return [*self.parameters(), *self.buffers()]
