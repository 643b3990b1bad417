"""The sparse path against the dense one: values and every gradient."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latent_assay.kernels import SparseLatents, force_path
from latent_assay.losses import Forward, Matryoshka, Objective, Progress, SquaredError
from latent_assay.sae import SAE, DenseLatents
from latent_assay.sparsifiers import BatchTopK, Sparsifier, TopK

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def draw(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make(
    sparsifier: Sparsifier, members: int, width: int, d_in: int, dtype: torch.dtype, tied: bool
) -> SAE:
    return SAE(
        draw(members, width, d_in, seed=1, dtype=dtype),
        None if tied else draw(members, width, d_in, seed=2, dtype=dtype),
        b_enc=draw(members, width, seed=3, dtype=dtype),
        b_dec=draw(members, d_in, seed=4, dtype=dtype),
        sparsifier=sparsifier,
    )


def outcome(sae: SAE, x: Tensor, weight: Tensor | None, bounds: tuple[int, ...], path: str) -> dict:
    """All that a pass yields, and the gradients of a loss that looks at every part of it."""
    sae.zero_grad()
    with force_path(path):
        latents, pre = sae.latents(x, weight)
    assert isinstance(latents, SparseLatents if path == "sparse" else DenseLatents)
    parts = latents.decode(sae.W_dec, bounds)
    loss = latents.dense().square().sum()
    for number, part in enumerate(parts):
        upstream = draw(*part.shape, seed=10 + number, dtype=part.dtype)
        loss = loss + (part * upstream).sum() + part.square().sum()
    if loss.requires_grad:
        (loss + (sae.b_dec.square()).sum()).backward()
    return {
        "z": latents.dense(),
        "pre": pre,
        "parts": torch.stack(parts),
        "fired": latents.fired(weight),
        "l0": latents.l0(weight),
        **{f"gradient of {name}": each.grad for name, each in sae.named_parameters()},
    }


def compare(sae: SAE, x: Tensor, bounds: tuple[int, ...], weight: Tensor | None = None) -> dict:
    dense = outcome(sae, x, weight, bounds, "dense")
    sparse = outcome(sae, x, weight, bounds, "sparse")
    tolerance = TOLERANCE[sae.W_enc.dtype]
    for name in dense:
        one, two = dense[name], sparse[name]
        assert one is not None, name
        assert one.dtype == two.dtype, name
        one, two = one.detach().double(), two.detach().double()
        scale = 1.0 + float(one.abs().max())
        assert float((one - two).abs().max()) <= tolerance * scale, name
    return dense


CASES = list(
    itertools.product(
        [1, 3],  # members
        [1, 9],  # batch
        [False, True],  # a batch for each member
        [(8,), (3, 8), (1, 2, 7, 8)],  # matryoshka bounds
        [torch.float32, torch.float64],
    )
)


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "uneven topk"])
def test_sparse_equals_dense(kind):
    for members, batch, own_x, bounds, dtype in CASES:
        width, d_in = 8, 5
        sparsifier: Sparsifier = {
            "topk": lambda m: TopK(3, m),
            "batchtopk": lambda m: BatchTopK(2.5, m),
            "uneven topk": lambda m: TopK([4, 1, 8][:m]),
        }[kind](members)
        sae = make(sparsifier, members, width, d_in, dtype, tied=False)
        shape = (members, batch, d_in) if own_x else (batch, d_in)
        compare(sae, draw(*shape, seed=5, dtype=dtype), bounds)


@pytest.mark.parametrize("k", [1, 8])
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("tied", [False, True])
def test_k_from_one_to_the_width(k, batch, tied):
    x = draw(batch, 5, seed=5, dtype=torch.float64)
    for sparsifier in (TopK(k, 2), BatchTopK(k, 2)):
        compare(make(sparsifier, 2, 8, 5, torch.float64, tied), x, (8,))


@given(
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(0, 2**20),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_sizes(members, batch, width, d_in, seed, data):
    k = data.draw(st.integers(1, width))
    inner = data.draw(st.sets(st.integers(1, max(width - 1, 1)), max_size=3))
    bounds = (*sorted(each for each in inner if each < width), width)
    kind = data.draw(st.sampled_from([TopK, BatchTopK]))
    sae = make(kind(k, members), members, width, d_in, torch.float64, data.draw(st.booleans()))
    own_x = data.draw(st.booleans())
    shape = (members, batch, d_in) if own_x else (batch, d_in)
    compare(sae, draw(*shape, seed=seed, dtype=torch.float64), bounds)


@pytest.mark.parametrize("sparsifier", [TopK(2), BatchTopK(2)])
def test_nothing_fires(sparsifier):
    sae = make(sparsifier, 1, 8, 5, torch.float64, tied=False)
    with torch.no_grad():
        sae.b_enc.fill_(-1e6)
    seen = compare(sae, draw(4, 5, seed=5, dtype=torch.float64), (3, 8))
    assert not seen["fired"].any()
    assert not seen["parts"].any()
    assert not seen["gradient of W_enc"].any()
    assert seen["l0"].tolist() == [0.0]


def test_an_empty_group():
    """No latent of the middle group fires for any sample."""
    sae = make(TopK(2), 1, 8, 5, torch.float64, tied=False)
    with torch.no_grad():
        sae.b_enc[:, 3:6] = -1e6
    seen = compare(sae, draw(4, 5, seed=5, dtype=torch.float64), (3, 6, 8))
    assert not seen["parts"][1].any()
    assert not seen["gradient of W_dec"][:, 3:6].any()
    assert seen["parts"][0].any()


@pytest.mark.parametrize("sparsifier", [TopK(2, 3), BatchTopK(1.5, 3)])
def test_weights(sparsifier):
    weight = torch.tensor([0.5, 0.0, 0.25, 0.25], dtype=torch.float64)
    sae = make(sparsifier, 3, 8, 5, torch.float64, tied=False)
    x = draw(4, 5, seed=5, dtype=torch.float64)
    x[1] *= 50  # of weight 0, it fires latents that no other sample fires
    with force_path("dense"):
        z, _ = sae.latents(x, weight)
    seen = compare(sae, x, (8,), weight)
    firing = (z.dense() != 0).double()
    assert torch.equal(seen["fired"], firing[:, [0, 2, 3]].any(1))
    assert not torch.equal(seen["fired"], firing.any(1))
    expected = (firing.sum(-1) * weight).sum(-1)
    torch.testing.assert_close(seen["l0"], expected)


def test_selected_but_not_positive_counts_as_not_firing():
    """TopK lists k entries for each sample, of which some may be zero or less."""
    sae = SAE(torch.eye(3, dtype=torch.float64)[None], sparsifier=TopK(3))
    seen = compare(sae, torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64), (3,))
    assert seen["fired"].tolist() == [[True, False, False]]
    assert seen["l0"].tolist() == [1.0]


def test_evaluation_selects_above_the_running_threshold():
    sae = make(BatchTopK(2), 1, 8, 5, torch.float64, tied=False)
    x = draw(16, 5, seed=5, dtype=torch.float64)
    sae.encode(x)
    sae.eval()
    compare(sae, x, (8,))


@pytest.mark.parametrize("detached", [False, True])
def test_a_matryoshka_loss(detached):
    sae = make(BatchTopK(2.5, 2), 2, 8, 5, torch.float64, tied=False)
    x = draw(16, 5, seed=5, dtype=torch.float64)
    progress = Progress(step=0, samples=0, since_fired=torch.zeros(2, 8, dtype=torch.int64))
    objective = Objective(
        [Matryoshka([SquaredError()], levels=(2, 5, 8), beta=(0.5, 0.0, 1.0), detached=detached)]
    )
    seen = []
    for path in ("dense", "sparse"):
        sae.zero_grad()
        with force_path(path):
            total, _ = objective(Forward(sae, x), progress)
        total.sum().backward()
        seen.append([total.detach(), *(p.grad.clone() for p in sae.parameters())])
    for one, two in zip(*seen, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)
