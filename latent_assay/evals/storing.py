"""Results of evaluations as JSON, and back."""

import math
from collections.abc import Mapping
from typing import Any

from latent_assay.errors import FormatError
from latent_assay.evals.catalogue import evaluation
from latent_assay.evals.result import EvalResult, Value

FORMAT = "latent-assay-evaluation"


def result_json(result: EvalResult) -> dict[str, Any]:
    """A result in plain JSON types.

    Keys: `format`, `name`, `title`, `version`, `headline` (a key of `metrics`, or null), `caveat`,
    `not_measurable` (null if there are numbers), `metrics`, `baselines` (by name), `details`,
    `config`, `seconds`. A number has `mean`, `sd`, `n`, `direction` and `resolution`, the smallest
    difference that it can show; what is not a number is null.
    """
    definition = evaluation(result.name)
    return {
        "format": FORMAT,
        "name": result.name,
        "title": definition.title,
        "version": result.version,
        "headline": definition.headline,
        "caveat": definition.caveat,
        "not_measurable": result.not_measurable,
        "metrics": _values(result.metrics),
        "baselines": {name: _values(each) for name, each in result.baselines.items()},
        "details": _finite(result.details),
        "config": _finite(result.config),
        "seconds": round(result.seconds, 3),
    }


def result_from_json(content: Mapping[str, Any]) -> EvalResult:
    """What `result_json` wrote.

    **Raises:** `FormatError` if it is something else.
    """
    try:
        if content["format"] != FORMAT:
            raise KeyError("format")
        return EvalResult(
            name=content["name"],
            version=content["version"],
            metrics=_read(content["metrics"]),
            baselines={name: _read(each) for name, each in content["baselines"].items()},
            details=content["details"],
            not_measurable=content["not_measurable"],
            config=content["config"],
            seconds=content["seconds"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(
            f"this is not the result of an evaluation: it lacks or garbles {error}. Remove the "
            "file; the evaluation is then run again."
        ) from error


def _values(values: Mapping[str, Value]) -> dict[str, Any]:
    return {
        key: {
            "mean": _number(each.mean),
            "sd": _number(each.sd),
            "n": each.n,
            "direction": each.direction,
            "resolution": _number(each.resolution),
        }
        for key, each in values.items()
    }


def _read(values: Mapping[str, Any]) -> dict[str, Value]:
    def back(number: float | None) -> float:
        return math.nan if number is None else number

    return {
        key: Value(
            mean=back(each["mean"]),
            sd=back(each["sd"]),
            n=each["n"],
            direction=each["direction"],
            resolution=back(each["resolution"]),
        )
        for key, each in values.items()
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite(content: Any) -> Any:
    """The same in JSON's types; what is not a number becomes null, what JSON lacks its text."""
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple | set):
        return [_finite(value) for value in content]
    if isinstance(content, bool | int | str) or content is None:
        return content
    if isinstance(content, float):
        return _number(content)
    if hasattr(content, "tolist"):
        return _finite(content.tolist())
    return str(content)
