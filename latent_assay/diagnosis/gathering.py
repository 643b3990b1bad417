"""All evidence on one SAE, tier by tier."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from latent_assay.diagnosis.evidence import Evidence, Relatives, Tier
from latent_assay.errors import ConfigError
from latent_assay.sae import SAE


def evidence(
    sae: SAE,
    activations: Iterable[Float[Tensor, "batch d_in"]] | None = None,
    *,
    member: int | None = None,
) -> Evidence:
    """Everything that is measured of each latent.

    **Arguments:**
    - `sae`: any SAE; it is measured as it is exported (`SAE.exported`).
    - `activations`: batches of raw activations that can be gone through more than once; None for
      the weights alone.
    - `member`: which member of an ensemble; None if there is only one.

    **Raises:** `ConfigError` if there are several members and none was chosen.
    """
    if member is None and sae.members > 1:
        raise ConfigError(
            f"this SAE has {sae.members} members, and a diagnosis is of one. Say which as "
            f"`member`, from 0 to {sae.members - 1}."
        )
    width = sae.widths[member or 0]
    nothing = np.zeros(0, dtype=np.int64)
    return Evidence(
        tier=Tier.WEIGHTS if activations is None else Tier.ACTIVATIONS,
        width=width,
        n_samples=0,
        columns={},
        relatives=Relatives(
            latent=nothing, other=nothing, role=nothing, share=np.zeros(0, dtype=np.float64)
        ),
    )
