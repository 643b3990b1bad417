r"""Gemma Scope: `params.npz` (and Gemma Scope 2's `params.safetensors`).

JumpReLU SAEs, `W_enc [d_in, d_sae]`, `W_dec [d_sae, d_in]`, whose encoder does not subtract the
decoder's bias:

$$pre = x W_{enc} + b_{enc}, \qquad z = pre \cdot 1[pre > \theta], \qquad \hat x = z W_{dec} + b_{dec}$$

The file holds numbers alone. Model, layer and site are read from the folder's name, where it
follows the published scheme: `gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`.

**Reference:** Lieberum et al. 2024, "Gemma Scope", arXiv:2408.05147.
"""  # noqa: E501

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from latent_assay.errors import FormatError
from latent_assay.formats.files import safetensors, shown
from latent_assay.formats.golden import product
from latent_assay.formats.npz import npz
from latent_assay.formats.reading import Origin, Reading, known, nearby_json, text_or_none
from latent_assay.formats.stored import Stored, pick
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU

FILES = ("params.npz", "params.safetensors")

_NAMES = {"w_enc": "W_enc", "w_dec": "W_dec"}
_SITES = {
    "res": "blocks.{layer}.hook_resid_post",
    "mlp": "blocks.{layer}.hook_mlp_out",
    "att": "blocks.{layer}.attn.hook_z",
    "resid_post": "blocks.{layer}.hook_resid_post",
    "mlp_out": "blocks.{layer}.hook_mlp_out",
    "attn_out": "blocks.{layer}.attn.hook_z",
}


def read(path: Path, origin: Origin) -> Reading:
    """The SAE in a parameter file.

    **Raises:** `FormatError` for a transcoder, and for a file that is damaged or no JumpReLU SAE.
    """
    stored = _renamed(npz(path) if path.suffix == ".npz" else safetensors(path))
    config = nearby_json(path.with_name("config.json"))
    _refuse_transcoders(path, origin, stored, config)
    if "W_enc" not in stored or len(stored["W_enc"].shape) != 2:
        raise FormatError(
            f"'{path}' lacks a matrix W_enc; it has {shown(sorted(stored)[:20])}. Expected Gemma "
            "Scope's W_enc, W_dec, b_enc, b_dec and threshold."
        )
    d_in, width = stored["W_enc"].shape
    shapes: dict[str, tuple[object, ...]] = {
        "W_enc": (d_in, width),
        "W_dec": (width, d_in),
        "b_enc": (width,),
        "b_dec": (d_in,),
        "threshold": (width,),
    }
    t = pick(stored, shapes, path, because=f"W_enc gives d_in {d_in} and width {width}")
    model, hook_point, details = _whereabouts(origin, config)
    head_axis = hook_point is not None and hook_point.endswith("hook_z")
    return Reading(
        sae=SAE(
            t["W_enc"].T.contiguous()[None],
            t["W_dec"][None],
            b_enc=t["b_enc"][None],
            b_dec=t["b_dec"][None],
            # the format takes max(pre, 0) before it looks at the threshold
            sparsifier=JumpReLU(t["threshold"].clamp_min(0)[None]),
            subtract_b_dec=False,
        ).eval(),
        format="Gemma Scope",
        architecture="jumprelu",
        dtype=stored["W_enc"].dtype,
        formula=lambda x: _formula(t, x),
        model=model,
        hook_point=hook_point,
        reshape="hook_z" if head_axis else "none",
        notes=("reads all heads side by side: flatten [head, d_head] into d_in first",)
        if head_axis
        else (),
        metadata=known(model_name=model, hook_name=hook_point, **details),
    )


def _formula(t: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    pre = product(x, t["W_enc"]) + t["b_enc"].double()
    z = (pre > t["threshold"].double()) * pre.relu()
    return z, product(z, t["W_dec"]) + t["b_dec"].double()


def _renamed(stored: dict[str, Stored]) -> dict[str, Stored]:
    return {_NAMES.get(name, name): each for name, each in stored.items()}


def _refuse_transcoders(
    path: Path, origin: Origin, stored: dict[str, Stored], config: dict[str, Any]
) -> None:
    words = re.split(r"[^a-z]+", f"{origin.repo_id or ''}/{origin.text}/{path.parent.name}".lower())
    if (
        {"transcoder", "transcoders", "clt"} & set(words)
        or config.get("hf_hook_point_out") is not None
        or "affine_skip_connection" in stored
    ):
        raise FormatError(
            f"'{path}' is a transcoder: it reads one place of the model and writes another. An SAE "
            "here reconstructs what it reads, and every measurement would compare the wrong two "
            "things. Choose one of the SAEs (-res, -mlp, -att)."
        )


def _whereabouts(
    origin: Origin, config: dict[str, Any]
) -> tuple[str | None, str | None, dict[str, Any]]:
    """Model, hook point and sparsity, as far as names tell."""
    text = f"{origin.repo_id or ''}/{origin.text}"
    layer = re.search(r"layer_(\d{1,4})(?!\d)", text)
    repo = re.search(r"gemma-scope-(2-)?(\w+?)-(pt|it)(?:-(res|mlp|att))?(?![a-z])", text)
    site = repo.group(4) if repo else None
    if site is None:
        found = re.search(r"(resid_post|mlp_out|attn_out)", text)
        site = found.group(1) if found else None
    hook_point = None
    if layer and site:
        hook_point = _SITES[site].format(layer=int(layer.group(1)))
    model = text_or_none(config.get("model_name"))
    if model is None and repo:
        family = "gemma-3" if repo.group(1) else "gemma-2"
        tuned = repo.group(3) == "it"
        # the base models of Gemma 2 carry no suffix, those of Gemma 3 do
        suffix = "-it" if tuned else ("-pt" if family == "gemma-3" else "")
        model = f"google/{family}-{repo.group(2)}{suffix}"
    l0 = re.search(r"average_l0_(\d{1,6})(?!\d)", text)
    details = known(
        hf_hook_name=text_or_none(config.get("hf_hook_point_in")),
        average_l0=int(l0.group(1)) if l0 else None,
    )
    return model, hook_point, details
