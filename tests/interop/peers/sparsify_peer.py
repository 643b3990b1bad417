"""Run in an environment with eai-sparsify: `make FOLDER` saves SAEs of every kind."""

import itertools
import json
import sys
from pathlib import Path

D, W, K = 8, 16, 4


def make(folder):
    import torch
    from safetensors.torch import save_file
    from sparsify import SparseCoder, SparseCoderConfig

    (folder / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-160m"}))
    for activation, (dtype, kind) in itertools.product(
        ("topk", "groupmax"),
        (("float32", ""), ("bfloat16", ""), ("float32", "transcode"), ("float32", "skip")),
    ):
        config = SparseCoderConfig(
            activation=activation,
            num_latents=W if kind else 0,
            expansion_factor=W // D,
            k=K,
            multi_topk=dtype == "bfloat16",
            transcode=kind == "transcode",
            skip_connection=kind == "skip",
        )
        sae = SparseCoder(D, config, dtype=getattr(torch, dtype))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for tensor in sae.state_dict().values():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
        place = folder / f"layers.{activation}-{dtype}{kind and '-' + kind}"
        sae.save_to_disk(place)
        sae = SparseCoder.load_from_disk(place).float()
        x = torch.randn(64, D, generator=generator)
        with torch.no_grad():
            top_acts, top_indices, _ = sae.encode(x)
            x_hat = sae.decode(top_acts, top_indices)
        z = torch.zeros(64, W).scatter(-1, top_indices, top_acts)
        save_file({"x": x, "z": z, "x_hat": x_hat}, place / "expected")


if __name__ == "__main__":
    {"make": make}[sys.argv[1]](Path(sys.argv[2]))
