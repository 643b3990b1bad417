"""Checkpoints: a folder with the tensors and the state of a run, replaced as a whole."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latent_assay.atomic import new_folder, plain, write_json, write_tensors, write_text
from latent_assay.errors import ConfigError, FormatError

_NAME = "checkpoint"


def exists(folder: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return (folder / _NAME / "state.json").is_file()


def save(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint in place of the last one."""
    with new_folder(folder / _NAME) as draft:
        write_tensors(draft / "state.safetensors", tensors)
        write_json(draft / "state.json", plain(state))


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    **Raises:** `FormatError` if it is damaged.
    """
    place = folder / _NAME
    try:
        state = json.loads((place / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(place / "state.safetensors")
        missing = {"step", "samples", "settings", "history"} - set(state)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise FormatError(
            f"the checkpoint in '{place}' cannot be read ({error}); expected state.json and "
            "state.safetensors as written by `fit`. Remove the folder to train anew."
        ) from error
    if missing:
        raise FormatError(
            f"the checkpoint in '{place}' lacks {sorted(missing)}; remove the folder to train anew."
        )
    return tensors, state


def check_settings(folder: Path, saved: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise `ConfigError` if a checkpoint belongs to a run with other settings, naming them."""
    before, now = _flat(saved), _flat(asked)
    differ = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if differ:
        name = differ[0]
        raise ConfigError(
            f"'{folder}' holds a checkpoint of a run with other settings: `{name}` was "
            f"{before.get(name)}, now {now.get(name)}"
            + (f" (and {len(differ) - 1} more differ). " if len(differ) > 1 else ". ")
            + "Choose another folder, the old settings, or start anew with resume=False."
        )


def by_prefix(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the first part of their names."""
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        groups[prefix][rest] = tensor
    return groups


def copy_into(folder: Path, target: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    """Copy saved tensors into those of a module's state.

    **Raises:** `FormatError` if names or shapes differ.
    """
    if set(target) != set(source):
        raise FormatError(
            f"the checkpoint in '{folder}' holds {sorted(source)} where {sorted(target)} were expected; "
            "it was written for another SAE or objective."
        )
    for name, tensor in target.items():
        if tensor.shape != source[name].shape:
            raise FormatError(
                f"`{name}` in the checkpoint in '{folder}' has shape {list(source[name].shape)}, expected "
                f"{list(tensor.shape)}."
            )
        tensor.copy_(source[name])


def trim_log(path: Path, *, before: int) -> None:
    """Keep only the lines of a log that belong to steps up to `before`."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= before:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # a line that a killed process left half written
    write_text(path, "".join(kept))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            inner: leaf
            for key, each in value.items()
            for inner, leaf in _flat(each, f"{name}.{key}" if name else str(key)).items()
        }
    return {name: value}
