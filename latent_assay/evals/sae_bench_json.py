"""Results in the JSON of SAEBench, so that its tables and viewers can show them.

Its fields have no room for spread, resolution, baselines or a reason, and its metrics differ from
ours in what `eval_result_unstructured` then says; our own JSON is the complete one. SAEBench's core
metrics are not written: its schema demands an explained variance by a wrong formula and per-latent
statistics that only its own run makes.
"""

import statistics
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from latent_assay.evals.result import EvalResult, Value
from latent_assay.evals.storing import result_json

ABLATED = (2, 5, 10, 20, 50, 100, 500)
PROBED = (1, 2, 5, 10, 20, 50, 100)
_SPACE = uuid.UUID("6d3d8f3e-4a53-5c65-9b0c-3f0b7c5f6a10")


def sae_bench_json(
    result: EvalResult,
    *,
    model_name: str,
    sae_id: str,
    sae_config: Mapping[str, Any],
    epoch_millis: int,
    version: str,
) -> dict[str, Any] | None:
    """A result as SAEBench 0.6 writes it.

    **Arguments:**
    - `result`: of `sparse_probing`, `absorption`, `scr`, `tpp` or `autointerp`.
    - `model_name`: the language model.
    - `sae_id`: a name for the SAE.
    - `sae_config`: the content of its `cfg.json`.
    - `epoch_millis`: when it was measured, in milliseconds since 1970.
    - `version`: of this package, in the place of SAEBench's commit.

    **Returns:** the JSON, or None for an evaluation that SAEBench does not have, that was not
    measurable, or that lacks a number its schema demands.
    """
    if result.name not in _WRITERS or result.not_measurable is not None:
        return None
    eval_type, write, remark = _WRITERS[result.name]
    content = write(result)
    if content is None:
        return None
    metrics, config = content
    return {
        "eval_type_id": eval_type,
        "eval_config": {"model_name": model_name} | config,
        "eval_id": str(uuid.uuid5(_SPACE, f"{sae_id} {result.name} {epoch_millis}")),
        "datetime_epoch_millis": epoch_millis,
        "eval_result_metrics": metrics,
        "eval_result_details": [],
        "sae_bench_commit_hash": f"not SAEBench: latent-assay {version}",
        "sae_lens_id": sae_id,
        "sae_lens_release_id": None,
        "sae_lens_version": None,
        "sae_cfg_dict": dict(sae_config),
        "eval_result_unstructured": {"remark": remark, "latent_assay": result_json(result)},
    }


_Content = tuple[dict[str, Any], dict[str, Any]] | None


def _mean(values: Mapping[str, Value], key: str) -> float | None:
    return values[key].mean if key in values else None


def _sparse_probing(result: EvalResult) -> _Content:
    raw = result.baselines.get("activation", {})
    dense = result.baselines.get("dense probe", {})
    accuracy = next(
        (each.mean for key, each in dense.items() if key.partition("@")[0].startswith("accuracy")),
        None,
    )
    if accuracy is None:
        return None
    return (
        {
            "llm": {"llm_test_accuracy": accuracy}
            | {f"llm_top_{k}_test_accuracy": _mean(raw, f"accuracy_raw@{k}") for k in PROBED},
            "sae": {"sae_test_accuracy": None}
            | {
                f"sae_top_{k}_test_accuracy": _mean(result.metrics, f"accuracy_raw@{k}")
                for k in PROBED
            },
        },
        {"dataset_names": [str(result.config.get("data", ""))]}
        | _integers(result, context_length="context_size"),
    )


def _absorption(result: EvalResult) -> _Content:
    fraction = result.metrics.get("absorption_fraction_published")
    full = result.metrics.get("full_absorption_published")
    main = result.details.get("main", {})
    split = [len(each) for each in main.values()] if isinstance(main, Mapping) else []
    if fraction is None or full is None or not split:
        return None
    by_concept = result.details.get("by_concept", {})

    def spread(key: str) -> float:
        values = [each for each in by_concept.get(key, {}).values() if each is not None]
        return statistics.stdev(values) if len(values) > 1 else 0.0

    return (
        {
            "mean": {
                "mean_absorption_fraction_score": fraction.mean,
                "mean_full_absorption_score": full.mean,
                "mean_num_split_features": statistics.fmean(split),
                "std_dev_absorption_fraction_score": spread("absorption_fraction_published"),
                "std_dev_full_absorption_score": spread("full_absorption_published"),
                "std_dev_num_split_features": (statistics.stdev(split) if len(split) > 1 else 0.0),
            }
        },
        {},
    )


def _scr(result: EvalResult) -> _Content:
    names = {"scr_metric": "scr", "scr_dir1": "scr_first", "scr_dir2": "scr_second"}
    metrics = {
        f"{theirs}_threshold_{n}": _mean(result.metrics, f"{ours}@{n}")
        for n in ABLATED
        for theirs, ours in names.items()
    }
    return {"scr_metrics": metrics}, _removal(result) | {"perform_scr": True}


def _tpp(result: EvalResult) -> _Content:
    names = {
        "total_metric": "tpp",
        "intended_diff_only": "intended",
        "unintended_diff_only": "unintended",
    }
    metrics = {
        f"tpp_threshold_{n}_{theirs}": _mean(result.metrics, f"{ours}@{n}")
        for n in ABLATED
        for theirs, ours in names.items()
    }
    return {"tpp_metrics": metrics}, _removal(result) | {"perform_scr": False}


def _removal(result: EvalResult) -> dict[str, Any]:
    probe = result.config.get("probe", {})
    return {
        "dataset_names": [str(result.config.get("data", ""))],
        "n_values": list(result.config.get("ablated", [])),
        "probe_epochs": probe.get("epochs", 20),
        "probe_lr": probe.get("lr", 1e-3),
        "probe_l1_penalty": probe.get("l1", 1e-3),
        "probe_train_batch_size": probe.get("batch_size", 16),
    } | _integers(result, context_length="context_size")


def _autointerp(result: EvalResult) -> _Content:
    found = [
        (each["detection"]["corrected"] + 1) / 2
        for each in result.details.get("latents", [])
        if each.get("detection") is not None
    ]
    detection = result.metrics.get("detection")
    if detection is None:
        return None
    return (
        {
            "autointerp": {
                "autointerp_score": (detection.mean + 1) / 2,
                "autointerp_std_dev": statistics.stdev(found) if len(found) > 1 else 0.0,
            }
        },
        _integers(result, n_latents="latents", total_tokens="tokens"),
    )


def _integers(result: EvalResult, **names: str) -> dict[str, int]:
    return {
        theirs: result.config[ours]
        for theirs, ours in names.items()
        if isinstance(result.config.get(ours), int)
    }


_WRITERS: Mapping[str, tuple[str, Callable[[EvalResult], _Content], str]] = {
    "sparse_probing": (
        "sparse_probing",
        _sparse_probing,
        "k latents chosen by the published rule; splits are seeded.",
    ),
    "absorption": (
        "absorption_first_letter",
        _absorption,
        "SAEBench's formula; samples are seeded, and stored activations are used throughout.",
    ),
    "scr": ("scr", _scr, "fixed samples, probes of the last epoch; null where nothing is biased."),
    "tpp": ("tpp", _tpp, "negatives drawn once; probes of the last epoch."),
    "autointerp": (
        "autointerp",
        _autointerp,
        "balanced accuracy with verified negatives: chance is 0.5, not the share of negatives.",
    ),
}
