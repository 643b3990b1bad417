"""Settings given beside a configuration: `training.steps=20` in place of what the file says."""

import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from latent_assay.errors import ConfigError, did_you_mean

LISTS = ("sae", "grid", "extension")


def override(content: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A configuration's content with some values replaced.

    A setting is a key, `=`, and a value. Keys go down with dots, as `model.name`,
    `training.steps` or `grid.over.width`. Of [[sae]], [[grid]] and [[extension]] a setting concerns
    every table; one of them is named behind its kind, by its number or its name:
    `extension.2.n`, `sae."TopK 32".k`. A value is written as in TOML; what TOML does not know is
    text, so that quotes may be left out. Nothing after `=` removes the key.

    **Arguments:**
    - `content`: left as it is.
    - `settings`: what to replace, in this order.

    **Raises:** `ConfigError` for a setting that is none, or goes where there is no table.

    >>> override({"training": {"steps": 10}}, ["training.steps=20", "model.name=gpt2"])
    {'training': {'steps': 20}, 'model': {'name': 'gpt2'}}
    """
    found = deepcopy(dict(content))
    for setting in settings:
        key, equals, value = setting.partition("=")
        path = _path(key)
        if not equals or not path:
            raise ConfigError(
                f"a setting must be a key, = and a value, such as training.steps=20; got "
                f"{setting!r}."
            )
        _set(found, path, value.strip(), setting)
    return found


def _path(key: str) -> list[str]:
    """The parts of a key; quoted ones may hold dots and spaces."""
    try:
        content: Any = tomllib.loads(f"{key.strip()} = 0")
    except tomllib.TOMLDecodeError:
        return []
    path = []
    while isinstance(content, dict):
        ((part, content),) = content.items()
        path.append(part)
    return path


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _set(content: dict[str, Any], path: list[str], value: str, setting: str) -> None:
    place, *rest = path
    if place in LISTS:
        tables = content.get(place)
        if not isinstance(tables, list) or not tables:
            raise ConfigError(
                f"the setting {setting!r} is for [[{place}]], of which there is none here."
            )
        chosen = _chosen(tables, rest[0]) if len(rest) > 1 else None
        if chosen is not None:
            rest = rest[1:]
        if not rest:
            raise ConfigError(f"the setting {setting!r} does not say what of [[{place}]] to set.")
        for table in tables if chosen is None else [chosen]:
            _down(table, rest, value, setting)
    else:
        _down(content, path, value, setting)


def _chosen(tables: list[Any], word: str) -> Any:
    """The table of a number or a name; None if the word is neither."""
    if word.isdecimal():
        if not 1 <= int(word) <= len(tables):
            raise ConfigError(
                f"there is no table number {word}; they are numbered from 1 to {len(tables)}."
            )
        return tables[int(word) - 1]
    return next((each for each in tables if each.get("name") == word), None)


def _down(table: Any, path: list[str], value: str, setting: str) -> None:
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(
                f"the setting {setting!r} goes into `{part}`, which is no table but {table!r}."
            )
    if value:
        table[path[-1]] = _value(value)
    elif path[-1] in table:
        del table[path[-1]]
    else:
        raise ConfigError(
            f"the setting {setting!r} removes `{path[-1]}`, which is not there."
            f"{did_you_mean(path[-1], table)}"
        )
