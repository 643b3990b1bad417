"""The optimiser's step, against the plain one: project, clip, Adam, normalise, one by one."""

import pytest
import torch
from torch.nn import functional as F

from latent_assay.errors import ShapeError
from latent_assay.kernels.triton import adam_rows, gradient_norms
from tests.kernels.triton.compare import draw

SIZES = [(1, 1, 1), (3, 4, 7), (2, 3, 300)]


def plain(p, g, m, v, *, lr, accept, step, betas, eps, limit, unit):
    """In float64, as it is written in papers."""
    p, g, m, v = (each.double() for each in (p, g, m, v))
    take = accept.view(-1, 1, 1)
    if unit:
        g = g - (g * p).sum(-1, keepdim=True) * p
    norm = g.square().sum((1, 2)).sqrt()
    if limit is not None:
        g = g * (limit / (norm + 1e-6)).clamp_max(1).view(-1, 1, 1)
    m2 = betas[0] * m + (1 - betas[0]) * g
    v2 = betas[1] * v + (1 - betas[1]) * g * g
    fraction = (m2 / (1 - betas[0] ** step)) / ((v2 / (1 - betas[1] ** step)).sqrt() + eps)
    p2 = p - lr.view(-1, 1, 1) * fraction
    m, v, p = (torch.where(take, *pair) for pair in ((m2, m), (v2, v), (p2, p)))
    return F.normalize(p, dim=-1) if unit else p, m, v, norm


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("clip", [None, 0.1, 1e6])
def test_three_steps(device, size, unit, clip):
    members = size[0]
    p = draw(*size, seed=1, dtype=torch.float32, device=device)
    if unit:
        p = F.normalize(p, dim=-1)
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    accept = torch.tensor([True, False, True][:members], device=device)
    lr = torch.tensor([1e-2, 1e-3, 3e-2][:members], dtype=torch.float64, device=device)
    limit = None if clip is None else torch.full((members,), clip, device=device).double()
    settings = {"betas": (0.9, 0.99), "eps": 1e-8}
    # the kernel's numbers go into both, so that errors do not add up over steps
    for step in (1, 2, 3):
        g = draw(*size, seed=step + 1, dtype=torch.float32, device=device)
        if members > 1:
            g[1] = torch.nan
        expected = plain(
            p, g, m, v, lr=lr, accept=accept, step=step, limit=limit, unit=unit, **settings
        )
        before = [each.clone() for each in (p, g, m, v)]
        radial, square = gradient_norms(g, p if unit else None)
        assert (radial is None) != unit
        torch.testing.assert_close(square.sqrt().double(), expected[3], equal_nan=True)
        scale = None if limit is None else (limit / (square.sqrt() + 1e-6)).clamp_max(1)
        adam_rows(
            p,
            g,
            m,
            v,
            lr=lr,
            accept=accept,
            step=step,
            scale=scale,
            radial=radial,
            unit=unit,
            **settings,
        )
        # float32 to start with, and the sum over a row of 300
        for found, exact in zip((p, m, v), expected, strict=False):
            torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
        assert torch.equal(g.isnan(), before[1].isnan())
        assert torch.equal(g.nan_to_num(), before[1].nan_to_num())
        if members > 1:
            assert torch.equal(m[1], before[2][1])
            assert torch.equal(v[1], before[3][1])
            if not unit:
                assert torch.equal(p[1], before[0][1])
    if unit:
        torch.testing.assert_close(p.norm(dim=-1), torch.ones_like(p[..., 0]))


def test_unit_rows_of_zero_stay_zero(device):
    p = torch.zeros(1, 2, 5, device=device)
    p[0, 0, 0] = 1
    g, m, v = torch.zeros_like(p), torch.zeros_like(p), torch.zeros_like(p)
    lr = torch.ones(1, dtype=torch.float64, device=device)
    accept = torch.tensor([True], device=device)
    adam_rows(p, g, m, v, lr=lr, accept=accept, step=1, unit=True)
    assert p[0].tolist() == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_bfloat16_gradients_and_weights(device):
    """Arithmetic stays in float32; only what is stored is rounded."""
    p, g = (draw(2, 3, 9, seed=s, dtype=torch.bfloat16, device=device) for s in (1, 2))
    m, v = (torch.zeros(2, 3, 9, device=device) for _ in range(2))
    wide = p.float()
    lr = torch.full((2,), 0.5, dtype=torch.float64, device=device)
    accept = torch.tensor([True, True], device=device)
    adam_rows(wide, g, m.clone(), v.clone(), lr=lr, accept=accept, step=1)
    adam_rows(p, g, m, v, lr=lr, accept=accept, step=1)
    torch.testing.assert_close(p.float(), wide, rtol=2**-7, atol=0)
    torch.testing.assert_close(m, 0.1 * g.float())


def test_members_do_not_meet(device):
    """A member in company ends at the bits at which it ends alone."""
    p, g = (draw(3, 4, 9, seed=s, dtype=torch.float32, device=device) for s in (1, 2))
    p = F.normalize(p, dim=-1)
    lr = torch.tensor([1e-2, 1e-3, 3e-2], dtype=torch.float64, device=device)
    accept = torch.ones(3, dtype=torch.bool, device=device)

    def after(part):
        own = [each[part].clone() for each in (p, g, torch.zeros_like(p), torch.zeros_like(p))]
        radial, square = gradient_norms(own[1], own[0])
        adam_rows(
            *own,
            lr=lr[part],
            accept=accept[part],
            step=1,
            scale=(0.1 / square.sqrt()).clamp_max(1),
            radial=radial,
            unit=True,
        )
        return torch.stack(own)

    together = after(slice(None))
    for member in range(3):
        part = slice(member, member + 1)
        assert torch.equal(after(part), together[:, part])


def test_what_is_changed_in_place_must_be_one_block(device):
    p = torch.zeros(1, 2, 10, device=device)[..., ::2]
    g = torch.zeros(1, 2, 5, device=device)
    lr = torch.ones(1, dtype=torch.float64, device=device)
    with pytest.raises(ShapeError, match=r"parameter must be contiguous .*strides \(20, 10, 2\)"):
        adam_rows(p, g, g, g, lr=lr, accept=torch.tensor([True], device=device), step=1)
