"""Run in an environment with sae-lens: `make FOLDER` saves SAEs, `use FOLDER` loads ours."""

import json
import sys
from pathlib import Path

D, W, K = 8, 16, 3


def randomise(sae, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sae.state_dict().items():
            drawn = torch.randn(tensor.shape, generator=generator).to(tensor)
            if "threshold" in name:
                drawn = 0.5 * drawn.abs()
            tensor.copy_(drawn)


def expect(source, folder, x=None):
    import torch
    from sae_lens import SAE
    from safetensors.torch import save_file

    sae = SAE.load_from_disk(source, dtype="float32")
    if x is None:
        x = torch.randn(64, D, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        z = sae.encode(x)
        x_hat = sae.decode(z)
    save_file({"x": x.contiguous(), "z": z, "x_hat": x_hat}, folder / "expected")


def make(folder):
    import torch
    from sae_lens import SAE, TrainingSAE
    from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
    from sae_lens.training.activation_scaler import ActivationScaler

    base = {"d_in": D, "d_sae": W, "device": "cpu"}
    details = {
        "topk": {"k": K},
        "abstopk": {"k": K},
        "batchtopk": {"k": float(K)},
        "matryoshka_batchtopk": {"k": float(K), "matryoshka_widths": [4, W]},
        "matching_pursuit": {"decoder_init_norm": 1.0},
    }
    metadata = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post", "context_size": 64}
    number = 0
    for architecture in SAE_TRAINING_CLASS_REGISTRY:
        own = details.get(architecture, {})
        variants = {"": {}, "-outside": {"apply_b_dec_to_input": False}}
        if architecture == "jumprelu":
            variants["-bfloat16"] = {"dtype": "bfloat16"}
        if "topk" in architecture:
            variants["-plain"] = {"rescale_acts_by_decoder_norm": False}
        for variant, changes in variants.items():
            number += 1
            config = base | own | changes | {"architecture": architecture, "metadata": metadata}
            sae = TrainingSAE.from_dict(config)
            randomise(sae, number)
            place = folder / f"{architecture}{variant}"
            sae.save_inference_model(place)
            expect(place, place)
            # what training leaves on its way: the same SAE, in its own words
            checkpoint = folder / f"{architecture}{variant}-checkpoint"
            sae.save_model(checkpoint)
            expect(place, checkpoint)
    for architecture in SAE_CLASS_REGISTRY:
        if architecture not in SAE_TRAINING_CLASS_REGISTRY:
            transcoder = {"d_out": D, "apply_b_dec_to_input": False}
            attention = {"n_heads": 1, "bottleneck_factor": 1}
            more = transcoder if "transcoder" in architecture else attention
            sae = SAE.from_dict(base | more | {"architecture": architecture})
            sae.save_model(folder / architecture)

    # checkpoints of runs with normalised inputs, whose statistics lie beside them
    data = 5 + 3 * torch.randn(500, D, generator=torch.Generator().manual_seed(3))
    for architecture in ("standard", "gated", "jumprelu", "topk", "batchtopk"):
        for kind in ("expected_average_only_in", "covariance_whitening"):
            for inside in (True, False):
                own = details.get(architecture, {})
                more = {
                    "architecture": architecture,
                    "normalize_activations": kind,
                    "apply_b_dec_to_input": inside,
                }
                sae = TrainingSAE.from_dict(base | own | more)
                number += 1
                randomise(sae, number)
                place = folder / f"{architecture}-{kind}-{inside}"
                sae.save_model(place)
                scaler = ActivationScaler()
                batches = iter([data])
                if kind == "covariance_whitening":
                    scaler.estimate_whitening(D, batches, 1)
                    w = scaler.whitening
                    sae.fold_activation_whitening(w.mean, w.matrix, w.inverse_matrix)
                else:
                    scaler.estimate_scaling_factor(D, batches, 1)
                    sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
                scaler.save(str(place / "activation_scaler.json"))
                folded = folder / ".folded" / place.name
                sae.save_inference_model(folded)
                expect(folded, place, x=data[:64])


def use(folder):
    import torch
    from sae_lens import SAE
    from safetensors.torch import load_file, save_file

    seen = {}
    for config in sorted(folder.rglob("cfg.json")):
        place = config.parent
        sae = SAE.load_from_disk(place, dtype="float32")
        x = load_file(place / "x")["x"]
        with torch.no_grad():
            z = sae.encode(x)
            x_hat = sae.decode(z)
        save_file({"z": z, "x_hat": x_hat}, place / "answer")
        seen[str(place.relative_to(folder))] = {
            "hook_name": sae.cfg.metadata.hook_name,
            "model_name": sae.cfg.metadata.model_name,
        }
    (folder / "seen.json").write_text(json.dumps(seen))


def gemma(place):
    """Gemma Scope's own layout, through SAELens' reader of it."""
    import numpy as np
    import torch
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from safetensors.torch import save_file

    d_in, d_sae = np.load(place / "params.npz")["W_enc"].shape
    loaders.hf_hub_download = lambda **_: place / "params.npz"
    config, state, _ = loaders.gemma_2_sae_huggingface_loader(
        "google/gemma-scope-2b-pt-res",
        "layer_20/width_16k/average_l0_71",
        cfg_overrides={"d_in": d_in, "d_sae": d_sae, "device": "cpu"},
    )
    config = loaders.handle_config_defaulting(config)
    sae = SAE.from_dict(config)
    sae.load_state_dict(state)
    x = 3 * torch.randn(64, d_in, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        z = sae.encode(x)
        save_file({"x": x, "z": z, "x_hat": sae.decode(z)}, place / "expected")
    about = {name: config["metadata"][name] for name in ("model_name", "hook_name")}
    (place / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    {"make": make, "use": use, "gemma": gemma}[sys.argv[1]](Path(sys.argv[2]))
