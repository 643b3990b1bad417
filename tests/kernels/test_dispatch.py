import pytest
import torch

from latent_assay.kernels import force_path, prefers_sparse
from latent_assay.sae import SAE
from latent_assay.sparsifiers import TopK

LARGE = {"members": 1, "batch": 2048, "width": 4096, "d_in": 384, "l0": 32.0}
SMALL = {"members": 8, "batch": 1024, "width": 4, "d_in": 50, "l0": 1.0}
FLOAT = torch.zeros(1)


def test_large_and_sparse_goes_sparse():
    assert prefers_sparse(**LARGE, like=FLOAT)
    assert prefers_sparse(**LARGE, like=FLOAT.double())


def test_small_goes_dense():
    assert not prefers_sparse(**SMALL, like=FLOAT)


def test_many_firing_latents_go_dense():
    assert not prefers_sparse(**(LARGE | {"l0": 512.0}), like=FLOAT)


@pytest.mark.parametrize("path", ["dense", "sparse"])
@pytest.mark.parametrize("like", [FLOAT.bfloat16(), FLOAT.half(), torch.empty(1, device="meta")])
def test_types_without_sparse_products_go_dense(path, like):
    assert not prefers_sparse(**LARGE, like=like)
    with force_path(path):
        assert not prefers_sparse(**LARGE, like=like)


def test_autocast_goes_dense():
    """There are no sparse products in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        assert not prefers_sparse(**LARGE, like=FLOAT)
    assert prefers_sparse(**LARGE, like=FLOAT)


def test_forced_whatever_the_sizes():
    with force_path("sparse"):
        assert prefers_sparse(**SMALL, like=FLOAT)
        with force_path("dense"):
            assert not prefers_sparse(**LARGE, like=FLOAT)
        assert prefers_sparse(**SMALL, like=FLOAT)
    assert not prefers_sparse(**SMALL, like=FLOAT)
    assert prefers_sparse(**LARGE, like=FLOAT)


def test_force_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), force_path("sparse"):
        _ = 1 / 0
    assert not prefers_sparse(**SMALL, like=FLOAT)


def test_an_x_that_wants_a_gradient_goes_dense():
    """The sparse path has none for it."""
    sae = SAE(torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0)), sparsifier=TopK(2))
    x = torch.ones(3, 4, requires_grad=True)
    with force_path("sparse"):
        z, _ = sae.latents(x)
        z.dense().sum().backward()
        assert x.grad is not None
        assert bool(x.grad.any())
        assert type(sae.latents(x.detach())[0]).__name__ == "SparseLatents"
