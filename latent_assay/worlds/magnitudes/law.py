"""What every magnitude law offers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from latent_assay.errors import WorldError
from latent_assay.worlds.encoding import as_json
from latent_assay.worlds.magnitudes.parameter import full
from latent_assay.worlds.per_device import PerDevice


class Magnitudes(PerDevice, ABC):
    """How strongly features fire, given that they do.

    Magnitudes are independent of each other and of which other features fire.
    """

    @property
    @abstractmethod
    def summary(self) -> str:
        """The law in a few words."""

    @property
    def n_features(self) -> int | None:
        """Number of features that the parameters are for; None if they fit any number."""
        values = (getattr(self, field.name) for field in fields(cast(Any, self)))
        return next((len(value) for value in values if isinstance(value, tuple)), None)

    @property
    def finite(self) -> bool:
        """Whether every feature always fires with the same magnitude."""
        return False

    @property
    def why_not_finite(self) -> str | None:
        """What keeps the magnitudes from being enumerated; None if nothing does."""
        return None if self.finite else f"magnitudes are {self.summary}"

    def constants(self, n_features: int) -> Float64[Tensor, " feature"]:
        """The one magnitude of each feature, for a finite law.

        **Raises:** `WorldError` if the law is not finite.
        """
        raise WorldError(
            f"there is no one magnitude for each feature: {self.why_not_finite}. "
            "Use constant magnitudes."
        )

    def sample(
        self,
        firing: Bool[Tensor, "n feature"],
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "n feature"]:
        """Draw a magnitude for every feature that fires; silent ones have 0.

        **Arguments:**
        - `firing`: which features fire.
        - `generator`: source of randomness, on the device of `firing`.
        - `dtype`: of the result.
        """
        n, device = firing.shape[1], firing.device
        if self.finite:
            return firing * self._constants(n, device, dtype)
        drawn = torch.empty(firing.shape, device=device, dtype=_at_least_single(dtype))
        self._draw(drawn, lambda name: self._each(name, n, device, drawn.dtype), generator)
        return (firing * drawn).to(dtype)

    def sample_sparse(
        self,
        features: Int64[Tensor, " firing"],
        n_features: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, " firing"]:
        """Draw a magnitude for each firing, of the same law as `sample`, by other numbers.

        **Arguments:**
        - `features`: the feature of each firing.
        - `n_features`: number of features.
        - `generator`: source of randomness, on the device of `features`.
        - `dtype`: of the result.
        """
        device = features.device
        if self.finite:
            return self._constants(n_features, device, dtype).index_select(0, features)
        drawn = torch.empty(features.shape, device=device, dtype=_at_least_single(dtype))

        def parameter(name: str) -> Float[Tensor, " firing"]:
            return self._each(name, n_features, device, drawn.dtype).index_select(0, features)

        self._draw(drawn, parameter, generator)
        return drawn.to(dtype)

    def _draw(
        self,
        into: Float[Tensor, "*any"],
        parameter: Callable[[str], Tensor],
        generator: torch.Generator,
    ) -> None:
        """Fill a tensor with magnitudes; only called for a law that varies.

        `parameter` gives a parameter by its name, in a shape that broadcasts to the tensor's.
        """
        raise NotImplementedError(f"{type(self).__name__} says that it varies; it must draw.")

    def _constants(
        self, n_features: int, device: torch.device, dtype: torch.dtype
    ) -> Float[Tensor, " feature"]:
        return self._once(
            (device, dtype, n_features), lambda: self.constants(n_features).to(device, dtype)
        )

    def _each(
        self, name: str, n_features: int, device: torch.device, dtype: torch.dtype
    ) -> Float[Tensor, " feature"]:
        """The parameter `name` as one number for each feature."""
        return self._once(
            (name, device, dtype, n_features),
            lambda: full(getattr(self, name), n_features).to(device, dtype),
        )

    @property
    def description(self) -> dict[str, Any]:
        """The law and its parameters as plain data, ready for JSON."""
        return as_json(self)


def _at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Half precision has too few digits to draw in."""
    return torch.float32 if dtype.itemsize < 4 else dtype
