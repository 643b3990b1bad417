"""Writing the SAELens layout, read back and compared before it takes the place of an old folder."""

import json
import os
from pathlib import Path
from typing import Any

import torch

from latent_assay.atomic import new_folder, plain, write_json, write_tensors
from latent_assay.errors import ConfigError, FormatError
from latent_assay.formats.reading import Origin
from latent_assay.formats.saelens.config import (
    CONFIG_FILE,
    LAYOUT_VERSION,
    WEIGHTS_FILE,
    is_old,
)
from latent_assay.formats.saelens.reader import read
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU, TopK

_ARCHITECTURES = {
    "relu": "standard",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "identity": "abstopk",
}
_UNWRITABLE = {
    "groupmax": "None of them does the same: the largest of each group of latents fires, which "
    "neither a threshold for each latent nor a number of the largest of all can say. Keep "
    "sparsify's own file, which `load` reads; or continue training as TopK with the same k."
}


def save(sae: SAE, folder: str | os.PathLike[str], metadata: dict[str, Any] | None = None) -> None:
    """Save an SAE as it is used: in evaluation, on raw activations.

    One member goes into `folder` itself, several into `folder/member_000` and so on. The folder is
    written atomically, and read back and compared before it takes the place of an old one.

    **Arguments:**
    - `sae`: the SAE.
    - `folder`: where to; replaced if it exists.
    - `metadata`: anything that JSON can hold: model, hook point, text, training settings.

    **Raises:** `StorageError` if it cannot be written (what was there before is untouched);
    `ConfigError` for a BatchTopK that has never been trained, as it has no threshold yet, and for
    metadata that JSON cannot hold; `FormatError` for a sparsifier or weights that no file can
    represent.
    """
    metadata = _metadata(metadata)
    members = sae.exported().unstack()
    representable(members[0])
    with new_folder(folder) as draft:
        for number, member in enumerate(members):
            place = member_folder(draft, number, len(members))
            write(member, place, metadata)


def member_folder(folder: Path, number: int, members: int) -> Path:
    """The folder of a member; the folder itself if there is only one."""
    return folder if members == 1 else folder / f"member_{number:03d}"


def representable(sae: SAE) -> None:
    """Raise `FormatError` unless the layout has a word for the sparsifier."""
    name = sae.sparsifier.name
    if name not in _ARCHITECTURES:
        why = _UNWRITABLE.get(name, "Let its `exported` return one of them that does the same.")
        raise FormatError(
            f"the SAELens layout has no word for the sparsifier {type(sae.sparsifier).__name__}; "
            f"it knows ReLU, JumpReLU, TopK, BatchTopK and Identity. {why}"
        )


def write(sae: SAE, place: Path, metadata: dict[str, Any], reshape: str = "none") -> None:
    """Write one member into a folder, read it back, and compare.

    **Arguments:**
    - `sae`: the SAE, of one member, as it is used.
    - `place`: the folder, made if need be; not atomic by itself.
    - `metadata`: what JSON can hold.
    - `reshape`: "hook_z" if SAELens is to lay an axis for heads flat.
    """
    place.mkdir(exist_ok=True)
    sparsifier = sae.sparsifier
    config = {
        "architecture": _ARCHITECTURES[sparsifier.name],
        "d_in": sae.d_in,
        "d_sae": sae.width,
        "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_b_dec,
        "normalize_activations": "none",
        "reshape_activations": reshape,
    }
    tensors = {
        "W_enc": sae.W_enc[0].T,
        "W_dec": sae.W_dec[0],
        "b_enc": sae.b_enc[0],
        "b_dec": sae.b_dec[0],
    }
    if isinstance(sparsifier, JumpReLU):
        tensors["threshold"] = sparsifier.threshold[0]
    if sparsifier.name in ("topk", "identity"):
        k = int(sparsifier.k[0]) if isinstance(sparsifier, TopK) else sae.width
        config |= {"k": k, "rescale_acts_by_decoder_norm": False}
    config["metadata"] = _versions(metadata) | {
        "latent_assay": {
            "tied": sae.tied,
            "frozen": list(sae.frozen),
            "decoder_norm": sae.decoder_norm,
            "sparsifier": plain(sparsifier.settings()),
        }
    }
    write_tensors(place / WEIGHTS_FILE, tensors)
    write_json(place / CONFIG_FILE, config)
    _compare(sae, read(place, Origin(text=place.name)).sae)


def _versions(metadata: dict[str, Any]) -> dict[str, Any]:
    """SAELens drops the metadata of files that do not name a version from 6 on."""
    version = metadata.get("sae_lens_version")
    return (
        {"sae_lens_training_version": None}
        | metadata
        | {"sae_lens_version": LAYOUT_VERSION if is_old(version) else version}
    )


def _metadata(metadata: dict[str, Any] | None) -> dict[str, Any]:
    try:
        text = json.dumps(plain(metadata or {}), allow_nan=False)
        return dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"metadata must be a dictionary of what JSON can hold ({error}); turn tensors into "
            "lists and paths into strings."
        ) from error


def _compare(written: SAE, found: SAE) -> None:
    """The SAE on the disk must do what the one in memory does."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, written.d_in, generator=generator).to(written.W_enc)
    with torch.no_grad():
        same = torch.equal(written(x).nan_to_num(), found.to(x.device)(x).nan_to_num())
    if not same:
        raise FormatError(
            "the saved SAE does not reproduce the one in memory, so nothing was written. This is a "
            "defect of Latent Assay; please report it with the SAE's print-out."
        )
