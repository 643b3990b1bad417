"""Magnitudes spread evenly over an interval."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.magnitudes.law import Magnitudes
from latent_assay.worlds.magnitudes.parameter import Parameter, checked, paired, words


@dataclass(frozen=True, kw_only=True)
class Uniform(Magnitudes):
    r"""Magnitudes $m \sim U[a, b]$.

    **Raises:** `WorldError` if `low` is not below `high`.
    """

    low: Parameter = 0.0
    """$a$ of all features, or of each."""
    high: Parameter = 1.0
    """$b$ of all features, or of each."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", checked(self.low, "low"))
        object.__setattr__(self, "high", checked(self.high, "high"))
        for low, high in paired(self.low, self.high, "low", "high"):
            if not low < high:
                raise WorldError(
                    f"`low` is {low:g} and `high` is {high:g}, but magnitudes spread from a lower "
                    "to a higher number. Swap them, or use `Constant` for a single magnitude."
                )

    @property
    def summary(self) -> str:
        """The law in a few words."""
        return f"uniform from {words(self.low)} to {words(self.high)}"

    def _draw(
        self,
        into: Float[Tensor, "*any"],
        parameter: Callable[[str], Tensor],
        generator: torch.Generator,
    ) -> None:
        low, high = parameter("low"), parameter("high")
        into.uniform_(generator=generator).mul_(high - low).add_(low)
