"""SAEs from files of any format."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latent_assay.errors import AssayError, ConfigError, FormatError
from latent_assay.formats import dictionary_learning, gemma_scope, golden, saelens, sparsify
from latent_assay.formats.files import is_file, read_json
from latent_assay.formats.reading import Origin, Reading
from latent_assay.formats.recognise import Found, recognise
from latent_assay.sae import SAE, stack

_READERS: dict[str, Callable[[Path, Origin], Reading]] = {
    "SAELens": saelens.read,
    "Gemma Scope": gemma_scope.read,
    "dictionary_learning": dictionary_learning.read,
    "sparsify": sparsify.read,
}


def load(source: str | os.PathLike[str], *, input_scale: float | None = None) -> SAE:
    """Load an SAE from files of any known format, in evaluation mode, for raw activations.

    SAELens (which `save` writes), Gemma Scope, dictionary_learning and sparsify are told apart by
    their files. Where golden vectors lie beside the weights, the SAE must reproduce them.

    **Arguments:**
    - `source`: a folder or file, or that of an ensemble; or a place on the Hugging Face hub such as
      `google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`.
    - `input_scale`: what activations were multiplied by in training, for a SAELens file that says
      that they were but not by what.

    **Raises:** `FormatError` naming what is missing, damaged, or not representable; `MissingExtra`
    if the source is on the hub and huggingface_hub is not installed.
    """
    return stacked(read(source, input_scale=input_scale), source)


def read(
    source: str | os.PathLike[str], *, input_scale: float | None = None
) -> tuple[Reading, ...]:
    """Every member of an SAE, with what its files say about it.

    **Arguments:** those of `load`.

    **Returns:** one `Reading` per member: SAE, format, architecture, dtype, normalisation, model,
    hook point, and notes on what was rewritten on the way.

    **Raises:** as `load` does.
    """
    found = recognise(source)
    readings = read_found(found, input_scale)
    agreement(found, readings)
    return readings


def read_found(found: Found, input_scale: float | None = None) -> tuple[Reading, ...]:
    """Every member of what was recognised already; golden vectors are not looked at."""
    if input_scale is not None:
        if isinstance(input_scale, bool) or not 0 < input_scale < float("inf"):
            raise ConfigError(f"input_scale must be a number above zero, got {input_scale!r}.")
        if found.format != "SAELens":
            raise ConfigError(
                f"input_scale is for files that say that activations were scaled, which those of "
                f"{found.format} never do; leave it out."
            )
        readings = tuple(saelens.read(p, found.origin, input_scale) for p in found.places)
    else:
        readings = tuple(_READERS[found.format](place, found.origin) for place in found.places)
    for place, reading in zip(found.places, readings, strict=True):
        for name, tensor in reading.sae.named_parameters():
            if not bool(tensor.isfinite().all()):
                raise FormatError(
                    f"'{place}' gives an SAE whose {name} is not finite: numbers in the file are "
                    "so large that folding them together overflows. The file is damaged or its "
                    "training diverged."
                )
    return readings


def agreement(found: Found, readings: tuple[Reading, ...]) -> list[golden.Agreement]:
    """How closely members reproduce the golden vectors beside their weights, where there are any.

    **Raises:** `FormatError` if one does not.
    """
    return [
        golden.check(golden.read(place, reading.sae), reading.sae, f"the SAE in '{place}'")
        for place, reading in zip(found.places, readings, strict=True)
        if is_file(place / golden.GOLDEN_FILE)
    ]


def stacked(readings: tuple[Reading, ...], source: str | os.PathLike[str]) -> SAE:
    """The members as one SAE."""
    try:
        return (
            readings[0].sae
            if len(readings) == 1
            else stack([reading.sae for reading in readings]).eval()
        )
    except AssayError as error:
        raise FormatError(
            f"the members in '{os.fspath(source)}' do not form one ensemble: {error}"
        ) from error


def read_config(source: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The configurations of the members of an SAE, as they stand in their `cfg.json`.

    **Raises:** `FormatError` if there is none, as in Gemma Scope's files.
    """
    return [_config(place) for place in recognise(source).places]


def _config(place: Path) -> dict[str, Any]:
    folder = place if is_file(place / saelens.CONFIG_FILE) else place.parent
    for name in (saelens.CONFIG_FILE, dictionary_learning.CONFIG_FILE):
        if is_file(folder / name):
            return read_json(folder / name)
    raise FormatError(f"'{place}' has no configuration beside it; its format keeps none.")
