"""Run in an environment with sae-bench: writes what its results must look like, as JSON.

.../sae-bench/bin/python tests/interop/peers/sae_bench_schema.py tests/evals/sae_bench_0_6_0.json
"""

import json
import sys
from importlib import metadata
from pathlib import Path


def outputs():
    from sae_bench.evals.absorption.eval_output import AbsorptionEvalOutput
    from sae_bench.evals.autointerp.eval_output import AutoInterpEvalOutput
    from sae_bench.evals.core.eval_output import CoreEvalOutput
    from sae_bench.evals.scr_and_tpp.eval_output import ScrEvalOutput, TppEvalOutput
    from sae_bench.evals.sparse_probing.eval_output import SparseProbingEvalOutput

    return {
        "absorption": AbsorptionEvalOutput,
        "autointerp": AutoInterpEvalOutput,
        "core": CoreEvalOutput,
        "scr": ScrEvalOutput,
        "sparse_probing": SparseProbingEvalOutput,
        "tpp": TppEvalOutput,
    }


def schema_of(output):
    """The JSON schema, without what is for the eye."""
    from pydantic import TypeAdapter

    def bare(node):
        if isinstance(node, dict):
            return {
                key: bare(value)
                for key, value in sorted(node.items())
                if not (key in ("title", "description") and isinstance(value, str))
                and key != "ui_default_display"
            }
        return [bare(each) for each in node] if isinstance(node, list) else node

    return bare(TypeAdapter(output).json_schema())


def main(target):
    content = {
        "sae-bench": metadata.version("sae-bench"),
        "schemas": {name: schema_of(output) for name, output in outputs().items()},
    }
    Path(target).write_text(json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
