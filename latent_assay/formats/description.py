"""What is in an SAE's files, told to a person."""

import os
from typing import Any

import torch

from latent_assay.atomic import plain
from latent_assay.formats import golden
from latent_assay.formats.loading import agreement, read_found, stacked
from latent_assay.formats.recognise import recognise

_SHOWN_ELSEWHERE = ("latent_assay", "sae_lens_version", "sae_lens_training_version")


def describe(source: str | os.PathLike[str], *, input_scale: float | None = None) -> dict[str, Any]:
    """What is in an SAE's files, of any known format, as plain values: for a person, or as JSON.

    **Arguments:** those of `load`.

    **Raises:** `FormatError` as `load` does; what is described can also be loaded.
    """
    found = recognise(source)
    readings = read_found(found, input_scale)
    sae = stacked(readings, source)
    first = readings[0]
    origin = {
        name: value
        for name, value in first.metadata.items()
        if name not in _SHOWN_ELSEWHERE and value is not None
    }
    with torch.no_grad():
        lengths = torch.linalg.vector_norm(sae.W_dec, dim=-1)
        if sae.padding is not None:
            lengths = lengths[~sae.padding]
        bias = torch.linalg.vector_norm(sae.b_dec, dim=-1)
    where: dict[str, Any] = {"folder": os.fspath(source)}
    if found.origin.repo_id is not None:
        where |= {"repository": found.origin.repo_id, "revision": found.origin.revision}
    checked = agreement(found, readings)
    k = sae.sparsifier.settings().get("k")
    rows = {
        "min": round(float(lengths.min()), 6),
        "mean": round(float(lengths.mean()), 6),
        "max": round(float(lengths.max()), 6),
    }
    return plain(
        where
        | {
            "format": first.format,
            "architecture": first.architecture,
            "sparsifier": sae.sparsifier.name,
        }
        | ({"k": k[0] if isinstance(k, list) and len(set(k)) == 1 else k} if k else {})
        | {
            "d_in": sae.d_in,
            "width": sae.widths[0] if len(set(sae.widths)) == 1 else list(sae.widths),
            "members": sae.members,
            "model": first.model or "not named",
            "hook point": first.hook_point or "not named",
            "normalisation": first.normalisation,
            "dtype": str(sae.W_enc.dtype).removeprefix("torch."),
            "dtype in file": first.dtype,
            "tied": sae.tied,
            "apply_b_dec_to_input": sae.subtract_b_dec,
            "parameters": sum(tensor.numel() for tensor in sae.parameters()),
            "decoder row lengths": rows,
            "length of b_dec": round(float(bias.mean()), 6),
            "golden vectors": _golden(checked),
        }
        | ({"notes": list(first.notes)} if first.notes else {})
        | {"origin": origin}
    )


def _golden(checked: list[golden.Agreement]) -> str:
    if not checked:
        return "none"
    worst = max(max(each.latents, each.reconstruction) for each in checked)
    return f"{sum(each.samples for each in checked)}, reproduced to {worst:.1e}"
