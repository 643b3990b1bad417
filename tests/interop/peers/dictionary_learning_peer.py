"""Run in an environment with dictionary-learning: `make FOLDER` trains and saves every class."""

import json
import sys
from pathlib import Path

D, W, K = 8, 16, 3


def subclasses(kind):
    return {kind.__name__} | {name for each in kind.__subclasses__() for name in subclasses(each)}


def make(folder):
    import torch
    from dictionary_learning.dictionary import AutoEncoderNew, Dictionary
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.gated_anneal import GatedAnnealTrainer
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.trainers.p_anneal import PAnnealTrainer
    from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
    from dictionary_learning.trainers.top_k import TopKTrainer
    from dictionary_learning.trainers.trainer import SAETrainer
    from dictionary_learning.training import trainSAE
    from dictionary_learning.utils import load_dictionary
    from safetensors.torch import save_file

    base = {
        "activation_dim": D,
        "dict_size": W,
        "layer": 3,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "submodule_name": "resid_post_layer_3",
        "device": "cpu",
        "steps": 4,
        "warmup_steps": 1,
        "sparsity_warmup_steps": 1,
    }
    anneal = {"anneal_start": 1, "n_sparsity_updates": 2, "p_end": 0.5}
    configs = {
        StandardTrainer: {},
        StandardTrainerAprilUpdate: {},
        PAnnealTrainer: anneal,
        GatedSAETrainer: {},
        GatedAnnealTrainer: anneal,
        JumpReluTrainer: {},
        TopKTrainer: {"k": K},
        BatchTopKTrainer: {"k": K},
        MatryoshkaBatchTopKTrainer: {"k": K, "group_fractions": [0.25, 0.75]},
    }
    known = {
        "trainers": sorted(subclasses(SAETrainer) - {"SAETrainer"}),
        "classes": sorted(subclasses(Dictionary) - {"Dictionary"}),
    }
    (folder / "known.json").write_text(json.dumps(known))
    made = []
    for trainer, more in configs.items():
        name = trainer.__name__
        given = dict(base, **more, trainer=trainer)
        accepted = trainer.__init__.__code__.co_varnames
        given = {key: each for key, each in given.items() if key in accepted or key == "trainer"}
        generator = torch.Generator().manual_seed(0)
        data = (torch.randn(64, D, generator=generator) for _ in range(100))
        trainSAE(
            data=data,
            trainer_configs=[given],
            steps=4,
            save_dir=str(folder / name),
            save_steps=[2],
            device="cpu",
            autocast_dtype=torch.float32,
        )
        made.append(folder / name / "trainer_0")
    by_hand = folder / "AutoEncoderNew"
    by_hand.mkdir()
    torch.save(AutoEncoderNew(D, W).state_dict(), by_hand / "ae.pt")
    (by_hand / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderNew"}}))

    for number, place in enumerate([*made, by_hand]):
        # four steps change little: other weights, in the file that training wrote
        state = torch.load(place / "ae.pt", weights_only=True)
        generator = torch.Generator().manual_seed(number)
        for key, tensor in state.items():
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=generator)
            if key == "threshold":
                drawn = 0.5 * drawn.abs()
            tensor.copy_(drawn)
        torch.save(state, place / "ae.pt")
        ae, _ = load_dictionary(str(place), "cpu")
        x = torch.randn(64, D, generator=generator)
        with torch.no_grad():
            z = ae.encode(x)
            x_hat = ae.decode(z)
        save_file({"x": x, "z": z, "x_hat": x_hat}, place / "expected")


if __name__ == "__main__":
    {"make": make}[sys.argv[1]](Path(sys.argv[2]))
