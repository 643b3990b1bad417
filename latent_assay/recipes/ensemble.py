"""How many members a recipe's arguments ask for, and their initial weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import ConfigError
from latent_assay.initialisation import Initialisation
from latent_assay.sae import SAE, DecoderNorm
from latent_assay.sparsifiers import Sparsifier


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Sizes shared by the members, and a seed for each."""

    d_in: int
    """Length of the activations."""
    widths: tuple[int, ...]
    """Width of each member."""
    seeds: tuple[int, ...]
    """Seed of each member's initial weights."""

    @property
    def width(self) -> int:
        """The largest width; narrower members are padded to it."""
        return max(self.widths)

    @property
    def members(self) -> int:
        """How many members there are."""
        return len(self.seeds)

    def sae(
        self,
        sparsifier: Sparsifier,
        *,
        init: Initialisation,
        b_dec: Tensor | None,
        dtype: torch.dtype,
        tied: bool = False,
        frozen: Sequence[str] = (),
        decoder_norm: DecoderNorm = "free",
    ) -> SAE:
        """The SAE at its initial weights, each member drawn from its own seed."""
        encoders: list[Tensor] = []
        decoders: list[Tensor] = []
        for seed, width in zip(self.seeds, self.widths, strict=True):
            generator = torch.Generator().manual_seed(seed)
            for rows, drawn in zip(
                (encoders, decoders), init(generator, width, self.d_in), strict=True
            ):
                rows.append(F.pad(drawn, [0, 0, 0, self.width - width]).to(dtype))
        bias = None
        if b_dec is not None:
            bias = b_dec.detach().to(dtype).expand(self.members, -1).clone()
        sae = SAE(
            torch.stack(encoders),
            None if tied else torch.stack(decoders),
            b_dec=bias,
            sparsifier=sparsifier,
            frozen=frozen,
            decoder_norm=decoder_norm,
            widths=self.widths,
        )
        if decoder_norm == "unit":
            sae.normalise_decoder()
        return sae


def ensemble(
    d_in: int, width: int | Sequence[int], seeds: int | Sequence[int], **per_member: Any
) -> Ensemble:
    """How many members the arguments ask for; every sequence among them must agree."""
    lengths = {
        name: len(value)
        for name, value in {"width": width, "seeds": seeds, **per_member}.items()
        if isinstance(value, Sequence | range) and not isinstance(value, str)
    }
    counts = set(lengths.values())
    if len(counts) > 1 or 0 in counts:
        listed = ", ".join(f"{name}: {count}" for name, count in lengths.items())
        raise ConfigError(
            f"arguments with a value for each member must agree in number, got {listed}. Give one "
            "value for all members, or the same number everywhere."
        )
    members = counts.pop() if counts else 1
    widths = (width,) * members if isinstance(width, int) else tuple(width)
    if min(d_in, *widths) < 1:
        raise ConfigError(f"d_in and width must be at least 1, got {d_in} and {width}.")
    return Ensemble(
        d_in=d_in,
        widths=widths,
        seeds=(seeds,) * members if isinstance(seeds, int) else tuple(seeds),
    )
