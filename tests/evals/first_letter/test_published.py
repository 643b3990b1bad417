"""Our formulas give SAEBench 0.6's numbers on the same inputs: see `sae_bench_cases`."""

import json

import pytest
import torch

from latent_assay.evals.first_letter import KSparse, published_absorption
from latent_assay.evals.probing import ranked

from ..sae_bench_cases import RECORDED, cases

RECORD = json.loads(RECORDED.read_text())
CASES, ANSWERS = RECORD["cases"], RECORD["answers"]


def test_the_record_is_of_the_cases():
    """Random numbers of another torch version may differ, so the record carries its inputs."""
    fresh = cases()
    assert fresh.keys() == CASES.keys()
    assert len(fresh["absorption"]) == len(CASES["absorption"]) == len(ANSWERS["absorption"])


@pytest.mark.parametrize("number", range(len(CASES["absorption"])))
def test_absorption_is_that_of_sae_bench(number):
    case, answer = CASES["absorption"][number], ANSWERS["absorption"][number]
    found = published_absorption(
        torch.tensor(case["x"]),
        torch.tensor(case["z"]),
        torch.tensor(case["W_dec"]),
        torch.tensor(case["direction"]),
        case["main"],
    )
    torch.testing.assert_close(
        found.fraction, torch.tensor(answer["fraction"]), atol=1e-6, rtol=1e-6
    )
    assert found.full.tolist() == answer["full"]


def test_the_record_covers_every_branch():
    fractions = [each for case in ANSWERS["absorption"] for each in case["fraction"]]
    full = [each for case in ANSWERS["absorption"] for each in case["full"]]
    assert 0.0 in fractions
    assert 1.0 in fractions
    assert any(0 < each < 1 for each in fractions)
    assert any(full)
    assert not all(full)


def test_main_latents_are_those_of_sae_bench():
    f1 = torch.tensor(CASES["f1"], dtype=torch.float64)
    order = torch.arange(10).expand(26, -1)
    assert KSparse(order=order, f1=f1.float()).main() == ANSWERS["main"]
    assert len(set(map(len, ANSWERS["main"]))) > 2


def test_columns_are_those_of_sparse_probing():
    """Mean difference without units as in SAEBench, in units of mean firing as in SAE-Probes."""
    columns = CASES["columns"]
    z, labels = torch.tensor(columns["z"]), torch.tensor(columns["labels"])
    assert sorted(ranked(z, labels, "raw")[: columns["k"]].tolist()) == ANSWERS["raw"]
    assert ranked(z, labels, "mean firing").tolist() == ANSWERS["mean_firing"]
