"""Adam and clipping, one member at a time, against the formulas written out."""

import math

import pytest
import torch
from torch import Tensor

from latent_assay.optimizer import Adam, clip_by_member

SHAPES = {"W": (3, 4, 2), "b": (3, 4)}
YES = torch.ones(3, dtype=torch.bool)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def start() -> dict[str, Tensor]:
    return {name: draw(*shape).requires_grad_() for name, shape in SHAPES.items()}


def give_gradients(parameters: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    gradients = {name: draw(*p.shape, seed=10 + step) for name, p in parameters.items()}
    for name, p in parameters.items():
        p.grad = gradients[name].clone()
    return gradients


# one rate (fused), two groups (fused in two calls), as many as members (plain, when forced)
RATES = [(0.1, 0.1, 0.1), (0.1, 0.1, 0.02), (0.1, 0.02, 0.3)]


@pytest.mark.parametrize("lr", RATES)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99)])
def test_adam_follows_its_formula(lr, fused, betas):
    parameters = start()
    adam = Adam(parameters, lr=lr, betas=betas, eps=1e-3)
    assert adam.fused
    adam.fused = fused
    value = {name: p.detach().clone() for name, p in parameters.items()}
    m = {name: torch.zeros_like(p) for name, p in value.items()}
    v = {name: torch.zeros_like(p) for name, p in value.items()}
    for step, factor in enumerate((1.0, 0.5, 1.0, 0.25)):
        gradients = give_gradients(parameters, step)
        adam.step(factor, YES)
        for name, g in gradients.items():
            m[name] = betas[0] * m[name] + (1 - betas[0]) * g
            v[name] = betas[1] * v[name] + (1 - betas[1]) * g**2
            m_hat = m[name] / (1 - betas[0] ** (step + 1))
            v_hat = v[name] / (1 - betas[1] ** (step + 1))
            rate = factor * torch.tensor(lr, dtype=torch.float64)
            rate = rate.view(-1, *[1] * (g.dim() - 1))
            value[name] = value[name] - rate * m_hat / (v_hat.sqrt() + 1e-3)
            # torch keeps the step's number in float32, hence not closer
            torch.testing.assert_close(parameters[name].detach(), value[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("fused", [True, False])
def test_a_refused_member_stays_as_it_is(fused):
    """So do those that share its fused call, and nobody else."""
    parameters = start()
    adam = Adam(parameters, lr=(0.1, 0.1, 0.02))
    adam.fused = fused
    give_gradients(parameters, 0)
    adam.step(1.0, YES)
    state = {name: tensor.clone() for name, tensor in adam.state_dict().items()}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    give_gradients(parameters, 1)
    for p in parameters.values():
        p.grad[0] = math.nan
    adam.step(1.0, torch.tensor([False, True, True]))
    still = [0, 1] if fused else [0]
    moved = [member for member in range(3) if member not in still]
    after = adam.state_dict()
    for name, p in parameters.items():
        assert torch.equal(p[still], before[name][still])
        assert not bool((p[moved] == before[name][moved]).any())
        for moment in (f"first.{name}", f"second.{name}"):
            assert torch.equal(after[moment][still], state[moment][still])
            assert bool(after[moment].isfinite().all())


@pytest.mark.parametrize("fused", [True, False])
def test_a_saved_state_continues_the_same_way(fused):
    parameters, copies = start(), start()
    adam, other = Adam(parameters, lr=(0.1,) * 3), Adam(copies, lr=(0.1,) * 3)
    adam.fused = other.fused = fused
    for step in range(3):
        give_gradients(parameters, step)
        adam.step(1.0, YES)
    other.load_state_dict({name: each.clone() for name, each in adam.state_dict().items()})
    assert other.steps == 3
    with torch.no_grad():
        for name, p in copies.items():
            p.copy_(parameters[name])
    for each, optimizer in ((parameters, adam), (copies, other)):
        give_gradients(each, 7)
        optimizer.step(1.0, YES)
    for name, p in copies.items():
        assert torch.equal(p, parameters[name])


@pytest.mark.parametrize("fused", [True, False])
def test_a_parameter_without_gradient_is_left_alone(fused):
    parameters = start()
    adam = Adam(parameters, lr=(0.1,) * 3)
    adam.fused = fused
    before = parameters["b"].detach().clone()
    give_gradients(parameters, 0)
    parameters["b"].grad = None
    adam.step(1.0, YES)
    assert torch.equal(parameters["b"], before)
    assert adam.first["W"].any()


def test_many_rates_and_odd_types_take_the_plain_formula():
    five = {"b": torch.zeros(5, 2)}
    assert not Adam(five, lr=(1.0, 2.0, 3.0, 4.0, 5.0)).fused
    assert Adam(five, lr=(1.0, 2.0, 3.0, 4.0, 4.0)).fused
    assert not Adam({"b": torch.zeros(5, 2, dtype=torch.bfloat16)}, lr=(1.0,) * 5).fused


def test_plain_adam_moves_bfloat16():
    p = torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True)
    adam = Adam({"p": p}, lr=(0.5, 0.25))
    p.grad = torch.tensor([[1.0, -1.0, 0.0]] * 2).bfloat16()
    adam.step(1.0, YES[:2])
    expected = torch.tensor([[0.5, 1.5, 1.0], [0.75, 1.25, 1.0]])
    torch.testing.assert_close(p.detach().float(), expected, rtol=0.02, atol=0)


# ---------------------------------------------------------------- clipping


def norm_of(gradients: list[Tensor], member: int) -> float:
    return math.sqrt(sum(float(g[member].square().sum()) for g in gradients))


def test_clipping_scales_each_member_by_its_own_norm():
    gradients = [draw(3, 4, 2), draw(3, 4, seed=1)]
    for g in gradients:
        g[1] *= 1e-3
    before = [g.clone() for g in gradients]
    limit = torch.tensor([0.5, 0.5, math.inf], dtype=torch.float64)
    norm = clip_by_member(gradients, limit)
    assert norm.tolist() == pytest.approx([norm_of(before, m) for m in range(3)], rel=1e-12)
    assert norm_of(gradients, 0) == pytest.approx(0.5, rel=1e-5)
    for g, old in zip(gradients, before, strict=True):
        torch.testing.assert_close(g[0], old[0] * 0.5 / (norm[0] + 1e-6))
        assert torch.equal(g[1:], old[1:])


def test_no_limit_measures_only():
    gradients = [draw(3, 4)]
    norm = clip_by_member(gradients, None)
    assert torch.equal(gradients[0], draw(3, 4))
    assert norm.tolist() == pytest.approx([norm_of(gradients, m) for m in range(3)])


def test_a_member_without_gradient_or_with_nan_disturbs_nobody():
    gradients = [draw(3, 4)]
    gradients[0][0] = 0.0
    gradients[0][1] = math.nan
    norm = clip_by_member(gradients, torch.full((3,), 0.1))
    assert norm[0].item() == 0.0
    assert not gradients[0][0].any()
    assert norm[1].isnan()
    assert norm_of(gradients, 2) == pytest.approx(0.1, rel=1e-4)
