"""Checkpoints: a folder with the tensors and the state of a run, replaced as a whole."""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latent_assay.atomic import (
    new_folder,
    plain,
    recover,
    storage_errors,
    write_json,
    write_tensors,
    write_text,
)
from latent_assay.errors import ConfigError, FormatError

NAME = "checkpoint"
"""The folder that a checkpoint is in."""
_KINDS = {"step": int, "samples": int, "settings": dict, "history": list, "batches": dict}


def exists(folder: Path) -> bool:
    """Whether a folder holds a checkpoint, be it damaged."""
    return (folder / NAME).exists()


def prepare(folder: Path, *, resume: bool) -> None:
    """Clear away what a killed run left half written, and the last checkpoint too if not wanted.

    Were it to stay, a new run that is killed early would be continued from the old one's weights.
    """
    recover(folder / NAME)
    if not resume and exists(folder):
        with storage_errors(folder / NAME):
            shutil.rmtree(folder / NAME)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A folder to `write` a checkpoint into, which takes the place of the last one at the end."""
    with new_folder(folder / NAME) as draft:
        yield draft


def write(place: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a run's tensors and state into a folder that `replaced` gave, or one in it."""
    place.mkdir(exist_ok=True)
    write_tensors(place / "state.safetensors", tensors)
    write_json(place / "state.json", plain(state))


def load(folder: Path, name: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint.

    **Arguments:**
    - `folder`: the folder that holds it.
    - `name`: which run of several that were saved together.

    **Raises:** `FormatError` if it is damaged.
    """
    place = folder / NAME / name
    try:
        state = json.loads((place / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(place / "state.safetensors")
        wrong = [name for name, kind in _KINDS.items() if type(state.get(name)) is not kind]
        for record in state["history"] if not wrong else ():
            # JSON has no NaN: it stands there as a word
            words = {name: each for name, each in record.items() if isinstance(each, list)}
            record.update({name: [float(word) for word in each] for name, each in words.items()})
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError) as error:
        raise FormatError(
            f"the checkpoint in '{place}' cannot be read ({error}); expected state.json and "
            "state.safetensors as written by `fit`. Remove the folder to train anew."
        ) from error
    if wrong:
        raise FormatError(
            f"the checkpoint in '{place}' has no valid {', '.join(wrong)}; remove the folder to "
            "train anew."
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
            f"{_short(before.get(name))}, now {_short(now.get(name))}"
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
            f"the checkpoint in '{folder}' holds {sorted(source)} where {sorted(target)} were "
            "expected; it is damaged or was written for another SAE or objective."
        )
    for name, tensor in target.items():
        if tensor.shape != source[name].shape:
            raise FormatError(
                f"`{name}` in the checkpoint in '{folder}' has shape {list(source[name].shape)}, "
                f"expected {list(tensor.shape)}; it is damaged or was written for another SAE."
            )
        tensor.copy_(source[name])


def trim_log(path: Path, *, before: int) -> None:
    """Keep only the lines of a log that belong to steps up to `before`."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= before:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # a line that a killed process left half written
    write_text(path, "".join(kept))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        return {
            inner: leaf
            for key, each in value.items()
            for inner, leaf in _flat(each, f"{name}.{key}" if name else str(key)).items()
        }
    return {name: value}


def _short(value: Any) -> str:
    """A setting in a message; a weight for each of 768 dimensions would drown it."""
    text = str(value)
    return text if len(text) <= 60 else text[:60] + " …"
