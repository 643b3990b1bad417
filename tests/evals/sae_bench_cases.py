"""Inputs on which our formulas and SAEBench's are compared, and how its answers were recorded.

    LATENT_ASSAY_PEERS=/var/cache/peers python -m tests.evals.sae_bench_cases

runs SAEBench's own functions (in its environment, see tests/interop) on these inputs and writes
`sae_bench_recorded.json` beside this file, for the normal suite, which has no SAEBench.
"""

import json
import tempfile
from pathlib import Path

import torch

RECORDED = Path(__file__).with_name("sae_bench_recorded.json")


def cases() -> dict:
    """JSON content: words with activations and latents, F1 tables, columns with labels."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    absorption = []
    for d_in, width, n, main in ((6, 12, 20, [0]), (8, 30, 25, [3, 7]), (5, 11, 15, [1, 2, 4])):
        decoder = torch.nn.functional.normalize(normal(width, d_in), dim=-1)
        # the probe lies near main latents, as it would; absorbers lie near both
        direction = decoder[main].sum(0) + 0.3 * normal(d_in)
        decoder[8] = torch.nn.functional.normalize(decoder[8] + direction, dim=-1)
        z = normal(n, width).relu() * (torch.rand(n, width, generator=generator) < 0.4)
        z[: n // 2, main] = 0  # so that absorption has a chance to be full
        x = z @ decoder + 0.1 * normal(n, d_in)
        absorption.append(
            {
                "x": x.tolist(),
                "z": z.tolist(),
                "W_dec": decoder.tolist(),
                "direction": direction.tolist(),
                "main": main,
            }
        )
    f1 = (torch.rand(26, 10, generator=generator) * 0.1).cumsum(-1)
    f1[::2] = f1[::2].flip(-1)
    z = normal(40, 9).relu()
    labels = torch.rand(40, generator=generator) < 0.5
    return {
        "absorption": absorption,
        "f1": f1.double().tolist(),
        "columns": {"z": z.tolist(), "labels": labels.tolist(), "k": 4},
    }


def record() -> None:
    from tests.interop.environments import run

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cases.json").write_text(json.dumps(cases()))
        run("sae-bench", "formulas", Path(folder))
        answers = json.loads((Path(folder) / "answers.json").read_text())
    RECORDED.write_text(json.dumps({"cases": cases(), "answers": answers}) + "\n")


if __name__ == "__main__":
    record()
