"""Reading the SAELens layout: every architecture that SAELens trains and an SAE here can be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from latent_assay.errors import AssayError, FormatError
from latent_assay.formats.files import is_file, read_json, safetensors, shown
from latent_assay.formats.normalisation import Scaling, Whitening
from latent_assay.formats.reading import Origin, Reading, text_or_none
from latent_assay.formats.saelens.config import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    architecture,
    count,
    flag,
    modern,
)
from latent_assay.formats.saelens.formulas import formula, signs_apart
from latent_assay.formats.stored import FLOATS, Stored, at_least_float32, pick
from latent_assay.sae import SAE
from latent_assay.sparsifiers import Identity, JumpReLU, ReLU, Sparsifier, TopK

SCALER_FILE = "activation_scaler.json"
WHITENING_FILE = "activation_whitening.safetensors"

_SELECTS_BY_LENGTH = ("topk", "abstopk", "batchtopk", "matryoshka_batchtopk")


def read(place: Path, origin: Origin, input_scale: float | None = None) -> Reading:
    """The SAE in a folder of the SAELens layout.

    | architecture | becomes |
    |---|---|
    | `standard`, `jumprelu`, `topk` | itself |
    | `gated` | JumpReLU, exactly: see `gated_as_jumprelu` |
    | `batchtopk`, `matryoshka_batchtopk` (in training checkpoints) | JumpReLU with the running threshold, as SAELens saves them for use |
    | `abstopk` | TopK with a latent for either sign, latent i and i + d_sae; identity if k = d_sae |

    **Arguments:**
    - `place`: the folder.
    - `origin`: where it came from.
    - `input_scale`: the factor by which activations were multiplied in training, for a file that
      says that there was one but not which.

    **Raises:** `FormatError` naming what is missing, damaged, or not representable.
    """  # noqa: E501
    config = modern(read_json(place / CONFIG_FILE))
    name = architecture(config, place)
    _refuse_unknown_functions(config, name, place)
    dtype = FLOATS.get(str(config.get("dtype", "float32")).removeprefix("torch."))
    if dtype is None:
        raise FormatError(
            f"'{place}' has dtype {shown(config.get('dtype'))}; expected one of "
            f"{', '.join(FLOATS)}."
        )
    stored = safetensors(place / WEIGHTS_FILE)
    d_in, width = config.get("d_in"), config.get("d_sae")
    tensors = pick(
        stored,
        _shapes(name, d_in, width),
        place / WEIGHTS_FILE,
        because=f"{CONFIG_FILE} says d_in {shown(d_in)} and d_sae {shown(width)}",
        dtype=dtype,
    )
    _finetuning(config, stored, tensors, place)
    normalisation, words = _normalisation(config, place, tensors["b_dec"].numel(), input_scale)
    subtract = flag(config, "apply_b_dec_to_input", True, place)
    by_length = name in _SELECTS_BY_LENGTH and flag(
        config, "rescale_acts_by_decoder_norm", False, place
    )
    k = count(config, "k", tensors["b_enc"].numel(), place) if name in ("topk", "abstopk") else None
    compute = formula(name, tensors, subtract_b_dec=subtract, k=k, by_length=by_length)
    folds = by_length or name == "gated" or normalisation is not None
    t = at_least_float32(tensors) if folds else tensors
    notes = (
        [] if t["W_enc"].dtype == dtype else [f"kept in float32: folding in {dtype} loses digits"]
    )
    if by_length:
        t = _unit_rows(t)
        notes.append(
            "selected by activation × length of decoder row; lengths folded into the encoder"
        )
    own = config["metadata"].get("latent_assay")
    own = own if isinstance(own, dict) else {}
    try:
        sae, rewritten = _BUILD[name](t, k, subtract, own, place)
    except (AssayError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"'{place}' does not describe an SAE: {shown(error, str)}") from error
    notes += [rewritten] if rewritten else []
    if sae.width > tensors["W_dec"].shape[0]:
        compute = signs_apart(compute)
    if normalisation is not None:
        sae = normalisation.folded(sae, by_length)
        compute = normalisation.formula(compute, by_length)
    reshape = config.get("reshape_activations") or "none"
    if reshape not in ("none", "hook_z"):
        raise FormatError(
            f"'{place}' has reshape_activations = {shown(reshape)}; expected 'none' or 'hook_z'."
        )
    if reshape == "hook_z":
        notes.append("reads all heads side by side: flatten [head, d_head] into d_in first")
    metadata = {key: each for key, each in config["metadata"].items() if key != "latent_assay"}
    return Reading(
        sae=sae,
        format="SAELens",
        architecture=name,
        dtype=str(dtype).removeprefix("torch."),
        formula=compute,
        normalisation=words,
        model=text_or_none(metadata.get("model_name")),
        hook_point=text_or_none(metadata.get("hook_name")),
        reshape=reshape,
        notes=tuple(notes),
        metadata=metadata,
    )


def gated_as_jumprelu(t: dict[str, Tensor]) -> dict[str, Tensor]:
    r"""The tensors of the JumpReLU SAE that equals a gated one.

    A gated SAE computes, with $u = W_{enc}(x - b_{dec})$,

    $$z = 1[u + b_{gate} > 0]\; \max(e^{r} u + b_{mag},\, 0).$$

    Let $pre = e^{r} u + b_{mag}$. As $e^{r} > 0$, the gate is open exactly where
    $pre > b_{mag} - e^{r} b_{gate}$. So $z = pre \cdot 1[pre > \theta]$ with
    $\theta = \max(b_{mag} - e^{r} b_{gate},\, 0)$, encoder $e^{r} W_{enc}$ and bias $b_{mag}$.

    **Reference:** Rajamanoharan et al. 2024, arXiv:2404.16014, section 3 (shared encoder weights).
    """
    growth = t["r_mag"].exp()
    rest = {name: tensor for name, tensor in t.items() if name in ("W_dec", "b_dec")}
    return rest | {
        "W_enc": t["W_enc"] * growth,
        "b_enc": t["b_mag"],
        "threshold": (t["b_mag"] - growth * t["b_gate"]).clamp_min(0),
    }


def _shapes(name: str, d_in: object, width: object) -> dict[str, tuple[object, ...]]:
    shapes: dict[str, tuple[object, ...]] = {
        "W_enc": (d_in, width),
        "W_dec": (width, d_in),
        "b_dec": (d_in,),
    }
    if name == "gated":
        return shapes | dict.fromkeys(("b_gate", "b_mag", "r_mag"), (width,))
    shapes["b_enc"] = (width,)
    if name == "jumprelu":
        shapes["threshold"] = (width,)
    if name in ("batchtopk", "matryoshka_batchtopk"):
        shapes["topk_threshold"] = ()
    return shapes


def _refuse_unknown_functions(config: dict[str, Any], name: str, place: Path) -> None:
    function = config.get("activation_fn")
    if name in ("standard", "gated", "jumprelu") and function not in ("relu", None):
        raise FormatError(
            f"'{place}' is of architecture '{name}' with activation function {shown(function)}; "
            "expected 'relu'. Have SAELens save it anew under the architecture's own name."
        )


def _finetuning(
    config: dict[str, Any], stored: dict[str, Stored], t: dict[str, Tensor], place: Path
) -> None:
    """Old files may scale latent activations before decoding; rows of W_dec take the factor."""
    names = [name for name in ("finetuning_scaling_factor", "scaling_factor") if name in stored]
    if not names:
        return
    shapes: dict[str, tuple[object, ...]] = {names[0]: (t["W_dec"].shape[0],)}
    because = f"{CONFIG_FILE} gives d_sae {t['W_dec'].shape[0]}"
    path = place / WEIGHTS_FILE
    factor = pick(stored, shapes, path, because=because, dtype=t["W_dec"].dtype)[names[0]]
    if bool((factor == 1).all()):
        return
    if config.get("finetuning_scaling_factor") is not True:
        raise FormatError(
            f"'{path}' holds `{names[0]}`, which scales latent activations, but {CONFIG_FILE} does "
            "not say finetuning_scaling_factor: true. Find out whether it is meant, and set it or "
            "remove the tensor."
        )
    t["W_dec"] = t["W_dec"] * factor.unsqueeze(-1)


def _normalisation(
    config: dict[str, Any], place: Path, d_in: int, input_scale: float | None
) -> tuple[Scaling | Whitening | None, str]:
    word = config["normalize_activations"]
    if input_scale is not None and word != "expected_average_only_in":
        raise FormatError(
            f"an input scale was given, but '{place}' has normalize_activations = {shown(word)}: "
            "it takes activations unscaled. Leave the scale out."
        )
    if word == "none":
        return None, "none"
    if word == "expected_average_only_in":
        factor = _scale(place) if input_scale is None else input_scale
        return Scaling(factor=factor), f"inputs × {factor:.6g}, folded into the weights"
    if word == "covariance_whitening" and is_file(place / WHITENING_FILE):
        shapes: dict[str, tuple[object, ...]] = {
            "mean": (d_in,),
            "matrix": (d_in, d_in),
            "inverse_matrix": (d_in, d_in),
        }
        path = place / WHITENING_FILE
        stored = safetensors(path)
        because = f"{CONFIG_FILE} says d_in {d_in}"
        t = pick(stored, shapes, path, because=because, dtype=torch.float64)
        whitening = Whitening(mean=t["mean"], matrix=t["matrix"], inverse=t["inverse_matrix"])
        return whitening, "whitened inputs, folded into the weights"
    why = {
        "layer_norm": "each sample is divided by its own deviation, which is no linear map",
        "constant_norm_rescale": "each sample is divided by its own length, which is no linear map",
        "covariance_whitening": f"the whitening is in {WHITENING_FILE}, which is not beside it",
    }.get(word if isinstance(word, str) else "", "no version of SAELens knows it")
    raise FormatError(
        f"'{place}' has normalize_activations = {shown(word)}; expected 'none', as an SAE must "
        f"take raw activations, and this cannot be folded into its weights: {why}. Train it "
        "without, or normalise activations yourself and set it to 'none'."
    )


def _scale(place: Path) -> float:
    path = place / SCALER_FILE
    if not is_file(path):
        raise FormatError(
            f"'{place}' has normalize_activations = 'expected_average_only_in'; expected 'none', "
            "as an SAE must take raw activations. It was trained on scaled ones, and the factor is "
            f"in {SCALER_FILE}, which is not beside it. Copy that file too, or give the factor "
            "(the square root of d_in over the mean length of an activation) as `input_scale`."
        )
    factor = read_json(path).get("scaling_factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1e30:
        raise FormatError(f"'{path}' has scaling_factor {shown(factor)}; expected one above zero.")
    return float(factor)


def _unit_rows(t: dict[str, Tensor]) -> dict[str, Tensor]:
    """Selection by activation × length is plain selection once lengths are moved over."""
    length = torch.linalg.vector_norm(t["W_dec"], dim=-1)
    moved = {
        "W_enc": t["W_enc"] * length,
        "b_enc": t["b_enc"] * length,
        "W_dec": F.normalize(t["W_dec"], dim=-1),
    }
    return t | moved


def _sae(
    t: dict[str, Tensor], sparsifier: Sparsifier, subtract: bool, own: dict[str, Any], place: Path
) -> SAE:
    W_enc = t["W_enc"].T.contiguous()
    tied = own.get("tied") is True
    if tied and not torch.equal(W_enc, t["W_dec"]):
        raise FormatError(f"'{place}' says that it is tied, but encoder and decoder differ.")
    return SAE(
        W_enc[None],
        None if tied else t["W_dec"][None],
        b_enc=t["b_enc"][None],
        b_dec=t["b_dec"][None],
        sparsifier=sparsifier,
        frozen=own.get("frozen", ()),
        decoder_norm=own.get("decoder_norm", "free"),
        subtract_b_dec=subtract,
    ).eval()


_Built = tuple[SAE, str | None]


def _standard(
    t: dict[str, Tensor], k: int | None, subtract: bool, own: dict[str, Any], place: Path
) -> _Built:
    return _sae(t, ReLU(), subtract, own, place), None


def _jumprelu(
    t: dict[str, Tensor], k: int | None, subtract: bool, own: dict[str, Any], place: Path
) -> _Built:
    settings = own.get("sparsifier")
    settings = settings if isinstance(settings, dict) else {}
    # below zero the layout's own reader takes max(pre, 0): the same as a threshold of zero
    threshold = t["threshold"].clamp_min(0)[None]
    sparsifier = JumpReLU(threshold, float(settings.get("bandwidth", 0.001)))
    return _sae(t, sparsifier, subtract, own, place), None


def _gated(
    t: dict[str, Tensor], k: int | None, subtract: bool, own: dict[str, Any], place: Path
) -> _Built:
    return (
        _jumprelu(gated_as_jumprelu(t), k, subtract, own, place)[0],
        "gated, rewritten as the JumpReLU SAE that equals it",
    )


def _batch_topk(
    t: dict[str, Tensor], k: int | None, subtract: bool, own: dict[str, Any], place: Path
) -> _Built:
    threshold = t["topk_threshold"].expand_as(t["b_enc"]).clone()
    sae = _jumprelu(t | {"threshold": threshold}, k, subtract, own, place)[0]
    return sae, "a training checkpoint; selection within the batch became its running threshold"


def _topk(
    t: dict[str, Tensor], k: int | None, subtract: bool, own: dict[str, Any], place: Path
) -> _Built:
    return _sae(t, TopK(k or 1), subtract, own, place), None


def _abs_topk(
    t: dict[str, Tensor], k: int | None, subtract: bool, own: dict[str, Any], place: Path
) -> _Built:
    if k == t["b_enc"].numel():
        return _sae(t, Identity(), subtract, own, place), None
    # of p and -p one is positive, so the k largest of both lists are the k largest magnitudes
    apart = {
        "W_enc": torch.cat([t["W_enc"], -t["W_enc"]], dim=1),
        "W_dec": torch.cat([t["W_dec"], -t["W_dec"]]),
        "b_enc": torch.cat([t["b_enc"], -t["b_enc"]]),
        "b_dec": t["b_dec"],
    }
    width = t["b_enc"].numel()
    return (
        _sae(apart, TopK(k or 1), subtract, {}, place),
        f"signed latents split in two: latent i where it is positive, i + {width} where negative",
    )


def _identity(
    t: dict[str, Tensor], k: int | None, subtract: bool, own: dict[str, Any], place: Path
) -> _Built:
    return _sae(t, Identity(), subtract, own, place), None


_BUILD: dict[str, Callable[..., _Built]] = {
    "standard": _standard,
    "jumprelu": _jumprelu,
    "gated": _gated,
    "topk": _topk,
    "abstopk": _abs_topk,
    "batchtopk": _batch_topk,
    "matryoshka_batchtopk": _batch_topk,
    "latent_assay_identity": _identity,
}
