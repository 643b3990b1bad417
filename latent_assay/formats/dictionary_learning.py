r"""dictionary_learning: `ae.pt` and `config.json`.

Each class there lays its tensors out in its own way, both ways round:

| class | tensors | becomes |
|---|---|---|
| `AutoEncoder` | `encoder.weight [n, d]`, `encoder.bias`, `decoder.weight [d, n]`, `bias` | ReLU |
| `AutoEncoderNew` | the same with `decoder.bias`, not subtracted from the input | ReLU |
| `GatedAutoEncoder` | no `encoder.bias`, but `gate_bias`, `mag_bias`, `r_mag`; `decoder_bias` | JumpReLU |
| `JumpReluAutoEncoder` | `W_enc [d, n]`, `W_dec [n, d]`, `b_enc`, `b_dec` not subtracted, `threshold` | JumpReLU |
| `AutoEncoderTopK` | as `AutoEncoder` with `b_dec`, `k` | TopK |
| `BatchTopKSAE` | the same, and one `threshold` for all latents | JumpReLU |
| `MatryoshkaBatchTopKSAE` | `W_enc [d, n]`, `W_dec [n, d]`, `b_enc`, `b_dec`, `k`, `threshold` | JumpReLU |

`IdentityDict` has no weights and therefore no file.
"""  # noqa: E501

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import FormatError
from latent_assay.formats.files import is_file, read_json, shown
from latent_assay.formats.golden import product
from latent_assay.formats.reading import Formula, Origin, Reading, known, text_or_none
from latent_assay.formats.saelens.reader import gated_as_jumprelu
from latent_assay.formats.stored import Stored, at_least_float32, pick
from latent_assay.formats.torch_file import torch_file
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU, ReLU, Sparsifier, TopK

WEIGHTS_FILE = "ae.pt"
CONFIG_FILE = "config.json"


def read(path: Path, origin: Origin) -> Reading:
    """The SAE in a file that dictionary_learning saved, `ae.pt` or a checkpoint.

    **Raises:** `FormatError` for an unknown class, and for files that are damaged or lack what
    tells classes apart.
    """
    stored = torch_file(path)
    trainer = _trainer(path)
    kind = _kind(path, stored, trainer)
    pieces = _PIECES[kind](path, stored, trainer)
    t = pieces.tensors
    model = text_or_none(trainer.get("lm_name"))
    hook_point = text_or_none(trainer.get("submodule_name"))
    layer = trainer.get("layer")
    layer = layer if isinstance(layer, int) and not isinstance(layer, bool) else None
    notes = list(pieces.notes)
    if layer is not None and hook_point is None:
        notes.append(
            f"layer {layer}, place in it not named; older files count residual layers from one "
            "further on"
        )
    return Reading(
        sae=SAE(
            t["W_enc"].contiguous()[None],
            t["W_dec"].contiguous()[None],
            b_enc=t["b_enc"][None],
            b_dec=t["b_dec"][None],
            sparsifier=pieces.sparsifier,
            subtract_b_dec=pieces.subtract_b_dec,
        ).eval(),
        format="dictionary_learning",
        architecture=kind,
        dtype=pieces.dtype,
        formula=pieces.formula,
        model=model,
        hook_point=hook_point,
        notes=tuple(notes),
        metadata=known(
            model_name=model,
            hook_name=hook_point,
            hook_layer=layer,
            trainer_class=text_or_none(trainer.get("trainer_class")),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Pieces:
    """What an SAE is made of: rows of both matrices are latents."""

    tensors: dict[str, Tensor]
    sparsifier: Sparsifier
    formula: Formula
    dtype: str
    subtract_b_dec: bool = True
    notes: tuple[str, ...] = ()


def _trainer(path: Path) -> dict[str, Any]:
    """The trainer's part of the configuration; checkpoints lie one folder further down."""
    for folder in (path.parent, path.parent.parent):
        if is_file(folder / CONFIG_FILE):
            trainer = read_json(folder / CONFIG_FILE).get("trainer")
            if isinstance(trainer, dict):
                return trainer
    return {}


def _kind(path: Path, stored: dict[str, Stored], trainer: dict[str, Any]) -> str:
    named = trainer.get("dict_class")
    if isinstance(named, str) and named in _PIECES:
        return named
    if named is not None:
        raise FormatError(
            f"'{path}' holds an SAE of class {shown(named)}; Latent Assay reads "
            f"{', '.join(_PIECES)}."
        )
    names = set(stored)
    if "r_mag" in names:
        return "GatedAutoEncoder"
    if "W_enc" in names:
        return "MatryoshkaBatchTopKSAE" if "group_sizes" in names else "JumpReluAutoEncoder"
    if "bias" in names:
        return "AutoEncoder"
    if "decoder.bias" in names:
        return "AutoEncoderNew"
    raise FormatError(
        f"'{path}' has {shown(sorted(names)[:20])}, and no {CONFIG_FILE} beside it names its class "
        "under trainer.dict_class: AutoEncoderTopK and BatchTopKSAE hold the same tensors. Copy "
        f"{CONFIG_FILE} too."
    )


def _size(path: Path, stored: dict[str, Stored], name: str) -> tuple[int, int]:
    if name not in stored or len(stored[name].shape) != 2:
        raise FormatError(
            f"'{path}' lacks a matrix {name}; it has {shown(sorted(stored)[:20])}. Copy it anew "
            "from where it came."
        )
    return stored[name].shape[0], stored[name].shape[1]


def _linear(path: Path, stored: dict[str, Stored], *biases: str) -> dict[str, Tensor]:
    """Tensors of the classes that are made of `nn.Linear`."""
    n, d = _size(path, stored, "encoder.weight")
    shapes: dict[str, tuple[object, ...]] = {"encoder.weight": (n, d), "decoder.weight": (d, n)}
    for name in biases:
        shapes[name] = (d,) if name in ("bias", "decoder.bias", "b_dec", "decoder_bias") else (n,)
    because = f"encoder.weight gives d_in {d} and width {n}"
    return pick(stored, shapes, path, because=because)


def _matrices(path: Path, stored: dict[str, Stored], scalar: bool) -> dict[str, Tensor]:
    """Tensors of the classes that name their matrices."""
    d, n = _size(path, stored, "W_enc")
    shapes: dict[str, tuple[object, ...]] = {
        "W_enc": (d, n),
        "W_dec": (n, d),
        "b_enc": (n,),
        "b_dec": (d,),
        "threshold": () if scalar else (n,),
    }
    return pick(stored, shapes, path, because=f"W_enc gives d_in {d} and width {n}")


def _auto_encoder(path: Path, stored: dict[str, Stored], trainer: dict[str, Any]) -> _Pieces:
    t = _linear(path, stored, "encoder.bias", "bias")
    wide = at_least_float32(t)
    length = wide["decoder.weight"].norm(dim=0)
    unit = bool(torch.allclose(length, torch.ones_like(length)))
    kept = t if unit else wide
    scale = torch.ones_like(length) if unit else torch.where(length > 0, length, 1.0)
    scale = scale.to(kept["bias"])

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        u = x - t["bias"].double()
        z = (product(u, t["encoder.weight"].T) + t["encoder.bias"].double()).relu()
        return z * scale.double(), product(z, t["decoder.weight"].T) + t["bias"].double()

    W_dec = kept["decoder.weight"].T
    return _Pieces(
        tensors={
            "W_enc": kept["encoder.weight"] * scale.unsqueeze(-1),
            "W_dec": W_dec if unit else F.normalize(W_dec, dim=-1),
            "b_enc": kept["encoder.bias"] * scale,
            "b_dec": kept["bias"],
        },
        sparsifier=ReLU(),
        formula=formula,
        dtype=_dtype(t),
        # as its own loader does, so that latent activations are those of the library
        notes=() if unit else ("decoder rows brought to length one, as the library's loader does",),
    )


def _auto_encoder_new(path: Path, stored: dict[str, Stored], trainer: dict[str, Any]) -> _Pieces:
    t = _linear(path, stored, "encoder.bias", "decoder.bias")

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        z = (product(x, t["encoder.weight"].T) + t["encoder.bias"].double()).relu()
        return z, product(z, t["decoder.weight"].T) + t["decoder.bias"].double()

    return _Pieces(
        tensors=_rows(t, t["encoder.bias"], t["decoder.bias"]),
        sparsifier=ReLU(),
        formula=formula,
        dtype=_dtype(t),
        subtract_b_dec=False,
    )


def _gated(path: Path, stored: dict[str, Stored], trainer: dict[str, Any]) -> _Pieces:
    t = _linear(path, stored, "decoder_bias", "r_mag", "gate_bias", "mag_bias")

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        shared = product(x - t["decoder_bias"].double(), t["encoder.weight"].T)
        size = (shared * t["r_mag"].double().exp() + t["mag_bias"].double()).relu()
        z = (shared + t["gate_bias"].double() > 0) * size
        return z, product(z, t["decoder.weight"].T) + t["decoder_bias"].double()

    wide = at_least_float32(t)
    same = gated_as_jumprelu(
        {
            "W_enc": wide["encoder.weight"].T,
            "W_dec": wide["decoder.weight"].T,
            "b_dec": wide["decoder_bias"],
            "r_mag": wide["r_mag"],
            "b_mag": wide["mag_bias"],
            "b_gate": wide["gate_bias"],
        }
    )
    return _Pieces(
        tensors=same | {"W_enc": same["W_enc"].T},
        sparsifier=JumpReLU(same["threshold"][None]),
        formula=formula,
        dtype=_dtype(t),
        notes=("gated, rewritten as the JumpReLU SAE that equals it",),
    )


def _jump_relu(path: Path, stored: dict[str, Stored], trainer: dict[str, Any]) -> _Pieces:
    t = _matrices(path, stored, scalar=False)

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        pre = product(x, t["W_enc"]) + t["b_enc"].double()
        z = (pre * (pre > t["threshold"].double())).relu()
        return z, product(z, t["W_dec"]) + t["b_dec"].double()

    return _Pieces(
        tensors=t | {"W_enc": t["W_enc"].T},
        sparsifier=JumpReLU(t["threshold"].clamp_min(0)[None]),
        formula=formula,
        dtype=_dtype(t),
        subtract_b_dec=False,
    )


def _top_k(path: Path, stored: dict[str, Stored], trainer: dict[str, Any]) -> _Pieces:
    t = _linear(path, stored, "encoder.bias", "b_dec")
    width = len(t["encoder.bias"])
    k: object = trainer.get("k")
    if "k" in stored and stored["k"].shape == ():
        k = stored["k"].read().item()  # what the library trusts where the two differ
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= width:
        raise FormatError(
            f"'{path}' has k = {shown(k)}; expected a whole number from 1 to {width}."
        )
    number = k

    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        u = x - t["b_dec"].double()
        pre = (product(u, t["encoder.weight"].T) + t["encoder.bias"].double()).relu()
        kept = pre.topk(number, dim=-1)
        z = torch.zeros_like(pre).scatter(-1, kept.indices, kept.values)
        return z, product(z, t["decoder.weight"].T) + t["b_dec"].double()

    return _Pieces(
        tensors=_rows(t, t["encoder.bias"], t["b_dec"]),
        sparsifier=TopK(number),
        formula=formula,
        dtype=_dtype(t),
    )


def _batch_top_k(path: Path, stored: dict[str, Stored], trainer: dict[str, Any]) -> _Pieces:
    t = _linear(path, stored, "encoder.bias", "b_dec")
    because = "one threshold serves all latents"
    threshold = pick(stored, {"threshold": ()}, path, because=because)["threshold"]
    tensors = _rows(t, t["encoder.bias"], t["b_dec"])
    return _with_one_threshold(tensors, threshold, _dtype(t))


def _matryoshka(path: Path, stored: dict[str, Stored], trainer: dict[str, Any]) -> _Pieces:
    t = _matrices(path, stored, scalar=True)
    return _with_one_threshold(t | {"W_enc": t["W_enc"].T}, t["threshold"], _dtype(t))


def _with_one_threshold(t: dict[str, Tensor], threshold: Tensor, dtype: str) -> _Pieces:
    def formula(x: Tensor) -> tuple[Tensor, Tensor]:
        u = x - t["b_dec"].double()
        pre = (product(u, t["W_enc"].T) + t["b_enc"].double()).relu()
        z = pre * (pre > threshold.double())
        return z, product(z, t["W_dec"]) + t["b_dec"].double()

    unset = bool(threshold < 0)
    return _Pieces(
        tensors=t,
        sparsifier=JumpReLU(
            threshold.clamp_min(0).to(t["b_enc"].dtype).expand_as(t["b_enc"]).clone()[None]
        ),
        formula=formula,
        dtype=dtype,
        notes=("its threshold was never set: latents fire wherever they are positive",)
        if unset
        else (),
    )


def _rows(t: dict[str, Tensor], b_enc: Tensor, b_dec: Tensor) -> dict[str, Tensor]:
    return {
        "W_enc": t["encoder.weight"],
        "W_dec": t["decoder.weight"].T,
        "b_enc": b_enc,
        "b_dec": b_dec,
    }


def _dtype(t: dict[str, Tensor]) -> str:
    return str(next(iter(t.values())).dtype).removeprefix("torch.")


_PIECES: dict[str, Callable[[Path, dict[str, Stored], dict[str, Any]], _Pieces]] = {
    "AutoEncoder": _auto_encoder,
    "AutoEncoderNew": _auto_encoder_new,
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jump_relu,
    "AutoEncoderTopK": _top_k,
    "BatchTopKSAE": _batch_top_k,
    "MatryoshkaBatchTopKSAE": _matryoshka,
}
