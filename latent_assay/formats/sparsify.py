r"""sparsify: `cfg.json` and `sae.safetensors`.

$$z = TopK(\max(W (x - b_{dec}) + b, 0)), \qquad \hat x = z W_{dec} + b_{dec}$$

with `encoder.weight [width, d_in]` and `W_dec [width, d_in]`, both with latents as rows.
"""

from pathlib import Path

import torch
from torch import Tensor

from latent_assay.errors import FormatError
from latent_assay.formats.files import read_json, safetensors, shown
from latent_assay.formats.golden import product
from latent_assay.formats.group_max import GroupMax
from latent_assay.formats.reading import Origin, Reading, known, nearby_json, text_or_none
from latent_assay.formats.stored import pick
from latent_assay.sae import SAE
from latent_assay.sparsifiers import Sparsifier, TopK

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"


def read(place: Path, origin: Origin) -> Reading:
    """The SAE in a folder, one per hook point, that sparsify saved.

    **Raises:** `FormatError` for a transcoder or a skip connection, and for damaged files.
    """
    config = read_json(place / CONFIG_FILE)
    for name, why in {
        "transcode": "a transcoder reads one place of the model and writes another",
        "skip_connection": "its output has a part W_skip x that no latent carries",
    }.items():
        if config.get(name, False) is not False:
            raise FormatError(
                f"'{place}' has {name} = {shown(config[name])} and cannot be represented: {why}; "
                "an SAE here reconstructs what it reads from latents alone. Choose one trained "
                "without."
            )
    path = place / WEIGHTS_FILE
    stored = safetensors(path)
    if "W_dec" not in stored or len(stored["W_dec"].shape) != 2:
        raise FormatError(
            f"'{path}' lacks a matrix W_dec; it has {shown(sorted(stored)[:20])}. Expected what "
            "sparsify saves: encoder.weight, encoder.bias, W_dec and b_dec."
        )
    width, d_in = stored["W_dec"].shape
    if config.get("d_in", d_in) != d_in or config.get("num_latents") not in (None, 0, width):
        raise FormatError(
            f"'{place}' says d_in {shown(config.get('d_in'))} and num_latents "
            f"{shown(config.get('num_latents'))} in {CONFIG_FILE}, but its W_dec has shape "
            f"{[width, d_in]}; the two files do not belong together."
        )
    shapes: dict[str, tuple[object, ...]] = {
        "encoder.weight": (width, d_in),
        "encoder.bias": (width,),
        "W_dec": (width, d_in),
        "b_dec": (d_in,),
    }
    t = pick(stored, shapes, path, because=f"W_dec gives d_in {d_in} and width {width}")
    k, activation = config.get("k"), config.get("activation", "topk")
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= width:
        raise FormatError(
            f"'{place}' has k = {shown(k)}; expected a whole number from 1 to {width}."
        )
    model = text_or_none(nearby_json(place.parent / "config.json").get("model"))
    hook_point = text_or_none(place.name)
    return Reading(
        sae=SAE(
            t["encoder.weight"][None],
            t["W_dec"][None],
            b_enc=t["encoder.bias"][None],
            b_dec=t["b_dec"][None],
            sparsifier=_sparsifier(activation, k, width, place),
        ).eval(),
        format="sparsify",
        architecture=str(activation),
        dtype=str(t["W_dec"].dtype).removeprefix("torch."),
        formula=lambda x: _formula(t, str(activation), k, x),
        model=model,
        hook_point=hook_point,
        metadata=known(model_name=model, hook_name=hook_point),
    )


def _sparsifier(activation: object, k: int, width: int, place: Path) -> Sparsifier:
    if activation == "topk":
        return TopK(k)
    if activation == "groupmax" and width % k == 0:
        return GroupMax(k)
    raise FormatError(
        f"'{place}' has activation = {shown(activation)} with k = {k} and width {width}; expected "
        "'topk', or 'groupmax' with a k that divides the width."
    )


def _formula(t: dict[str, Tensor], activation: str, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
    centred = x - t["b_dec"].double()
    pre = (product(centred, t["encoder.weight"].T) + t["encoder.bias"].double()).relu()
    if activation == "topk":
        values, indices = pre.topk(k, dim=-1)
    else:
        values, inner = pre.unflatten(-1, (k, -1)).max(dim=-1)
        indices = inner + torch.arange(k) * (pre.shape[-1] // k)
    z = torch.zeros_like(pre).scatter(-1, indices, values)
    return z, product(z, t["W_dec"]) + t["b_dec"].double()
