"""Run in an environment with sae-bench.

`use FOLDER` gives our SAEs to its custom-SAE path; `formulas FOLDER` runs its functions on given
tensors, with objects in the place of model and SAE that return just these; `validate FOLDER`
reads our results.
"""

import json
import sys
from pathlib import Path


def use(folder):
    import torch
    from sae_bench.evals.core import main as core
    from sae_bench.sae_bench_utils import general_utils
    from sae_lens import SAE
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    results = {}
    for config in sorted(folder.rglob("cfg.json")):
        name = config.parent.name
        own = SAE.load_from_disk(config.parent)
        sae_id, sae, _ = general_utils.load_and_format_sae(name, own, "cpu")
        assert sae_id == "custom_sae"
        torch.manual_seed(0)
        model = HookedTransformer(
            HookedTransformerConfig(
                n_layers=2, d_model=sae.cfg.d_in, n_ctx=16, d_head=4, d_vocab=50, act_fn="relu"
            )
        )

        class Tokens:
            context_size = 16
            store_batch_size_prompts = 4

            def __init__(self):
                self.generator = torch.Generator().manual_seed(0)

            def get_batch_tokens(self, batch_size=None):
                return torch.randint(50, (batch_size or 4, 16), generator=self.generator)

            def apply_norm_scaling_factor(self, x):
                return x

            def unscale(self, x):
                return x

        metrics = core.get_featurewise_weight_based_metrics(sae)
        found = core.get_sparsity_and_variance_metrics(
            sae,
            model,
            Tokens(),
            n_batches=2,
            compute_l2_norms=True,
            compute_sparsity_metrics=True,
            compute_variance_metrics=True,
            compute_featurewise_density_statistics=True,
            eval_batch_size_prompts=4,
            model_kwargs={},
        )
        results[name] = {
            "hook_name": sae.cfg.hook_name,
            "hook_layer": sae.cfg.hook_layer,
            "model_name": sae.cfg.model_name,
            "weights": sorted(metrics),
            "metrics": {k: float(v) for k, v in found[0].items()},
        }
    (folder / "results.json").write_text(json.dumps(results))


def formulas(folder):
    cases = json.loads((folder / "cases.json").read_text())
    columns = cases["columns"]
    answers = {
        "absorption": [absorption(case) for case in cases["absorption"]],
        "main": mains(cases["f1"]),
        "raw": chosen(columns),
        "mean_firing": ranked(columns),
    }
    (folder / "answers.json").write_text(json.dumps(answers))


def absorption(case):
    import torch
    from sae_bench.evals.absorption.feature_absorption_calculator import (
        FeatureAbsorptionCalculator,
    )

    x, z = torch.tensor(case["x"]), torch.tensor(case["z"])
    words = [f"a{i}" for i in range(len(x))]

    class Model:
        def to_tokens(self, text):
            return [[0] * 7]

        def run_with_cache(self, texts, names_filter):
            rows = [int(text.splitlines()[-1].split(":")[0][1:]) for text in texts]
            return None, {names_filter[0]: x[rows][:, None].expand(-1, 7, -1)}

    class Sae:
        device = "cpu"
        W_dec = torch.tensor(case["W_dec"])

        def encode(self, rows):
            distance = (rows[:, None] - x[None]).abs().amax(-1)
            return z[distance.argmin(1)]

    calculator = FeatureAbsorptionCalculator(
        model=Model(), icl_word_list=["b", "c"], max_icl_examples=1, topk_feats=5
    )
    found = calculator.calculate_absorption(
        Sae(),
        words=words,
        probe_direction=torch.tensor(case["direction"]),
        main_feature_ids=case["main"],
        layer=0,
        show_progress=False,
    )
    return {
        "fraction": [float(each.absorption_fraction) for each in found.word_results],
        "full": [bool(each.is_full_absorption) for each in found.word_results],
    }


def mains(f1):
    import numpy as np
    import pandas as pd
    from sae_bench.evals.absorption.k_sparse_probing import add_feature_splits_to_metrics_df
    from sae_bench.evals.absorption.vocab import LETTERS

    table = pd.DataFrame(
        [
            {"letter": letter}
            | {f"f1_sparse_sae_{k}": row[k - 1] for k in range(1, 11)}
            | {f"sparse_sae_k_{k}_feats": np.arange(k) for k in range(1, 11)}
            for letter, row in zip(LETTERS, f1, strict=True)
        ]
    )
    add_feature_splits_to_metrics_df(table, max_k_value=10)
    return [list(map(int, each)) for each in table["split_feats"]]


def chosen(columns):
    import torch
    from sae_bench.evals.sparse_probing.probe_training import get_top_k_mean_diff_mask
    from sae_bench.sae_bench_utils import dataset_info

    positive, negative = dataset_info.POSITIVE_CLASS_LABEL, dataset_info.NEGATIVE_CLASS_LABEL
    labels = torch.tensor([positive if each else negative for each in columns["labels"]])
    mask = get_top_k_mean_diff_mask(torch.tensor(columns["z"]), labels, columns["k"])
    return (~mask).nonzero().squeeze(-1).tolist()


def ranked(columns):
    import torch
    from sae_probes.run_sae_evals import get_sorted_indices, mean_act_normalization

    return get_sorted_indices(
        torch.tensor(columns["z"]), torch.tensor(columns["labels"]).int(), mean_act_normalization
    ).tolist()


def validate(folder):
    """Read every result in a folder by SAEBench's own models; write what its schemas are now."""
    from pydantic import TypeAdapter
    from sae_bench_schema import outputs, schema_of

    found = outputs()
    for name, output in found.items():
        for place in sorted((folder / name).glob("*.json")):
            TypeAdapter(output).validate_json(place.read_text())
    schemas = {name: schema_of(output) for name, output in found.items()}
    (folder / "schemas.json").write_text(json.dumps(schemas))


if __name__ == "__main__":
    {"use": use, "formulas": formulas, "validate": validate}[sys.argv[1]](Path(sys.argv[2]))
