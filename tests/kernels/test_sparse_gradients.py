"""Gradients of large sparse steps by hand equal those of automatic differentiation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latent_assay import recipes
from latent_assay.kernels import Workspace, force_path
from latent_assay.losses import (
    AuxK,
    Forward,
    Lp,
    Matryoshka,
    Objective,
    Progress,
    Ramp,
    SquaredError,
)
from latent_assay.sae import SAE
from latent_assay.sparsifiers import BatchTopK, ReLU, Sparsifier, TopK
from latent_assay.training.sparse_step import SparseStep

GATES = {
    "topk": lambda members: TopK(2, members),
    "topk, k by member": lambda members: TopK([1 + m % 2 for m in range(members)]),
    "batchtopk": lambda members: BatchTopK(1.5, members),
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_sae(members: int, width: int, d_in: int, sparsifier: Sparsifier, **others) -> SAE:
    tied = others.pop("tied", False)
    sae = SAE(
        draw(members, width, d_in, seed=1),
        None if tied else draw(members, width, d_in, seed=2),
        b_enc=0.3 * draw(members, width, seed=3),
        b_dec=0.3 * draw(members, d_in, seed=4),
        sparsifier=sparsifier,
        **others,
    )
    return sae.train()


def progress(members: int, width: int, dead: int = 0) -> Progress:
    since = torch.zeros(members, width, dtype=torch.int64)
    for member in range(members):  # as many as possible, fewer in later members
        since[member, : max(dead - member, 0)] = 10**9
    return Progress(step=500, samples=10**6, since_fired=since)


def assert_equal(sae: SAE, objective: Objective, x: Tensor, weight=None, dead: int = 0) -> None:
    at = progress(sae.members, sae.width, dead)
    by_hand = SparseStep.of(sae, objective, autocast=False)
    assert by_hand is not None
    found = []
    for path in ("sparse", "dense"):
        sae.zero_grad()
        with force_path(path):
            forward = by_hand.step(x, weight, at)
            assert (forward is None) == (path == "dense")
            if forward is None:
                forward = Forward(sae, x, weight)
                objective(forward, at)[0].sum().backward()
        grads = {name: p.grad.clone() for name, p in sae.named_parameters() if p.requires_grad}
        found.append(grads | {"z": forward.z.detach(), "pre": forward.pre.detach().clone()})
    mine, reference = found
    assert set(mine) == set(reference)
    for name, expected in reference.items():
        torch.testing.assert_close(mine[name], expected, rtol=1e-10, atol=1e-10, msg=name)


def objective_of(members: int, width: int, kind: str) -> Objective:
    error = SquaredError([0.5 + m for m in range(members)])
    rescue = AuxK(0.3, members=members, width=width, k=3, dead_after=1000)
    levels = (2, width - 3, width)
    beta = [[0.5, 0.0 if m else 2.0, 1.0] for m in range(members)]
    nested = Matryoshka([error], levels=levels, beta=beta, detached=kind == "detached")
    return Objective([error if kind == "plain" else nested, rescue])


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("weighted", [None, "shared", "own"])
@pytest.mark.parametrize("kind", ["plain", "nested", "detached"])
@pytest.mark.parametrize("gate", GATES)
def test_every_gate_and_error(gate, kind, weighted, own):
    members, batch, width, d_in = 3, 11, 9, 5
    sae = make_sae(members, width, d_in, GATES[gate](members))
    x = draw(members, batch, d_in) if own else draw(batch, d_in)
    weight = None
    if weighted is not None:
        weight = draw(*((members, batch) if weighted == "own" else (batch,)), seed=5).abs()
        weight[..., 2] = 0.0
        weight = weight / weight.sum(-1, keepdim=True)
    for dead in (0, 2, 6):
        assert_equal(sae, objective_of(members, width, kind), x, weight, dead)


@pytest.mark.parametrize(
    "others",
    [{"subtract_b_dec": False}, {"tied": True}, {"frozen": ("b_enc",)}, {"frozen": ("W_dec",)},
     {"tied": True, "frozen": ("b_dec",)}, {"widths": (9, 6)}],
)  # fmt: skip
def test_every_kind_of_sae(others):
    sae = make_sae(2, 9, 5, BatchTopK(2, 2), **others)
    for kind in ("plain", "nested"):
        assert_equal(sae, objective_of(2, 9, kind), draw(8, 5), dead=4)


@settings(max_examples=40)
@given(
    members=st.integers(1, 3), batch=st.integers(1, 9), width=st.integers(6, 12),
    d_in=st.integers(1, 9), dead=st.integers(0, 12), seed=st.integers(0, 2**20),
)  # fmt: skip
def test_any_size(members, batch, width, d_in, dead, seed):
    sae = make_sae(members, width, d_in, BatchTopK(2, members))
    x = draw(batch, d_in, seed=seed)
    assert_equal(sae, objective_of(members, width, "nested"), x, dead=min(dead, width))


def test_memory_that_holds_nan_is_overwritten():
    sae = make_sae(1, 9, 5, BatchTopK(2, 1))
    objective = objective_of(1, 9, "plain")
    by_hand = SparseStep.of(sae, objective, autocast=False)
    assert by_hand is not None
    for memory in by_hand.memory:
        assert isinstance(memory, Workspace)
        memory.room((9, 5), sae.W_enc).fill_(math.nan)
    with force_path("sparse"):
        by_hand.step(draw(8, 5), None, progress(1, 9))
    for weight in (sae.W_enc, sae.W_dec):
        assert bool(weight.grad.isfinite().all())


def test_what_needs_automatic_differentiation():
    def step_of(sparsifier: Sparsifier, *terms) -> SparseStep | None:
        sae = make_sae(1, 9, 5, sparsifier)
        return SparseStep.of(sae, Objective(terms), autocast=False)

    gate = BatchTopK(2, 1)
    assert step_of(gate, SquaredError()) is not None
    assert step_of(ReLU(), SquaredError()) is None
    assert step_of(gate, SquaredError(), Lp(0.1)) is None
    assert step_of(gate, SquaredError(), SquaredError()) is None
    assert step_of(gate, SquaredError(ramp=Ramp(length=10))) is None
    assert step_of(gate, SquaredError(gamma=torch.ones(5))) is None
    assert step_of(gate, Matryoshka([SquaredError(), Lp(0.1)], levels=(3, 9))) is None
    assert step_of(gate, Matryoshka([SquaredError()], levels=(3, 8))) is None
    sae = make_sae(1, 9, 5, gate)
    assert SparseStep.of(sae, Objective([SquaredError()]), autocast=True) is None


@pytest.mark.parametrize("name", ["topk", "batchtopk", "matryoshka_batchtopk"])
def test_recipes_of_language_models_run_by_hand(name):
    levels = {"levels": (16, 64)} if name.startswith("matryoshka") else {}
    recipe = recipes.RECIPES[name](d_in=8, width=64, k=4, **levels)
    assert SparseStep.of(recipe.sae, recipe.objective, autocast=False) is not None
