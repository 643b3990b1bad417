"""Worlds on disk: what they are in `world.json`, their tensors in `world.safetensors`."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from latent_assay.atomic import new_folder, write_json, write_tensors
from latent_assay.errors import FormatError, StorageError
from latent_assay.worlds.encoding import decoded, encoded
from latent_assay.worlds.firing import (
    ChildSwitchesParent,
    Conditional,
    Correlation,
    GaussianCopula,
    Hierarchy,
    Independent,
    Link,
    SideBySide,
    Table,
)
from latent_assay.worlds.firing.law import Firing
from latent_assay.worlds.magnitudes import (
    Constant,
    Exponential,
    FoldedNormal,
    Linear,
    Normal,
    Uniform,
)
from latent_assay.worlds.magnitudes.law import Magnitudes

FORMAT = "latent_assay.world"
VERSION = 1
DESCRIPTION, TENSORS = "world.json", "world.safetensors"

# The only types that reading a file may build.
TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        ChildSwitchesParent,
        Conditional,
        Constant,
        Correlation,
        Exponential,
        FoldedNormal,
        GaussianCopula,
        Hierarchy,
        Independent,
        Linear,
        Link,
        Normal,
        SideBySide,
        Table,
        Uniform,
    )
}


def write_world(
    folder: str | os.PathLike[str],
    *,
    directions: Tensor,
    firing: Firing,
    magnitudes: Magnitudes,
    bias: Tensor | None,
) -> None:
    """Write the parts of a world to a folder, wholly or not at all.

    **Raises:** `StorageError` if the disk refuses, or if the folder holds something that is not
    a world; it is then as it was.
    """
    target = Path(folder)
    if target.is_dir() and any(target.iterdir()) and not (target / DESCRIPTION).is_file():
        raise StorageError(
            f"'{target}' is a folder with other content, which saving a world would replace. "
            "Choose a new folder, or one that holds a world."
        )
    tensors = {"directions": directions}
    if bias is not None:
        tensors["bias"] = bias
    description = {
        "format": FORMAT,
        "version": VERSION,
        "n_features": directions.shape[0],
        "d_in": directions.shape[1],
        "bias": bias is not None,
        "firing": encoded(firing, tensors, "firing"),
        "magnitudes": encoded(magnitudes, tensors, "magnitudes"),
    }
    with new_folder(target) as draft:
        write_json(draft / DESCRIPTION, description)
        write_tensors(draft / TENSORS, tensors, metadata={"format": FORMAT})


def read_world(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The parts of a world that `write_world` wrote, on the CPU.

    **Raises:** `FormatError` if there is no world, or one that cannot be understood.
    """
    target = Path(folder)
    description = _description(target / DESCRIPTION)
    try:
        tensors = load_file(target / TENSORS)
    except FileNotFoundError as error:
        raise FormatError(
            f"'{target}' has a {DESCRIPTION} but no {TENSORS}. Copy the whole folder again."
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(
            f"'{target / TENSORS}' is not a safetensors file: {error}. "
            "It is damaged or was not copied wholly; copy it again."
        ) from error
    parts = {name: _part(description, tensors, name) for name in ("firing", "magnitudes")}
    for name, kind in (("firing", Firing), ("magnitudes", Magnitudes)):
        if not isinstance(parts[name], kind):
            raise FormatError(
                f"`{name}` in '{target / DESCRIPTION}' is a {type(parts[name]).__name__}, "
                f"which is no law of that kind. The file was changed; save the world again."
            )
    needed = ["directions"] + (["bias"] if description.get("bias") else [])
    for name in needed:
        if name not in tensors:
            raise FormatError(
                f"'{target / TENSORS}' does not hold `{name}`. "
                f"It does not belong to this {DESCRIPTION}; copy both again."
            )
    size = [description.get("n_features"), description.get("d_in")]
    if list(tensors["directions"].shape) != size:
        raise FormatError(
            f"'{target / DESCRIPTION}' describes {size[0]} features in {size[1]} dimensions, but "
            f"`directions` has shape {tuple(tensors['directions'].shape)}. "
            "The files do not belong together; copy both again."
        )
    return {
        "directions": tensors["directions"],
        "bias": tensors["bias"] if "bias" in needed else None,
        **parts,
    }


def _description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FormatError(
            f"'{path.parent}' holds no {DESCRIPTION}, so it is not a saved world. "
            "Name the folder that `World.save` wrote."
        ) from error
    except (OSError, ValueError) as error:  # a JSON or UTF-8 error is a ValueError
        raise FormatError(
            f"'{path}' cannot be read as JSON: {error}. It is damaged; save the world again."
        ) from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise FormatError(
            f"'{path}' is not the description of a world: its `format` should be '{FORMAT}'. "
            "Name the folder that `World.save` wrote."
        )
    if description.get("version") != VERSION:
        raise FormatError(
            f"'{path}' has version {description.get('version')!r}, but this Latent Assay reads "
            f"version {VERSION}. Upgrade Latent Assay, or save the world with this one."
        )
    return description


def _part(description: dict[str, Any], tensors: dict[str, Tensor], name: str) -> Any:
    if name not in description:
        raise FormatError(
            f"{DESCRIPTION} does not describe `{name}`. The file was changed; save the world again."
        )
    return decoded(description[name], tensors, TYPES, name)
