"""SAEBench's path for SAEs that are not in its list accepts ours; its models read our results."""

import json
import math

import pytest
import torch

from latent_assay import formats, recipes
from latent_assay.atomic import write_json
from latent_assay.evals.first_letter import published_absorption
from tests.evals.sae_bench_cases import RECORDED, cases
from tests.evals.test_sae_bench_json import RESULTS, SCHEMAS, written

from .environments import run

pytestmark = pytest.mark.interop


def test_sae_bench_evaluates_ours(tmp_path):
    about = {"model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "context_size": 16}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=generator)
    made = {
        "relu": recipes.relu_l1(d_in=8, width=16, l1=0.1).sae,
        "topk": recipes.topk(d_in=8, width=16, k=3).sae,
        "batchtopk": recipes.batchtopk(d_in=8, width=16, k=3).sae,
    }
    for name, sae in made.items():
        with torch.no_grad():  # or a token without latents has no direction, and its cosine is NaN
            sae.b_dec.copy_(torch.randn(1, 8, generator=generator))
        sae.encode(x)  # a batch in training gives BatchTopK its threshold
        formats.save(sae, tmp_path / name, about)
    run("sae-bench", "use", tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == set(made)
    for name, found in results.items():
        assert (found["hook_name"], found["hook_layer"], found["model_name"]) == (
            "blocks.1.hook_resid_post",
            1,
            "tiny",
        )
        assert found["weights"]
        odd = {key for key, each in found["metrics"].items() if not math.isfinite(each)}
        assert not odd, (name, found["metrics"])
    assert results["topk"]["metrics"]["l0"] <= 3


def test_absorption_is_that_of_sae_bench(tmp_path):
    """Its calculator on our inputs gives what we compute, and what was recorded."""
    (tmp_path / "cases.json").write_text(json.dumps(cases()))
    run("sae-bench", "formulas", tmp_path)
    answers = json.loads((tmp_path / "answers.json").read_text())
    for case, answer in zip(cases()["absorption"], answers["absorption"], strict=True):
        found = published_absorption(
            torch.tensor(case["x"]),
            torch.tensor(case["z"]),
            torch.tensor(case["W_dec"]),
            torch.tensor(case["direction"]),
            case["main"],
        )
        assert found.fraction.tolist() == pytest.approx(answer["fraction"], abs=1e-6)
        assert found.full.tolist() == answer["full"]
    recorded = json.loads(RECORDED.read_text())
    if recorded["cases"] == cases():  # random numbers of the torch that recorded them
        assert recorded["answers"] == answers


def test_sae_bench_reads_our_results(tmp_path):
    for name, result in RESULTS.items():
        write_json(tmp_path / name / "ours.json", written(result))
    run("sae-bench", "validate", tmp_path)
    assert json.loads((tmp_path / "schemas.json").read_text()) == SCHEMAS  # as recorded
