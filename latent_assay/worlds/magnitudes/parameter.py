"""Parameters of magnitude laws: a number for all features, or one for each."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from latent_assay.errors import WorldError

Parameter = float | Sequence[float]


def full(value: Parameter, n_features: int) -> Float64[Tensor, " feature"]:
    """A parameter as one number for each feature."""
    if isinstance(value, Sequence):
        return torch.tensor(value, dtype=torch.float64)
    return torch.full((n_features,), value, dtype=torch.float64)


def number(value: Any, name: str, *, nonzero: bool = False) -> float:
    """One finite number."""
    found = float(value)
    if not math.isfinite(found) or (nonzero and found == 0):
        reason = "0, so the feature would never fire" if found == 0 else f"{found:g}"
        raise WorldError(
            f"the magnitudes' `{name}` is {reason}; expected a finite number"
            f"{' other than 0. Give a silent feature the rate 0 instead' if nonzero else ''}."
        )
    return found


def checked(value: Any, name: str, *, nonzero: bool = False) -> Parameter:
    """A parameter as a float or a tuple of floats, each finite."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, Sequence):
        if not value:
            raise WorldError(
                f"the magnitudes' `{name}` is empty; expected a number, or one for each feature."
            )
        return tuple(number(each, f"{name}[{i}]", nonzero=nonzero) for i, each in enumerate(value))
    return number(value, name, nonzero=nonzero)


def paired(
    first: Parameter, second: Parameter, first_name: str, second_name: str
) -> list[tuple[float, float]]:
    """Two parameters feature by feature; a single pair if both are single numbers."""
    a = list(first) if isinstance(first, Sequence) else None
    b = list(second) if isinstance(second, Sequence) else None
    if a is not None and b is not None and len(a) != len(b):
        raise WorldError(
            f"`{first_name}` has {len(a)} numbers and `{second_name}` {len(b)}. "
            "Give each one number for each feature, or a single number for all."
        )
    n = len(a) if a is not None else len(b) if b is not None else 1
    return list(zip(full(first, n).tolist(), full(second, n).tolist(), strict=True))


def never_varies(sd: Parameter) -> bool:
    """Whether a standard deviation is 0 throughout."""
    return not any(sd) if isinstance(sd, Sequence) else sd == 0


def words(value: Parameter) -> str:
    """A parameter in a few words."""
    if not isinstance(value, Sequence):
        return f"{value:g}"
    if len(value) <= 6:
        return "(" + ", ".join(f"{each:g}" for each in value) + ")"
    return f"{min(value):g} to {max(value):g}"
