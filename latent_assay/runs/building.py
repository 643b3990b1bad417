"""An SAE of a configuration at its initial weights, and what its files say of it."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latent_assay.atomic import plain
from latent_assay.errors import ConfigError
from latent_assay.initialisation import Initialisation, from_features, kaiming, tied_random
from latent_assay.recipes import RECIPES, Recipe
from latent_assay.runs.config import RunConfig, SAEPlan
from latent_assay.runs.sources import Data

_EXCERPT = 50_000


def build(plan: SAEPlan, data: Data, config: RunConfig) -> Recipe:
    """An SAE at its initial weights, its objective and its published training settings."""
    options: dict[str, Any] = dict(plan.options)
    if plan.init is not None:
        options["init"] = _initialisation(plan, data)
    mean_bias = data.has_offset if plan.mean_bias is None else plan.mean_bias
    if mean_bias and plan.recipe not in ("linear", "wsae"):
        options["b_dec"] = data.scale * data.excerpt(_EXCERPT).mean(0)
    if "gamma" in options:
        options["gamma"] = torch.as_tensor(options["gamma"], dtype=torch.float32)
    elif plan.recipe == "wsae":
        options["scores"] = scores(options.get("scores"), data, plan.name)
    try:
        recipe = RECIPES[plan.recipe](d_in=data.d_in, **options)
    except TypeError as error:
        raise ConfigError(f"[[sae]] {plan.name!r} cannot be made: {error}.") from error
    recipe.sae.to(config.device)
    return recipe


def scores(given: Any, data: Data, name: str) -> Float[Tensor, " d_in"]:
    """The scores of input dimensions that weigh a `wsae`.

    **Arguments:**
    - `given`: a `.npy` file, a list with a score for each dimension, or what the source of the
      activations knows by name: `variance`, over activations of training, which None means too;
      on images also `semantic_consistency`.
    - `data`: the activations.
    - `name`: of the SAE, for messages.

    **Raises:** `ConfigError` if there is not one number for each dimension.
    """
    named = data.scored("variance" if given is None else given) if _is_word(given) else None
    if named is not None:
        return named
    if isinstance(given, str):
        try:
            given = np.load(given, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ConfigError(
                f"[[sae]] {name!r}: the scores in '{given}' cannot be read as .npy: {error}. Save "
                "them with numpy.save, one number for each input dimension."
            ) from error
    found = np.asarray(given)
    if found.shape != (data.d_in,) or found.dtype.kind not in "fiu":
        raise ConfigError(
            f"[[sae]] {name!r}: `scores` must hold {data.d_in} numbers, one for each input "
            f"dimension, found {found.dtype} of shape {list(found.shape)}."
        )
    return torch.from_numpy(found.astype(np.float32))


def _is_word(given: Any) -> bool:
    return given is None or isinstance(given, str)


def about(plan: SAEPlan, config: RunConfig) -> dict[str, Any]:
    """What a saved SAE says of its origin."""
    source = config.source
    hook_point = plan.hook_point or config.hook_points[0]
    return plain(
        {
            "name": plan.name,
            "recipe": plan.recipe,
            "options": plan.options,
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "training_steps": config.training.steps,
            "training_samples": config.training.steps * config.training.batch_size,
            "model_name": getattr(source, "name", None),
            "hook_name": hook_point,
            "context_size": getattr(source, "context_size", None),
            "dataset_path": getattr(source, "text", None),
            "world": getattr(source, "preset", None),
        }
    )


def _initialisation(plan: SAEPlan, data: Data) -> Initialisation:
    if plan.init == "kaiming":
        return kaiming()
    if plan.init == "features" and data.features is not None:
        return from_features(data.features, plan.init_noise)
    return tied_random()
