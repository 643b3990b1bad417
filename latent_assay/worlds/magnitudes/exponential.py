"""Magnitudes that are mostly small and sometimes large."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.magnitudes.law import Magnitudes
from latent_assay.worlds.magnitudes.parameter import Parameter, checked, paired, words


@dataclass(frozen=True, kw_only=True)
class Exponential(Magnitudes):
    r"""Magnitudes with density $e^{-m / \mu} / \mu$ for $m \ge 0$.

    **Raises:** `WorldError` if a `mean` is not positive.
    """

    mean: Parameter = 1.0
    """$\\mu$ of all features, or of each; also the standard deviation."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", checked(self.mean, "mean"))
        for mean, _ in paired(self.mean, self.mean, "mean", "mean"):
            if not mean > 0:
                raise WorldError(
                    f"`mean` is {mean:g}, but exponential magnitudes have a positive mean. "
                    "Use `Normal` for magnitudes of either sign."
                )

    @property
    def summary(self) -> str:
        """The law in a few words."""
        return f"exponential with mean {words(self.mean)}"

    def _draw(
        self,
        into: Float[Tensor, "*any"],
        parameter: Callable[[str], Tensor],
        generator: torch.Generator,
    ) -> None:
        into.exponential_(generator=generator).mul_(parameter("mean"))
