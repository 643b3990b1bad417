"""A fixed number of firing latents: of each sample, or on average over the batch."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.initialisation import Initialisation, tied_random
from latent_assay.losses import AuxK, Objective, SquaredError
from latent_assay.recipes.ensemble import Ensemble, ensemble
from latent_assay.recipes.recipe import Recipe
from latent_assay.sae import DecoderNorm
from latent_assay.sparsifiers import BatchTopK, PerMember, Sparsifier, TopK
from latent_assay.training import TrainingConfig


def topk(
    *,
    d_in: int,
    width: int | Sequence[int],
    k: PerMember,
    auxk: PerMember = 1 / 32,
    k_aux: int | None = None,
    dead_after: int = 10_000_000,
    seeds: int | Sequence[int] = 0,
    lr: PerMember | None = None,
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    r"""The k largest pre-activations of each sample fire; unit-norm decoder, AuxK.

    **Arguments:**
    - `k`: firing latents per sample.
    - `auxk`, `k_aux`, `dead_after`: the auxiliary loss for dead latents; half of d_in latents, if
      `k_aux` is None.
    - `lr`: $2\cdot10^{-4} / \sqrt{width / 2^{14}}$ if None, as published.

    **Reference:** Gao et al. 2024, arXiv:2406.04093.
    """
    e = ensemble(d_in, width, seeds, k=k, lr=lr, auxk=auxk)
    return selecting(
        e,
        TopK(k, e.members),
        auxk,
        k_aux,
        dead_after,
        init,
        b_dec,
        dtype,
        TrainingConfig(
            lr=[2e-4 / (each / 2**14) ** 0.5 for each in e.widths] if lr is None else lr,
            eps=6.25e-10,
            dead_after=dead_after,
        ),
    )


def batchtopk(
    *,
    d_in: int,
    width: int | Sequence[int],
    k: PerMember,
    auxk: PerMember = 1 / 32,
    k_aux: int | None = None,
    dead_after: int = 10_000_000,
    seeds: int | Sequence[int] = 0,
    lr: PerMember = 3e-4,
    decoder_norm: DecoderNorm = "unit",
    init: Initialisation | None = None,
    b_dec: Float[Tensor, " d_in"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    """k latents per sample fire on average over the batch; unit-norm decoder, AuxK.

    Arguments as in `topk`; here k need not be whole. With `decoder_norm="free"` decoder rows may
    have any length, and rows begin at length 0.1, as in Chanin et al. 2025, "Feature Hedging".

    **Reference:** Bussmann et al. 2024, arXiv:2412.06410.
    """
    e = ensemble(d_in, width, seeds, k=k, lr=lr, auxk=auxk)
    return selecting(
        e,
        BatchTopK(k, e.members),
        auxk,
        k_aux,
        dead_after,
        init,
        b_dec,
        dtype,
        TrainingConfig(lr=lr, dead_after=dead_after),
        decoder_norm,
    )


def selecting(
    e: Ensemble,
    sparsifier: Sparsifier,
    auxk: PerMember,
    k_aux: int | None,
    dead_after: int,
    init: Initialisation | None,
    b_dec: Tensor | None,
    dtype: torch.dtype,
    config: TrainingConfig,
    decoder_norm: DecoderNorm = "unit",
) -> Recipe:
    """What TopK and BatchTopK share: unit-norm decoder as a rule, squared error, AuxK."""
    # encoder rows begin equal to the decoder's, at length one if that is held, as published
    start = init or tied_random(1.0 if decoder_norm == "unit" else 0.1)
    sae = e.sae(sparsifier, init=start, b_dec=b_dec, dtype=dtype, decoder_norm=decoder_norm)
    rescue = AuxK(
        auxk,
        members=e.members,
        width=e.width,
        k=k_aux or max(e.d_in // 2, 1),
        dead_after=dead_after,
    )
    return Recipe(sae, Objective([SquaredError(), rescue]), replace(config))
