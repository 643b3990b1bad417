"""`cfg.json` through the ages: fields of old versions brought into the words of version 6."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latent_assay.errors import FormatError
from latent_assay.formats.files import shown

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
LAYOUT_VERSION = "6.0.0"
"""The version of SAELens whose words we write; older ones drop the metadata."""

_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_ABOUT_THE_MODEL = (
    "model_name",
    "hook_name",
    "hook_layer",
    "hook_head_index",
    "hook_name_out",
    "model_class_name",
    "model_from_pretrained_kwargs",
    "prepend_bos",
    "exclude_special_tokens",
    "context_size",
    "seqpos_slice",
    "dataset_path",
    "neuronpedia_id",
    "sae_lens_version",
    "sae_lens_training_version",
)
_UNREADABLE = {
    "matching_pursuit": "its encoder is a loop that picks latents one at a time, each by what the "
    "earlier ones left over; an SAE here encodes in one step",
    "temporal": "what it makes of a token depends on the tokens before it, through attention; an "
    "SAE here reads one activation at a time",
} | dict.fromkeys(
    ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"),
    "a transcoder reads one place of the model and writes another; an SAE here reconstructs what "
    "it reads, and every measurement would compare the wrong two things",
)
READABLE = (
    "standard",
    "jumprelu",
    "gated",
    "topk",
    "abstopk",
    "batchtopk",
    "matryoshka_batchtopk",
    "latent_assay_identity",
)


def modern(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of any version in the words of version 6."""
    new = {_RENAMED.get(name, name): value for name, value in config.items()}
    metadata = new.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    for name in _ABOUT_THE_MODEL:
        if new.get(name) is not None:
            metadata.setdefault(name, new[name])
    new["metadata"] = metadata
    if is_old(metadata.get("sae_lens_version")):
        new.setdefault("architecture", "standard")
        details = new.get("activation_fn_kwargs")
        if new.get("activation_fn") == "topk" and isinstance(details, dict) and "k" in details:
            new |= {"architecture": "topk", "k": details["k"], "activation_fn": "relu"}
        if "hook_z" in str(metadata.get("hook_name", "")):
            new.setdefault("reshape_activations", "hook_z")
    if new.get("normalize_activations") in (None, False):
        new["normalize_activations"] = "none"
    elif new["normalize_activations"] is True:
        new["normalize_activations"] = "expected_average_only_in"
    return new


def is_old(version: object) -> bool:
    """Whether a version of SAELens is before 6; files that name none are."""
    if not isinstance(version, str):
        return True
    major = version.split(".")[0]
    return not (major.isascii() and major.isdigit() and len(major) < 5 and int(major) >= 6)


def architecture(config: Mapping[str, Any], place: Path) -> str:
    """The architecture, if an SAE here can be one.

    **Raises:** `FormatError` that says why not.
    """
    name = config.get("architecture")
    if isinstance(name, str) and name in READABLE:
        return name
    why = _UNREADABLE.get(name) if isinstance(name, str) else None
    raise FormatError(
        f"'{place}' holds an SAE of architecture {shown(name)}; Latent Assay reads "
        f"{', '.join(READABLE[:-1])}. "
        + (f"It cannot be represented: {why}." if why else "Have SAELens save it as one of these.")
    )


def flag(config: Mapping[str, Any], name: str, default: bool, place: Path) -> bool:
    """A setting that is true or false.

    **Raises:** `FormatError` if it is neither.
    """
    value = config.get(name, default)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise FormatError(f"'{place}' has {name} = {shown(value)}; expected true or false.")
    return value


def count(config: Mapping[str, Any], name: str, most: int, place: Path) -> int:
    """A setting that is a whole number from 1 to `most`.

    **Raises:** `FormatError` if it is not.
    """
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise FormatError(
            f"'{place}' has {name} = {shown(value)}; expected a whole number from 1 to {most}."
        )
    return value
