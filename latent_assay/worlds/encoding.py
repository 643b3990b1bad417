"""Laws as plain data and back, without a line of code for each law.

A law is a frozen dataclass of numbers, tuples, tensors and other laws, so its plain form is its
type's name and its fields. Tensors are kept apart, bit for bit, for a safetensors file.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from latent_assay.errors import AssayError, FormatError, did_you_mean


def as_json(law: Any) -> dict[str, Any]:
    """A law as plain data, tensors as nested lists."""
    plain = _encoded(law, None, "")
    assert isinstance(plain, dict)  # a law is a dataclass
    return plain


def encoded(law: Any, tensors: dict[str, Tensor], name: str) -> dict[str, Any]:
    """A law as plain data; its tensors go into `tensors`, under names that start with `name`."""
    plain = _encoded(law, tensors, name)
    assert isinstance(plain, dict)  # a law is a dataclass
    return plain


def decoded(plain: Any, tensors: Mapping[str, Tensor], types: Mapping[str, type], name: str) -> Any:
    """The law that `plain` and `tensors` describe.

    **Arguments:**
    - `plain`: what `encoded` returned.
    - `tensors`: what it put aside.
    - `types`: the types that may be built, by name; nothing else ever is.
    - `name`: what is being read, for messages.

    **Raises:** `FormatError` if the description is not that of a law.
    """
    if isinstance(plain, list):
        return tuple(decoded(item, tensors, types, name) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if set(plain) == {"tensor"}:
        return _tensor(plain["tensor"], tensors, name)
    kind = plain.get("type")
    if not isinstance(kind, str) or kind not in types:
        raise FormatError(
            f"`{name}` is of unknown type {kind!r}.{did_you_mean(str(kind), types)} "
            "The file may come from a newer version of Latent Assay; upgrade and read it again."
        )
    expected = {field.name for field in fields(types[kind]) if field.init}
    found = set(plain) - {"type"}
    if found != expected:
        raise FormatError(
            f"`{name}` of type {kind} should have the fields {sorted(expected)}, but has "
            f"{sorted(found)}. The file was changed or comes from another version; save it again."
        )
    values = {field: decoded(plain[field], tensors, types, f"{name}.{field}") for field in expected}
    try:
        return types[kind](**values)
    except FormatError:
        raise
    except (AssayError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise FormatError(
            f"`{name}` does not describe a {kind}: {error} "
            "The file is damaged or was changed; save the world again."
        ) from error


def _encoded(value: Any, tensors: dict[str, Tensor] | None, name: str) -> Any:
    if isinstance(value, Tensor):
        if tensors is None:
            return value.tolist()
        tensors[name] = value
        return {"tensor": name}
    if is_dataclass(value) and not isinstance(value, type):
        plain: dict[str, Any] = {"type": type(value).__name__}
        for field in fields(value):
            if field.init:
                plain[field.name] = _encoded(
                    getattr(value, field.name), tensors, f"{name}.{field.name}"
                )
        return plain
    if isinstance(value, (tuple, list)):
        return [_encoded(item, tensors, f"{name}.{i}") for i, item in enumerate(value)]
    return value


def _tensor(name: Any, tensors: Mapping[str, Tensor], whose: str) -> Tensor:
    if not isinstance(name, str) or name not in tensors:
        raise FormatError(
            f"`{whose}` refers to a tensor {name!r} that the file does not hold. "
            "world.json and world.safetensors do not belong together; copy both again."
        )
    return tensors[name]
