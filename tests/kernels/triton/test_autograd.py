"""Encode, select and decode through the kernels against the dense pass: values and gradients."""

import itertools

import pytest
import torch

from latent_assay.kernels import Selection
from latent_assay.kernels.triton import selected_encode, sparse_decode
from tests.kernels.triton.compare import draw, entries, of_mask

CASES = list(
    itertools.product(
        [(1, 1), (3, 9)],  # members and batch
        [False, True],  # a batch for each member
        [((8,), False), ((3, 8), False), ((1, 2, 7, 8), True)],  # matryoshka bounds; prefix sums
    )
)


class Pass:
    """Random weights and inputs, and all that comes of them."""

    def __init__(self, device, members, batch, width, d_in, own_x, dtype=torch.float32):
        def make(*shape, seed):
            return draw(*shape, seed=seed, dtype=dtype, device=device)

        self.x = make(members, batch, d_in, seed=1) if own_x else make(batch, d_in, seed=1)
        self.W_enc = make(members, width, d_in, seed=2)
        self.W_dec = make(members, width, d_in, seed=3)
        self.bias = make(members, width, seed=4)
        self.parameters = [self.W_enc, self.W_dec, self.bias]

    def pre(self, W_enc, bias, x):
        return x.expand(len(W_enc), -1, -1) @ W_enc.mT + bias.unsqueeze(1)

    def gradients(self, run, dtype=None):
        """Outputs and gradients of a loss that looks at every group in its own way."""
        own = [p.detach().to(dtype or p.dtype).requires_grad_() for p in self.parameters]
        out = run(self.x.to(own[0].dtype), *own)
        upstream = draw(*out.shape, seed=9, dtype=torch.float64, device=out.device).to(out.dtype)
        ((out * upstream).sum() + out.square().sum()).backward()
        return [out.detach(), *(p.grad for p in own)]

    def dense(self, selection, bounds, prefix):
        mask = torch.zeros(
            selection.members * selection.batch, selection.width, device=self.x.device
        )
        mask[selection.row, selection.latent] = 1

        def run(x, W_enc, W_dec, bias):
            z = self.pre(W_enc, bias, x)
            z = z.relu() * mask.view_as(z)
            starts = [0] * len(bounds) if prefix else [0, *bounds[:-1]]
            return torch.stack(
                [z[:, :, a:b] @ W_dec[:, a:b] for a, b in zip(starts, bounds, strict=True)]
            )

        return self.gradients(run, torch.float64)

    def kernels(self, selection, bounds, prefix):
        def run(x, W_enc, W_dec, bias):
            with torch.no_grad():
                pre = selection.gather(self.pre(W_enc, bias, x))
            z = selected_encode(x, W_enc, bias, pre, selection)
            return sparse_decode(z, W_dec, selection, bounds, prefix=prefix)

        return self.gradients(run)


def compare(one, selection, bounds, prefix):
    dense = one.dense(selection, bounds, prefix)
    for found, exact in zip(one.kernels(selection, bounds, prefix), dense, strict=True):
        assert found.shape == exact.shape
        scale = 1 + float(exact.abs().max())
        assert float((found.double() - exact).abs().max()) <= 2e-6 * scale


def test_kernels_equal_dense(device):
    for (members, batch), own_x, (bounds, prefix) in CASES:
        one = Pass(device, members, batch, 8, 5, own_x)
        selection = entries(members, batch, 8, share=0.4, seed=6, device=device)
        compare(one, selection, bounds, prefix)


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("bounds", [(8,), (2, 8), tuple(range(1, 9))])
def test_a_fixed_number_in_no_order(device, k, bounds):
    """TopK lists the latents of a sample as they come."""
    one = Pass(device, 2, 7, 8, 5, own_x=False)
    index = draw(2, 7, 8, seed=5, dtype=torch.float32, device=device).topk(k, sorted=False).indices
    offset = torch.arange(2, device=device).view(-1, 1, 1) * 8
    selection = Selection(
        members=2,
        batch=7,
        width=8,
        row_start=torch.arange(15, device=device) * k,
        column=(index.flip(-1) + offset).reshape(-1),
    )
    for prefix in (False, True):
        compare(one, selection, bounds, prefix)


def test_wider_than_a_tile(device):
    one = Pass(device, 1, 4, 6, 300, own_x=False)
    compare(one, entries(1, 4, 6, share=0.5, seed=6, device=device), (2, 6), True)


def test_one_latent_for_every_sample(device):
    mask = torch.zeros(1, 300, 4, dtype=torch.bool)
    mask[:, :, 2] = True
    compare(Pass(device, 1, 300, 4, 5, own_x=False), of_mask(mask, device), (2, 4), False)


def test_nothing_fires(device):
    one = Pass(device, 2, 3, 4, 5, own_x=True)
    selection = of_mask(torch.zeros(2, 3, 4, dtype=torch.bool), device)
    out, *gradients = one.kernels(selection, (1, 4), True)
    assert out.shape == (2, 2, 3, 5)
    assert not any(each.any() for each in (out, *gradients))


def test_bfloat16_values_with_float32_weights(device):
    """As under autocast: pre-activations are rounded, weights and gradients are not."""
    one = Pass(device, 2, 6, 8, 5, own_x=False)
    selection = entries(2, 6, 8, share=0.4, seed=6, device=device)

    def run(x, W_enc, W_dec, bias):
        with torch.no_grad():
            pre = selection.gather(one.pre(W_enc, bias, x)).bfloat16()
        z = selected_encode(x, W_enc, bias, pre, selection)
        assert z.dtype == torch.bfloat16
        return sparse_decode(z, W_dec, selection, (3, 8))

    exact = one.dense(selection, (3, 8), False)
    found = one.gradients(run)
    for rounded, full in zip(found, exact, strict=True):
        assert rounded.dtype == torch.float32
        # values and their gradients carry eight bits
        assert float((rounded.double() - full).abs().max()) <= 2**-6 * (1 + float(full.abs().max()))


def test_frozen_decoder(device):
    one = Pass(device, 1, 6, 8, 5, own_x=False)
    selection = entries(1, 6, 8, share=0.4, seed=6, device=device)
    value = torch.ones(selection.column.numel(), device=device, requires_grad=True)
    out = sparse_decode(value, one.W_dec, selection, (8,))
    out.sum().backward()
    torch.testing.assert_close(value.grad, one.W_dec[0].sum(-1)[selection.column])
    assert one.W_dec.grad is None


def test_the_index_is_built_once(device):
    selection = entries(1, 6, 8, share=0.4, seed=6, device=device)
    one = Pass(device, 1, 6, 8, 5, own_x=False)
    one.kernels(selection, (8,), False)
    kept = selection.__dict__["inverted_index"]
    one.kernels(selection, (8,), False)
    assert selection.__dict__["inverted_index"] is kept
