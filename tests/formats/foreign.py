"""Tiny SAEs in the formats of others, and what these say that they compute.

The formulas are written out from the tensors, the way each tool writes them.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D, W, K = 4, 6, 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = 2 * draw(64, D, seed=9)


def weights(**more: Tensor) -> dict[str, Tensor]:
    """Tensors by SAELens' names and ways round."""
    return {
        "W_enc": draw(D, W, seed=1),
        "W_dec": draw(W, D, seed=2),
        "b_enc": draw(W, seed=3),
        "b_dec": draw(D, seed=4),
    } | more


def sae_lens(folder: Path, tensors: dict[str, Tensor], **config: object) -> Path:
    folder.mkdir(parents=True)
    base = {"d_in": D, "d_sae": W, "dtype": "float32", "device": "cuda"}
    base["metadata"] = {"sae_lens_version": "6.54.12", "hook_name": "blocks.1.hook_resid_post"}
    (folder / "cfg.json").write_text(json.dumps(base | config))
    save_file(tensors, folder / "sae_weights.safetensors")
    return folder


def gated(folder: Path, **config: object) -> tuple[Path, dict[str, Tensor]]:
    t = weights(b_gate=draw(W, seed=5), b_mag=draw(W, seed=6), r_mag=draw(W, seed=7))
    del t["b_enc"]
    return sae_lens(folder, t, **({"architecture": "gated"} | config)), t


def gemma_scope(folder: Path, **changes: object) -> tuple[Path, dict[str, Tensor]]:
    folder.mkdir(parents=True)
    t = weights(threshold=draw(W, seed=5))
    arrays = {name: tensor.numpy() for name, tensor in t.items()} | changes
    np.savez(folder / "params.npz", **{n: a for n, a in arrays.items() if a is not None})
    return folder, t


def sparsify(folder: Path, **config: object) -> tuple[Path, dict[str, Tensor]]:
    folder.mkdir(parents=True)
    base = {"activation": "topk", "expansion_factor": 32, "num_latents": 0, "k": K, "d_in": D}
    base |= {"normalize_decoder": True, "multi_topk": False, "skip_connection": False}
    (folder / "cfg.json").write_text(json.dumps(base | {"transcode": False} | config))
    t = {
        "encoder.weight": draw(W, D, seed=1),
        "encoder.bias": draw(W, seed=3),
        "W_dec": draw(W, D, seed=2),
        "b_dec": draw(D, seed=4),
    }
    save_file(t, folder / "sae.safetensors")
    return folder, t


def linear(**more: Tensor) -> dict[str, Tensor]:
    """Tensors of dictionary_learning's classes that are made of `nn.Linear`."""
    return {
        "encoder.weight": draw(W, D, seed=1),
        "encoder.bias": draw(W, seed=3),
        "decoder.weight": draw(D, W, seed=2),
    } | more


def dictionaries() -> dict[str, dict[str, Tensor]]:
    """The tensors of each class of dictionary_learning."""
    gate = linear(
        decoder_bias=draw(D, seed=4),
        r_mag=draw(W, seed=5),
        gate_bias=draw(W, seed=6),
        mag_bias=draw(W, seed=7),
    )
    del gate["encoder.bias"]
    k = torch.tensor(K, dtype=torch.int32)
    one = torch.tensor(0.4)
    return {
        "AutoEncoder": linear(bias=draw(D, seed=4)),
        "AutoEncoderNew": linear(**{"decoder.bias": draw(D, seed=4)}),
        "GatedAutoEncoder": gate,
        "JumpReluAutoEncoder": weights(threshold=draw(W, seed=5)),
        "AutoEncoderTopK": linear(b_dec=draw(D, seed=4), k=k, threshold=one),
        "BatchTopKSAE": linear(b_dec=draw(D, seed=4), k=k, threshold=one),
        "MatryoshkaBatchTopKSAE": weights(
            k=k, threshold=one, group_sizes=torch.tensor([2, 4]), extra=draw(1)
        ),
    }


def dictionary_learning(
    folder: Path, kind: str, tensors: dict[str, Tensor] | None = None, **trainer: object
) -> tuple[Path, dict[str, Tensor]]:
    folder.mkdir(parents=True)
    t = dictionaries()[kind] if tensors is None else tensors
    torch.save(t, folder / "ae.pt")
    about = {"dict_class": kind, "lm_name": "pythia", "layer": 3, "submodule_name": "resid_3"}
    (folder / "config.json").write_text(json.dumps({"trainer": about | {"k": K} | trainer}))
    return folder, t


def dictionary_output(kind: str, t: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """What each class computes, as its source has it."""
    if kind == "AutoEncoder":
        length = t["decoder.weight"].norm(dim=0)  # its loader brings rows to length one
        z = ((x - t["bias"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu() * length
        return z, z @ (t["decoder.weight"] / length).T + t["bias"]
    if kind == "AutoEncoderNew":
        z = (x @ t["encoder.weight"].T + t["encoder.bias"]).relu()
        return z, z @ t["decoder.weight"].T + t["decoder.bias"]
    if kind == "GatedAutoEncoder":
        u = (x - t["decoder_bias"]) @ t["encoder.weight"].T
        z = (u + t["gate_bias"] > 0) * (t["r_mag"].exp() * u + t["mag_bias"]).relu()
        return z, z @ t["decoder.weight"].T + t["decoder_bias"]
    if kind == "JumpReluAutoEncoder":
        pre = x @ t["W_enc"] + t["b_enc"]
        z = (pre * (pre > t["threshold"])).relu()
        return z, z @ t["W_dec"] + t["b_dec"]
    if kind == "MatryoshkaBatchTopKSAE":
        pre = ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
        z = pre * (pre > t["threshold"])
        return z, z @ t["W_dec"] + t["b_dec"]
    pre = ((x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    if kind == "AutoEncoderTopK":
        z = pre * (pre >= pre.topk(K).values[:, -1:])
    else:
        z = pre * (pre > t["threshold"])
    return z, z @ t["decoder.weight"].T + t["b_dec"]
