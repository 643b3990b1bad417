"""The SAELens layout: `cfg.json` and `sae_weights.safetensors`.

Weights there are `W_enc [d_in, d_sae]` and `W_dec [d_sae, d_in]`; they are transposed here and
nowhere else. What the layout has no word for (ties, frozen biases) stands under
`metadata.latent_assay`, which other tools ignore.

| sparsifier | `architecture` | further tensors or keys |
|---|---|---|
| ReLU | `standard` | |
| JumpReLU | `jumprelu` | `threshold [d_sae]` |
| BatchTopK | `jumprelu` | `threshold`, the running one |
| TopK | `topk` | `k`, `rescale_acts_by_decoder_norm: false` |
| Identity | `latent_assay_identity` | only Latent Assay reads it |
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from latent_assay.atomic import new_folder, plain, write_json, write_tensors
from latent_assay.errors import AssayError, ConfigError, FormatError
from latent_assay.sae import SAE, stack
from latent_assay.sparsifiers import Identity, JumpReLU, ReLU, Sparsifier, TopK

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"

_ARCHITECTURES = {
    "relu": "standard",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "identity": "latent_assay_identity",
}
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16} | {
    "float32": torch.float32,
    "float64": torch.float64,
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
    exported = sae.exported()
    if exported.sparsifier.name not in _ARCHITECTURES:
        raise FormatError(
            f"the layout has no word for the sparsifier {type(exported.sparsifier).__name__}; it "
            "knows ReLU, JumpReLU, TopK, BatchTopK and Identity. Let its `exported` return one of "
            "them that does the same."
        )
    members = exported.unstack()
    with new_folder(folder) as draft:
        for number, member in enumerate(members):
            place = draft if len(members) == 1 else draft / f"member_{number:03d}"
            place.mkdir(exist_ok=True)
            _write(member, place, metadata)
            _compare(member, _read(place))


def load(folder: str | os.PathLike[str]) -> SAE:
    """Load what `save` or SAELens wrote, in evaluation mode.

    **Arguments:**
    - `folder`: an SAE's folder, or that of an ensemble.

    **Raises:** `FormatError` naming what is missing, damaged, or not representable.
    """
    folder = Path(folder)
    places = _members(folder)
    saes = [_read(place) for place in places]
    try:
        return (saes[0] if len(saes) == 1 else stack(saes)).eval()
    except AssayError as error:
        raise FormatError(f"the members in '{folder}' do not form one ensemble: {error}") from error


def read_config(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The configurations of the members in a folder, as they stand in their `cfg.json`."""
    return [_config(place) for place in _members(Path(folder))]


def _members(folder: Path) -> list[Path]:
    if (folder / CONFIG_FILE).is_file():
        return [folder]
    members = [path.parent for path in folder.glob(f"member_*/{CONFIG_FILE}")]
    if members:  # member_999 comes before member_1000
        return sorted(members, key=lambda place: (len(place.name), place.name))
    if not folder.exists():
        found = "no such folder"
    elif not folder.is_dir():
        found = "a file"
    else:
        names = sorted(path.name for path in folder.iterdir())
        listed = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
        found = f"a folder with {listed}" if names else "an empty folder"
    raise FormatError(
        f"'{folder}' is no SAE: expected a folder with {CONFIG_FILE} and {WEIGHTS_FILE} (or "
        f"member_000, member_001 … with these), found {found}. Give the folder that `save` or "
        "SAELens wrote."
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


def _write(sae: SAE, place: Path, metadata: dict[str, Any]) -> None:
    sparsifier = sae.sparsifier
    config = {
        "architecture": _ARCHITECTURES[sparsifier.name],
        "d_in": sae.d_in,
        "d_sae": sae.width,
        "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_b_dec,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    tensors = {
        "W_enc": sae.W_enc[0].T,
        "W_dec": sae.W_dec[0],
        "b_enc": sae.b_enc[0],
        "b_dec": sae.b_dec[0],
    }
    if isinstance(sparsifier, JumpReLU):
        tensors["threshold"] = sparsifier.threshold[0]
    if isinstance(sparsifier, TopK):
        config |= {"k": int(sparsifier.k[0]), "rescale_acts_by_decoder_norm": False}
    config["metadata"] = metadata | {
        "latent_assay": {
            "tied": sae.tied,
            "frozen": list(sae.frozen),
            "decoder_norm": sae.decoder_norm,
            "sparsifier": plain(sparsifier.settings()),
        }
    }
    write_tensors(place / WEIGHTS_FILE, tensors)
    write_json(place / CONFIG_FILE, config)


def _compare(written: SAE, read: SAE) -> None:
    """The SAE on the disk must do what the one in memory does."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, written.d_in, generator=generator).to(written.W_enc)
    with torch.no_grad():
        same = torch.equal(written(x).nan_to_num(), read.to(x.device)(x).nan_to_num())
    if not same:
        raise FormatError(
            "the saved SAE does not reproduce the one in memory, so nothing was written. This is a "
            "defect of Latent Assay; please report it with the SAE's print-out."
        )


def _config(place: Path) -> dict[str, Any]:
    path = place / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(
            f"'{path}' cannot be read as JSON ({error}); copy it anew from where it came."
        ) from error
    if not isinstance(config, dict):
        raise FormatError(f"'{path}' must hold a JSON object, found {type(config).__name__}.")
    return config


def _read(place: Path) -> SAE:
    config = _config(place)
    path = place / WEIGHTS_FILE
    architecture = config.get("architecture")
    if architecture not in _ARCHITECTURES.values():
        raise FormatError(
            f"'{place}' holds an SAE of architecture {architecture!r}; Latent Assay reads "
            f"{', '.join(_ARCHITECTURES.values())}."
        )
    for name in ("normalize_activations", "reshape_activations"):
        if config.get(name, "none") not in ("none", None):
            raise FormatError(
                f"'{place}' has {name} = {config[name]!r}; expected 'none', as an SAE must take "
                "raw activations. Fold the normalisation into the weights before saving it."
            )
    function = config.get("activation_fn", config.get("activation_fn_str"))
    if architecture == "standard" and function not in ("relu", None):
        raise FormatError(
            f"'{place}' is of architecture 'standard' with activation function {function!r}; "
            "expected 'relu'. Have SAELens save it anew under the architecture's own name."
        )
    if config.get("finetuning_scaling_factor"):
        raise FormatError(
            f"'{place}' scales latent activations after the fact (finetuning_scaling_factor); an "
            "SAE here has no such factor. Multiply the rows of W_dec by it before loading."
        )
    tensors = _tensors(path)
    needed = {"W_enc", "W_dec", "b_enc", "b_dec"} | (
        {"threshold"} if architecture == "jumprelu" else set()
    )
    if missing := needed - set(tensors):
        raise FormatError(f"'{path}' lacks {', '.join(sorted(missing))}; it has {sorted(tensors)}.")
    d_in, width = config.get("d_in"), config.get("d_sae")
    shapes = {
        "W_enc": [d_in, width],
        "W_dec": [width, d_in],
        "b_enc": [width],
        "b_dec": [d_in],
        "threshold": [width],
    }
    for name in sorted(needed):
        if list(tensors[name].shape) != shapes[name]:
            raise FormatError(
                f"`{name}` in '{path}' has shape {list(tensors[name].shape)}, but {CONFIG_FILE} "
                f"says d_in {d_in} and d_sae {width}, which asks for {shapes[name]}; the two files "
                "do not belong together."
            )
    dtype = _DTYPES.get(str(config.get("dtype", "float32")).removeprefix("torch."))
    if dtype is None:
        raise FormatError(
            f"'{place}' has dtype {config.get('dtype')!r}; expected one of {', '.join(_DTYPES)}."
        )
    cast = {name: tensors[name].to(dtype) for name in sorted(needed)}
    for name, tensor in cast.items():
        if not tensors[name].is_floating_point() or not bool(tensor.isfinite().all()):
            raise FormatError(
                f"`{name}` in '{path}' must hold finite numbers of type {dtype}; the file is "
                "damaged or its training diverged."
            )
    return _build(place, config, cast)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise FormatError(
            f"'{path}' is missing, truncated or corrupted ({error}); expected a safetensors file. "
            "Copy it anew, or save the SAE again."
        ) from error


def _build(place: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> SAE:
    W_enc, W_dec, b_enc = tensors["W_enc"].T.contiguous(), tensors["W_dec"], tensors["b_enc"]
    if config["architecture"] == "topk" and config.get("rescale_acts_by_decoder_norm"):
        # selection by activation × decoder length is plain selection once lengths are moved over
        length = torch.linalg.vector_norm(W_dec, dim=-1)
        W_enc, b_enc = W_enc * length.unsqueeze(-1), b_enc * length
        W_dec = F.normalize(W_dec, dim=-1)
    metadata = config.get("metadata")
    own = metadata.get("latent_assay") if isinstance(metadata, dict) else None
    own = own if isinstance(own, dict) else {}
    try:
        tied = own.get("tied") is True
        if tied and not torch.equal(W_enc, W_dec):
            raise FormatError(f"'{place}' says that it is tied, but encoder and decoder differ.")
        return SAE(
            W_enc[None],
            None if tied else W_dec[None],
            b_enc=b_enc[None],
            b_dec=tensors["b_dec"][None],
            sparsifier=_sparsifier(place, config, own, tensors),
            frozen=own.get("frozen", ()),
            decoder_norm=own.get("decoder_norm", "free"),
            subtract_b_dec=config.get("apply_b_dec_to_input", True) is not False,
        ).eval()
    except (AssayError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"'{place}' does not describe an SAE: {error}") from error


def _sparsifier(
    place: Path, config: dict[str, Any], own: dict[str, Any], tensors: dict[str, Tensor]
) -> Sparsifier:
    architecture = config["architecture"]
    if architecture == "standard":
        return ReLU()
    if architecture == "topk":
        k = config.get("k")
        width = tensors["b_enc"].numel()
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= width:
            raise FormatError(
                f"'{place}' has k = {k!r}; expected a whole number from 1 to {width}."
            )
        return TopK(k)
    if architecture == "jumprelu":
        settings = own.get("sparsifier")
        settings = settings if isinstance(settings, dict) else {}
        # below zero the layout's own reader takes max(pre, 0): the same as a threshold of zero
        threshold = tensors["threshold"].clamp_min(0)
        return JumpReLU(threshold[None], float(settings.get("bandwidth", 0.001)))
    return Identity()


def describe(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What is in an SAE's folder, as plain values: for a person, or as JSON.

    **Raises:** `FormatError` as `load` does; what is described can also be loaded.
    """
    folder = Path(folder)
    configs = read_config(folder)
    sae = load(folder)
    first = configs[0]
    metadata = first.get("metadata") if isinstance(first.get("metadata"), dict) else {}
    origin = {
        name: value
        for name, value in (metadata or {}).items()
        if name != "latent_assay" and value is not None
    }
    with torch.no_grad():
        lengths = torch.linalg.vector_norm(sae.W_dec, dim=-1)
        if sae.padding is not None:
            lengths = lengths[~sae.padding]
        bias = torch.linalg.vector_norm(sae.b_dec, dim=-1)
    return {
        "folder": str(folder),
        "architecture": str(first.get("architecture")),
        "d_in": sae.d_in,
        "width": sae.widths[0] if len(set(sae.widths)) == 1 else list(sae.widths),
        "members": sae.members,
        "tied": sae.tied,
        "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
        "parameters": sum(tensor.numel() for tensor in sae.parameters()),
        "decoder row lengths": {
            "min": round(float(lengths.min()), 6),
            "mean": round(float(lengths.mean()), 6),
            "max": round(float(lengths.max()), 6),
        },
        "length of b_dec": round(float(bias.mean()), 6),
        **{key: first[key] for key in ("k", "apply_b_dec_to_input") if key in first},
        "origin": plain(origin),
    }
