"""What every magnitude law offers."""

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Float64
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
        if self.finite:
            key = (firing.device, dtype, firing.shape[1])
            return firing * self._once(key, lambda: self.constants(firing.shape[1]).to(*key[:2]))
        # Half precision has too few digits to draw in.
        drawn = torch.float32 if dtype.itemsize < 4 else dtype
        return (firing * self._drawn(firing, generator, drawn)).to(dtype)

    def _drawn(
        self, firing: Bool[Tensor, "n feature"], generator: torch.Generator, dtype: torch.dtype
    ) -> Float[Tensor, "n feature"]:
        """A magnitude for every feature, firing or not; only called for a law that varies."""
        raise NotImplementedError(f"{type(self).__name__} says that it varies; it must draw.")

    def _each(
        self, name: str, like: Bool[Tensor, "n feature"], dtype: torch.dtype
    ) -> Float[Tensor, " feature"]:
        """The parameter `name` as one number for each feature, on the device of `like`."""
        n = like.shape[1]
        return self._once(
            (name, like.device, dtype, n),
            lambda: full(getattr(self, name), n).to(device=like.device, dtype=dtype),
        )

    @property
    def description(self) -> dict[str, Any]:
        """The law and its parameters as plain data, ready for JSON."""
        return as_json(self)
