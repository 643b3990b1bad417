"""First letters: probing, feature splitting and absorption, from one reading of the model."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from latent_assay.activations.language_model import LanguageModel
from latent_assay.baselines import permuted_decoder
from latent_assay.errors import DataError, ShapeError
from latent_assay.evals.first_letter.assessment import (
    Assessment,
    FirstLetterConfig,
    Probed,
    assess,
    probed,
)
from latent_assay.evals.first_letter.concepts import Concepts
from latent_assay.evals.first_letter.spelled import spelled_words
from latent_assay.evals.representations import readers, single
from latent_assay.evals.result import EvalResult, measured, not_measurable
from latent_assay.sae import SAE

EVALUATIONS = ("first_letter", "feature_splitting", "absorption")
"""The three evaluations that share their activations."""

_KEYS: Mapping[str, Callable[[str], bool]] = {
    "first_letter": lambda key: key.startswith("f1@"),
    "feature_splitting": lambda key: key == "main_latents",
    "absorption": lambda key: not key.startswith("f1@") and key != "main_latents",
}


def first_letter(
    model: LanguageModel,
    sae: SAE,
    hook_point: str,
    *,
    config: FirstLetterConfig | None = None,
    data: Sequence[Concepts] | None = None,
    **reading: Any,
) -> dict[str, EvalResult]:
    """Probe the first letters of words: how well, with how many latents, and what is absorbed.

    For each seed: words of the tokenizer's vocabulary are put into prompts (`spelled_words`) and
    read once; a dense probe finds the letters that the model knows; each has latents chosen, and
    logistic regression on the first k of them scores (`f1@k`); latents that raise F1 are the main
    ones; absorption is measured where the dense probe finds the letter, as published and repaired,
    with hedging beside it.

    A model that does not know first letters, as most small encoders, makes all three not
    measurable; `endings=ENDINGS` asks for the endings of words instead.

    **Arguments:**
    - `model`, `hook_point`: where the SAE reads; causal models and encoders.
    - `sae`: one member.
    - `config`: see `FirstLetterConfig`.
    - `data`: one `Concepts` for each seed, from `spelled_words`, to read the model once for many
      SAEs; None reads it.
    - `reading`: settings of `spelled_words`, such as `max_words` and `batch_size`.

    **Returns:** results by name: `first_letter`, `feature_splitting`, `absorption`; each not
    measurable, with the reason, if the tokenizer has no words or too few letters can be probed.

    **Raises:** `ConfigError` for several members or impossible settings, `HookError` for an unknown
    hook point, `ShapeError` if the SAE does not fit, `MissingExtra` without scikit-learn.
    """
    config = config or FirstLetterConfig()
    started = time.perf_counter()
    settings = {"hook_point": hook_point, **reading}
    alone = single(sae)
    try:
        if data is None:
            data = [spelled_words(model, hook_point, seed=seed, **reading) for seed in config.seeds]
    except DataError as error:
        return _none(str(error), config, settings)
    return concept_evaluations(
        alone, data, config=config, settings=settings, seconds=time.perf_counter() - started
    )


def concept_evaluations(
    sae: SAE,
    data: Sequence[Concepts],
    *,
    config: FirstLetterConfig | None = None,
    settings: Mapping[str, Any] | None = None,
    seconds: float = 0.0,
) -> dict[str, EvalResult]:
    """The same three evaluations of any concepts, such as the features of a world.

    **Arguments:**
    - `sae`: one member.
    - `data`: one `Concepts` for each seed of `config`.
    - `config`: see `FirstLetterConfig`.
    - `settings`: kept in the results' `config`.
    - `seconds`: what reading the data took.

    **Returns:** as `first_letter`. Baselines: a random dictionary of equal width and L0, the same
    SAE with its decoder rows permuted (for absorption), and the dense probe's F1.

    **Raises:** `ConfigError` for several members, `ShapeError` if data and seeds do not match.
    """
    config = config or FirstLetterConfig()
    if len(data) != len(config.seeds):
        raise ShapeError(
            f"there are data for {len(data)} seeds, but the config has {len(config.seeds)}; give "
            "one `Concepts` for each."
        )
    started = time.perf_counter() - seconds
    alone = single(sae)
    alone.check_input(data[0].x[:1])
    settings = dict(settings or {})
    rows: dict[str, list[Assessment]] = {}
    probe_f1: list[float] = []
    tasks: list[Probed] = []
    try:
        for number, seed in enumerate(config.seeds):
            task = probed(data[number], config, seed)
            if len(task.data.names) < config.min_concepts:
                left = list((task.data.left_out or {}).items())
                some = "; ".join(f"{name}: {reason}" for name, reason in left[:3])
                raise DataError(
                    f"the model has {len(task.data.names)} of these concepts, expected at least "
                    f"{config.min_concepts} ({some})."
                )
            each = readers(alone, data[number].x, seeds=[seed])
            compared = {
                "sae": alone,
                "random dictionary": each.random[0],
                "permuted decoder": permuted_decoder(alone, seeds=[seed]),
            }
            for name, one in compared.items():
                rows.setdefault(name, []).append(assess(one, task, config, seed))
            probe_f1.append(float(task.f1.mean()))
            tasks.append(task)
    except DataError as error:
        return _none(str(error), config, settings)
    return {
        name: _result(name, rows, probe_f1, tasks, config, settings, started)
        for name in EVALUATIONS
    }


def _result(
    name: str,
    rows: Mapping[str, list[Assessment]],
    probe_f1: list[float],
    tasks: Sequence[Probed],
    config: FirstLetterConfig,
    settings: Mapping[str, Any],
    started: float,
) -> EvalResult:
    means = {each: [one.means() for one in assessments] for each, assessments in rows.items()}
    numbers = {each: _by_key(seeds, _KEYS[name]) for each, seeds in means.items()}
    kept = {**config.content(), **settings}
    if not numbers["sae"]:
        return not_measurable(name, "no concept could be measured with every seed.", config=kept)
    baselines = {"random dictionary": numbers["random dictionary"]}
    if name == "absorption":  # for the others, firing alone matters, which it shares with the SAE
        baselines["permuted decoder"] = numbers["permuted decoder"]
    if name == "first_letter":
        baselines["dense probe"] = {"f1": probe_f1}
    first = rows["sae"][0]
    details: dict[str, Any] = {
        "concepts": [list(task.data.names) for task in tasks],
        "left_out": [dict(task.data.left_out or {}) for task in tasks],
        "samples": [len(task.data.x) for task in tasks],
        "by_concept": {
            key: dict(scores) for key, scores in first.by_concept.items() if _KEYS[name](key)
        },
        "main": dict(first.main),
    }
    if name == "absorption":
        details["absorbers"] = dict(first.absorbers)
        details["not_measurable"] = dict(first.reasons)
    return measured(
        name,
        numbers["sae"],
        baselines={each: found for each, found in baselines.items() if found},
        details=details,
        config=kept,
        seconds=time.perf_counter() - started,
    )


def _by_key(
    seeds: Sequence[Mapping[str, float]], wanted: Callable[[str], bool]
) -> dict[str, list[float]]:
    """Numbers per seed of the keys that every seed has."""
    return {
        key: [each[key] for each in seeds]
        for key in seeds[0]
        if wanted(key) and all(key in each for each in seeds)
    }


def _none(
    reason: str, config: FirstLetterConfig, settings: Mapping[str, Any]
) -> dict[str, EvalResult]:
    kept = {**config.content(), **settings}
    return {name: not_measurable(name, reason, config=kept) for name in EVALUATIONS}
