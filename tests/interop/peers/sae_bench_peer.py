"""Run in an environment with sae-bench: `use FOLDER` gives our SAEs to its custom-SAE path."""

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


if __name__ == "__main__":
    {"use": use}[sys.argv[1]](Path(sys.argv[2]))
