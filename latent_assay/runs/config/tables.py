"""A table of a configuration file as a dataclass, with every mistake named at its place."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from latent_assay.errors import ConfigError, did_you_mean

DERIVED = {"derived": True}
"""Metadata of a field that follows from the rest of the file and cannot stand in it."""


def keys(kind: type) -> set[str]:
    """The keys that a table may have for a dataclass, without those of its `options`."""
    return {
        each.name
        for each in fields(kind)
        if each.name != "options" and not each.metadata.get("derived")
    }


def has_options(kind: type) -> bool:
    """Whether keys that are not fields go into a field `options`."""
    return any(each.name == "options" for each in fields(kind))


def read_table(kind: type, content: Any, place: str) -> Any:
    """A table as a dataclass; keys that are not its fields become `options`, if it has any.

    **Arguments:**
    - `kind`: the dataclass.
    - `content`: the table as read from the file.
    - `place`: its name in messages.

    **Raises:** `ConfigError` for anything unknown, missing or of the wrong type.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place} must be a table, found {content!r}.")
    own = keys(kind)
    if not has_options(kind):
        known(content, own, place)
        return checked(kind, dict(content), place)
    given: dict[str, Any] = {name: content[name] for name in own & set(content)}
    given["options"] = {name: value for name, value in content.items() if name not in own}
    return checked(kind, given, place)


def write_table(table: Any) -> dict[str, Any]:
    """A dataclass as the table that `read_table` reads, its options beside its own keys."""
    # what a table goes over is not one of its own values
    own = keys(type(table)) - set(getattr(table, "over", ()))
    content = {name: getattr(table, name) for name in sorted(own)}
    # nothing is said of what is left open, as TOML has no word for it
    content = {
        name: write_table(value) if is_dataclass(value) else value
        for name, value in content.items()
        if value is not None
    }
    return content | getattr(table, "options", {})


def known(content: Mapping[str, Any], known: set[str], place: str) -> None:
    """Raise `ConfigError` for the first key that is not among the known ones."""
    if unknown := sorted(set(content) - known):
        raise ConfigError(
            f"{place} knows no `{unknown[0]}`; it takes {', '.join(sorted(known))}."
            f"{did_you_mean(unknown[0], known)}"
        )


def checked(kind: type, content: dict[str, Any], place: str, *, objects: bool = False) -> Any:
    """Let pydantic check the types of a dataclass's fields.

    **Arguments:**
    - `kind`, `place`: as of `read_table`.
    - `content`: a value for each field that is given.
    - `objects`: whether values are objects already, not what JSON holds.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        if objects:
            return TypeAdapter(kind).validate_python(content)
        # as JSON, because strictly checked Python values may not be lists or tables
        return TypeAdapter(kind).validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")
        if isinstance(own, ConfigError):  # raised by the dataclass, in words of its own
            raise own from error
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise ConfigError(
            f"{place}: `{where}` is wrong: {first['msg'].lower()}, found {first.get('input')!r}."
        ) from error
