"""An SAE's latent activations, and those of what it must be compared with, on the same activations.

- `random dictionary`: random directions of the same width and L0, a new draw for each seed.
- `principal components`: as many of the leading ones as the SAE fires latents on average.
- `activation`: the activation's own coordinates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.baselines import leading_components, random_dictionary
from latent_assay.errors import ConfigError, DataError
from latent_assay.sae import SAE

FITTED_TO = 8192
"""The most activations that baselines are adjusted on."""
_ROWS_AT_ONCE = 1024


def single(sae: SAE) -> SAE:
    """The SAE in the form in which it is used, if it has one member.

    **Raises:** `ConfigError` if it has several.
    """
    if sae.members > 1:
        raise ConfigError(
            f"this SAE has {sae.members} members, and an evaluation takes one at a time; give "
            "sae.take(i), and put the results together with `pooled`."
        )
    return sae.exported()


@torch.no_grad()
def encode(
    sae: SAE, x: Float[Tensor, "sample d_in"], member: int = 0
) -> Float[Tensor, "sample latent"]:
    """Latent activations of one member, in float32 on the CPU."""
    alone = sae if sae.members == 1 else sae.take(member)
    rows = [alone.encode(part.to(alone.W_enc))[0].float().cpu() for part in x.split(_ROWS_AT_ONCE)]
    return torch.cat(rows) if rows else torch.zeros(0, alone.width)


@dataclass(frozen=True, kw_only=True)
class Readers:
    """What turns activations into the representations that are compared."""

    sae: SAE
    """The SAE, one member."""
    random: tuple[SAE, ...]
    """Random dictionaries, one per seed."""
    components: SAE
    """Principal components."""
    l0: float
    """Mean number of latents of the SAE that fire."""

    def functions(self) -> Mapping[str, list[Callable[[Tensor], Tensor]]]:
        """The representations' functions by name, one for all seeds or one for each."""

        def of(each: SAE) -> Callable[[Tensor], Tensor]:
            return lambda x: encode(each, x)

        return {
            "sae": [of(self.sae)],
            "random dictionary": [of(each) for each in self.random],
            "principal components": [of(self.components)],
            "activation": [lambda x: x.float().cpu()],
        }

    def representations(self, x: Float[Tensor, "sample d_in"]) -> dict[str, Tensor | list[Tensor]]:
        """Every representation of the same activations."""
        found: dict[str, Tensor | list[Tensor]] = {}
        for name, functions in self.functions().items():
            each = [function(x) for function in functions]
            found[name] = each[0] if len(each) == 1 else each
        return found


def readers(sae: SAE, x: Float[Tensor, "sample d_in"], *, seeds: Sequence[int]) -> Readers:
    """Adjust baselines to the activations on which the SAE is evaluated.

    **Arguments:**
    - `sae`: one member.
    - `x`: activations; the first `FITTED_TO` are used.
    - `seeds`: of the random dictionaries.

    **Raises:** `ConfigError` for several members, `DataError` if no latent fires, `ShapeError` if x
    does not fit the SAE.
    """
    alone = single(sae)
    fitted_to = x[:FITTED_TO].float().cpu()
    l0 = (encode(alone, fitted_to) != 0).sum(-1).double().mean().item()
    if l0 == 0:
        raise DataError(
            "no latent of this SAE fires on any of the activations. Was it trained at another hook "
            "point, or on activations of another scale?"
        )
    # one by one: members would share a threshold's memory, and a narrow SAE has room enough
    random = [
        random_dictionary(fitted_to, width=alone.width, l0=min(l0, alone.width / 2), seeds=[seed])
        for seed in seeds
    ]
    components = leading_components(fitted_to, k=max(1, round(l0)))
    return Readers(sae=alone, random=tuple(random), components=components, l0=l0)
