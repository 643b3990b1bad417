"""Core metrics as an evaluation: reconstruction, sparsity, and loss recovered."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from latent_assay.activations.language_model import LanguageModel
from latent_assay.baselines import permuted_decoder
from latent_assay.errors import ConfigError, DataError
from latent_assay.evals.catalogue import evaluation
from latent_assay.evals.loss_recovered import loss_recovered
from latent_assay.evals.representations import readers, single
from latent_assay.evals.result import EvalResult, Value, not_measurable, value
from latent_assay.measurement import measure
from latent_assay.sae import SAE

_NAME = "core"
_ROWS_AT_ONCE = 4096


def core_metrics(
    sae: SAE,
    x: Float[Tensor, "sample d_in"],
    *,
    model: LanguageModel | None = None,
    texts: Sequence[str] = (),
    hook_point: str | None = None,
    n_parts: int = 5,
    seed: int = 0,
    n_tokens: int = 20_000,
    context_size: int = 128,
    batch_size: int = 8,
    max_norm: float | None = None,
) -> EvalResult:
    """Reconstruction and sparsity on activations, and what a model loses by the reconstruction.

    Explained variance is 1 minus the summed squared error over the summed squared distance of the
    activations from their mean: a reconstruction that is the mean scores 0, whatever the batches.

    Nothing here is random but the baselines; the spread is that over `n_parts` consecutive parts of
    the activations (for the losses: of the texts). Means are taken over all activations at once.

    **Arguments:**
    - `sae`: one member.
    - `x`: activations that it was not trained on.
    - `model`, `texts`, `hook_point`: if given, and the model is causal, the reconstructions are
      spliced in while it reads the texts.
    - `n_parts`: how many parts show the spread.
    - `seed`: of the baselines.
    - `n_tokens`: how many tokens are read, over all parts.
    - `context_size`, `batch_size`, `max_norm`: see `loss_recovered`.

    **Returns:** the result, beside a random dictionary, principal components and a permuted decoder
    of equal L0. Without a causal model the losses are absent, and the details say why.

    **Raises:** `ConfigError` for several members or too many parts, `ShapeError` if x does not fit.
    """
    started = time.perf_counter()
    alone = single(sae)
    if n_parts < 2 or len(x) < 2 * n_parts:
        raise ConfigError(
            f"{len(x)} activations in {n_parts} parts; expected at least 2 parts of 2 activations."
        )
    settings = {
        "n": len(x),
        "n_parts": n_parts,
        "hook_point": hook_point,
        "n_tokens": n_tokens if model is not None else None,
        "context_size": context_size,
        "max_norm": max_norm,
    }
    alone.check_input(x[:1])
    try:
        each = readers(alone, x, seeds=[seed])
    except DataError as error:
        return not_measurable(_NAME, str(error), config=settings)
    compared = {
        "random dictionary": each.random[0],
        "principal components": each.components,
        "permuted decoder": permuted_decoder(alone, seeds=[seed]),
    }
    metrics = _of_activations(alone, x, n_parts)
    details: dict[str, Any] = {}
    if model is None or hook_point is None or not texts:
        details["loss_recovered"] = "no model and texts were given."
    elif not model.is_causal:
        details["loss_recovered"] = (
            f"{type(model.model).__name__} predicts no next token, so it has no loss to recover."
        )
    else:
        reading = {
            "context_size": context_size,
            "batch_size": batch_size,
            "max_norm": max_norm,
            "n_tokens": max(1, n_tokens // n_parts),
        }
        metrics |= _of_losses(model, alone, texts, hook_point, n_parts, reading)
    return EvalResult(
        name=_NAME,
        version=evaluation(_NAME).version,
        metrics=metrics,
        baselines={name: _of_activations(one, x, n_parts) for name, one in compared.items()},
        details=details,
        config=settings,
        seconds=time.perf_counter() - started,
    )


def _of_activations(sae: SAE, x: Tensor, n_parts: int) -> dict[str, Value]:
    known = evaluation(_NAME).metrics
    whole = _numbers(sae, x, known)
    parts = [_numbers(sae, part, known) for part in x.tensor_split(n_parts)]
    return {
        key: replace(value([part[key] for part in parts], known[key].direction), mean=whole[key])
        for key in whole
    }


def _numbers(sae: SAE, x: Tensor, known: Iterable[str]) -> dict[str, float]:
    found = measure(sae, x.split(_ROWS_AT_ONCE)).metrics
    return {key: float(found[key][0]) for key in known if key in found}


def _of_losses(
    model: LanguageModel,
    sae: SAE,
    texts: Sequence[str],
    hook_point: str,
    n_parts: int,
    reading: Mapping[str, Any],
) -> dict[str, Value]:
    if len(texts) < n_parts:
        raise ConfigError(
            f"{len(texts)} texts cannot be divided into {n_parts} parts. Give more texts, or fewer "
            "parts."
        )
    losses: list[float] = []
    divergences: list[float] = []
    for part in range(n_parts):
        found = loss_recovered(model, list(texts[part::n_parts]), hook_point, sae, **reading)
        if found.loss_recovered is not None:
            losses.append(found.loss_recovered)
        if found.kl_zero_ablated > 0:
            divergences.append(1 - found.kl_spliced / found.kl_zero_ablated)
    known = evaluation(_NAME).metrics
    pairs = (("loss_recovered", losses), ("kl_recovered", divergences))
    return {
        key: value(numbers, known[key].direction)
        for key, numbers in pairs
        if len(numbers) == n_parts
    }
