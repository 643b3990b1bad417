"""Gradients by hand equal those of automatic differentiation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latent_assay import recipes
from latent_assay.kernels import force_path, prefers_gram
from latent_assay.losses import AuxK, Lp, Objective, Progress, SquaredError
from latent_assay.recipes import Recipe
from latent_assay.sae import SAE
from latent_assay.sparsifiers import BatchTopK, JumpReLU, ReLU, Sparsifier, TopK
from latent_assay.training.gram_step import GramStep

PARAMETERS = ("W_enc", "W_dec", "b_enc", "b_dec")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def progress(members: int, width: int, step: int = 500) -> Progress:
    since = torch.zeros(members, width, dtype=torch.int64)
    return Progress(step=step, samples=512 * step, since_fired=since)


def make_sae(members: int, width: int, d_in: int, sparsifier: Sparsifier, **settings) -> SAE:
    tied = settings.pop("tied", False)
    sae = SAE(
        draw(members, width, d_in, seed=1),
        None if tied else draw(members, width, d_in, seed=2),
        b_enc=0.3 * draw(members, width, seed=3),
        b_dec=0.3 * draw(members, d_in, seed=4),
        sparsifier=sparsifier,
        **settings,
    )
    return sae.train()


def gradients(sae: SAE, objective: Objective, x, weight) -> tuple[dict, dict]:
    """By hand, and by autograd."""
    members, width = sae.members, sae.width
    direct = GramStep.of(sae, objective, autocast=False)
    assert direct is not None
    found = []
    for path in ("gram", "dense"):
        sae.zero_grad()
        with force_path(path):
            forward = direct.step(x, weight, progress(members, width))
            assert (forward is None) == (path == "dense")
            if forward is None:
                from latent_assay.losses import Forward

                forward = Forward(sae, x, weight)
                total, _ = objective(forward, progress(members, width))
                total.sum().backward()
        found.append(
            {name: p.grad for name, p in sae.named_parameters() if p.requires_grad}
            | {"z": forward.z.detach(), "pre": forward.pre.detach()}
        )
    return found[0], found[1]


def assert_equal(mine: dict, reference: dict) -> None:
    assert set(mine) == set(reference)
    for name, expected in reference.items():
        torch.testing.assert_close(mine[name], expected, rtol=1e-10, atol=1e-10)


SPARSIFIERS = {
    "relu": lambda members: ReLU(),
    "topk": lambda members: TopK(2, members),
    "topk, k by member": lambda members: TopK([1 + m % 2 for m in range(members)]),
    "batchtopk": lambda members: BatchTopK(1.5, members),
}


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("weighted", [None, "shared", "own"])
@pytest.mark.parametrize("kind", SPARSIFIERS)
def test_every_gate(kind, weighted, own):
    members, batch, width, d_in = 3, 7, 4, 9
    sae = make_sae(members, width, d_in, SPARSIFIERS[kind](members))
    x = draw(members, batch, d_in) if own else draw(batch, d_in)
    weight = None
    if weighted is not None:
        weight = draw(*((members, batch) if weighted == "own" else (batch,)), seed=5).abs()
        weight[..., 2] = 0.0
        weight = weight / weight.sum(-1, keepdim=True)
    objective = Objective([SquaredError([1.0, 0.5, 2.0]), Lp([0.0, 0.3, 0.1])])
    assert_equal(*gradients(sae, objective, x, weight))


@pytest.mark.parametrize(
    "settings",
    [{"subtract_b_dec": False}, {"tied": True}, {"frozen": ("b_enc",)}, {"frozen": ("W_dec",)},
     {"tied": True, "frozen": ("b_dec",)}, {"widths": (4, 3)}],
)  # fmt: skip
def test_every_kind_of_sae(settings):
    sae = make_sae(2, 4, 9, ReLU(), **settings)
    for penalty in (Lp(0.2), Lp(0.2, weight_by_decoder_norm=False)):
        mine, reference = gradients(sae, Objective([SquaredError(), penalty]), draw(8, 9), None)
        assert_equal(mine, reference)


@given(
    members=st.integers(1, 4), batch=st.integers(1, 9), width=st.integers(1, 6),
    d_in=st.integers(1, 9), seed=st.integers(0, 2**20),
)  # fmt: skip
def test_any_size(members, batch, width, d_in, seed):
    sae = make_sae(members, width, d_in, ReLU())
    x = draw(batch, d_in, seed=seed)
    assert_equal(*gradients(sae, Objective([SquaredError(), Lp(0.1)]), x, None))


def test_rows_of_length_zero_are_not_pulled():
    sae = make_sae(1, 3, 5, ReLU())
    with torch.no_grad():
        sae.W_dec[:, 0] = 0
    mine, reference = gradients(sae, Objective([SquaredError(), Lp(0.1)]), draw(6, 5), None)
    assert_equal(mine, reference)
    assert bool(torch.stack([mine[name].isfinite().all() for name in PARAMETERS]).all())


def gram_step_of(sae: SAE, *terms) -> GramStep | None:
    return GramStep.of(sae, Objective(terms), autocast=False)


def test_what_needs_automatic_differentiation():
    sae = make_sae(1, 3, 8, ReLU())
    assert gram_step_of(sae, SquaredError()) is not None
    assert GramStep.of(sae, Objective([SquaredError()]), autocast=True) is None
    assert gram_step_of(sae, Lp(0.1)) is None
    assert gram_step_of(sae, SquaredError(), Lp(0.1, p=0.5)) is None
    assert gram_step_of(sae, SquaredError(), SquaredError()) is None
    assert gram_step_of(sae, SquaredError(0.0)) is None
    assert gram_step_of(sae, SquaredError(gamma=torch.ones(8))) is None
    jump = make_sae(1, 3, 8, JumpReLU(torch.zeros(1, 3, dtype=torch.float64)))
    assert gram_step_of(jump, SquaredError()) is None
    assert gram_step_of(make_sae(1, 3, 8, ReLU()), *_matryoshka().objective.terms) is None


def _matryoshka() -> Recipe:
    return recipes.matryoshka_batchtopk(d_in=8, width=3, k=1, levels=(1, 3))


def test_dead_latents_are_rescued_by_autograd():
    sae = make_sae(1, 3, 8, TopK(1))
    rescue = AuxK(1.0, members=1, width=3, k=2, dead_after=10, refresh=1)
    direct = gram_step_of(sae, SquaredError(), rescue)
    assert direct is not None
    x = draw(4, 8)
    with force_path("gram"):
        assert direct.step(x, None, progress(1, 3)) is not None
        dying = Progress(step=1, samples=4, since_fired=torch.tensor([[0, 50, 0]]))
        assert direct.step(x, None, dying) is None


def test_where_inner_products_pay():
    like = torch.zeros(1)
    tiny = {"members": 64, "batch": 16, "width": 4, "d_in": 50}
    assert prefers_gram(**tiny, like=like)
    assert not prefers_gram(**(tiny | {"width": 64}), like=like)
    assert not prefers_gram(members=1, batch=2048, width=8192, d_in=20_000, like=like)
    for half in (like.bfloat16(), like.half()):
        assert not prefers_gram(**tiny, like=half)
        with force_path("gram"):
            assert not prefers_gram(**tiny, like=half)
