"""Latents divided over ranks train as they would in one process."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from latent_assay.kernels import batch_threshold

from . import work
from .launching import succeed

RESCUED = ["relu_l1", "topk", "batchtopk", "matryoshka_batchtopk"]
OTHERS = [name for name in work.NAMES if name not in RESCUED]
CASES: list[dict] = [
    *({"name": name, "steps": 100} for name in RESCUED),
    *({"name": name, "steps": 20, "path": "sparse"} for name in RESCUED[1:]),
    *({"name": name, "steps": 20, "weighted": True} for name in ("batchtopk", "relu_l1")),
    *({"name": name, "steps": 20} for name in OTHERS),
]
# what every number of ranks trains; on two cores, three of them mostly wait for each other
RUNS = {2: range(len(CASES)), 3: range(4)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[int, Path]:
    """What every rank was left with, by the number of ranks."""
    folders = {ranks: tmp_path_factory.mktemp(f"ranks-{ranks}") for ranks in RUNS}
    for ranks, folder in folders.items():
        succeed(ranks, "equal", folder, cases={str(n): CASES[n] for n in RUNS[ranks]})
    return folders


@pytest.fixture(scope="module")
def alone() -> dict:
    """The same in one process, computed once."""
    return {}


@pytest.mark.parametrize(
    ("ranks", "number"),
    [(ranks, number) for ranks, numbers in RUNS.items() for number in numbers],
    ids=lambda each: str(each),
)
def test_ranks_equal_one_process(trained, alone, ranks, number):
    folder, case = trained[ranks], CASES[number]
    if number not in alone:
        alone[number] = work.train_case(case)
    sae, history = alone[number]
    for rank in range(ranks):
        found = load_file(folder / f"{number}-{rank}.sae")
        assert found.keys() == sae.state_dict().keys()
        for name, tensor in sae.state_dict().items():
            assert_close(found[name], tensor)
        records = json.loads((folder / f"{number}-{rank}.json").read_text())
        for name in history.names:
            values = np.array([record[name] for record in records])
            np.testing.assert_allclose(values, history[name], rtol=1e-9, atol=1e-9)
    if case["steps"] == 100:  # the auxiliary loss had work, and a choice among dead latents
        assert history["auxk"].max() > 0
        assert history["dead"].max() > 1


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ranks", RUNS)
def test_selection_equals_that_of_one_process(trained, ranks):
    found = [load_file(trained[ranks] / f"selection-{rank}") for rank in range(ranks)]
    for number, (pre, k, weight) in enumerate(work.selections()):
        expected = batch_threshold(pre, k, weight)
        for each in found:
            assert torch.equal(each[f"{number}.threshold"], expected)
        mask = torch.cat([each[f"{number}.largest"] for each in found], dim=-1)
        # with ties at the border, which of the equal ones win is open, their values are not
        most = int(k.max())
        order = pre.topk(most, dim=-1).values
        limit = k.long().view(-1, 1, 1)
        assert torch.equal(mask.sum(-1), k.long().view(-1, 1).expand(mask.shape[:2]))
        won = pre.masked_fill(~mask, -torch.inf).topk(most, dim=-1).values
        kept = torch.arange(most) < limit
        assert torch.equal(won.masked_fill(~kept, 0), order.masked_fill(~kept, 0))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("term", "ConfigError: the term `shared_matryoshka` looks at all latents together"),
        ("width", "ConfigError: a member has 1 latents, too few for 2 ranks"),
        ("sparsifier", "ConfigError: Own cannot be divided over processes"),
        ("batches", "DataError: at step 0 the ranks were given different batches"),
    ],
)
def test_what_cannot_be_divided_is_refused_on_every_rank(trained, what, says):
    for rank in range(2):
        assert says in json.loads((trained[2] / f"refused-{rank}.json").read_text())[what]
