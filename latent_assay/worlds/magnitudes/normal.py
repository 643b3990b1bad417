"""Magnitudes around a mean."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.magnitudes.law import Magnitudes
from latent_assay.worlds.magnitudes.parameter import (
    Parameter,
    checked,
    full,
    never_varies,
    paired,
    words,
)


@dataclass(frozen=True, kw_only=True)
class Normal(Magnitudes):
    r"""Magnitudes $m \sim N(\mu, \sigma^2)$, signed: a feature may fire negatively.

    With every $\sigma = 0$ the law is that of `Constant`.

    **Raises:** `WorldError` if an `sd` is negative, or if a `mean` is 0 where `sd` is.
    """

    mean: Parameter = 1.0
    """$\\mu$ of all features, or of each."""
    sd: Parameter
    """$\\sigma$ of all features, or of each; a standard deviation, not a variance."""

    def __post_init__(self) -> None:
        _check_normal(self)

    @property
    def summary(self) -> str:
        """The law in a few words."""
        return f"normal with mean {words(self.mean)} and sd {words(self.sd)}"

    @property
    def finite(self) -> bool:
        """Whether every `sd` is 0."""
        return never_varies(self.sd)

    def constants(self, n_features: int) -> Float64[Tensor, " feature"]:
        """The means, if no magnitude varies."""
        return full(self.mean, n_features) if self.finite else super().constants(n_features)

    def _draw(
        self,
        into: Float[Tensor, "*any"],
        parameter: Callable[[str], Tensor],
        generator: torch.Generator,
    ) -> None:
        into.normal_(generator=generator).mul_(parameter("sd")).add_(parameter("mean"))


@dataclass(frozen=True, kw_only=True)
class FoldedNormal(Magnitudes):
    r"""Magnitudes $m = |N(\mu, \sigma^2)|$: never negative.

    With every $\sigma = 0$ the law is that of `Constant` with $|\mu|$. For $\mu = 0$ the mean is
    $\sigma \sqrt{2 / \pi}$.

    **Raises:** `WorldError` if an `sd` is negative, or if a `mean` is 0 where `sd` is.
    """

    mean: Parameter = 1.0
    """$\\mu$ of all features, or of each, before folding."""
    sd: Parameter
    """$\\sigma$ of all features, or of each, before folding."""

    def __post_init__(self) -> None:
        _check_normal(self)

    @property
    def summary(self) -> str:
        """The law in a few words."""
        return f"folded normal with mean {words(self.mean)} and sd {words(self.sd)} before folding"

    @property
    def finite(self) -> bool:
        """Whether every `sd` is 0."""
        return never_varies(self.sd)

    def constants(self, n_features: int) -> Float64[Tensor, " feature"]:
        """The folded means, if no magnitude varies."""
        return full(self.mean, n_features).abs() if self.finite else super().constants(n_features)

    def _draw(
        self,
        into: Float[Tensor, "*any"],
        parameter: Callable[[str], Tensor],
        generator: torch.Generator,
    ) -> None:
        into.normal_(generator=generator).mul_(parameter("sd")).add_(parameter("mean")).abs_()


def _check_normal(law: Normal | FoldedNormal) -> None:
    object.__setattr__(law, "mean", checked(law.mean, "mean"))
    object.__setattr__(law, "sd", checked(law.sd, "sd"))
    for mean, sd in paired(law.mean, law.sd, "mean", "sd"):
        if sd < 0:
            raise WorldError(
                f"`sd` is {sd:g}, but a standard deviation is not negative. "
                "Give the standard deviation, not a signed number."
            )
        if sd == 0 and mean == 0:
            raise WorldError(
                "`mean` and `sd` are both 0, so the feature would never fire. "
                "Give a silent feature the rate 0 instead."
            )
