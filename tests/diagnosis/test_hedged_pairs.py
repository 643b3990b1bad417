"""Latents that mix features: together and without a residual, or alone and with one."""

import pytest
import torch

from latent_assay import baselines
from latent_assay.diagnosis.firing_sketch import SAMPLES, FiringSketch, Sketching
from latent_assay.diagnosis.gathering import evidence
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU, ReLU
from latent_assay.worlds import presets

N = 8_000


def _sae(reads, rows, sparsifier=None):
    return SAE(reads[None], rows[None], sparsifier=sparsifier or ReLU())


def _samples(seed, rates):
    generator = torch.Generator().manual_seed(seed)
    on = torch.rand(N, len(rates), generator=generator) < torch.tensor(rates)
    return on * (1 + 0.2 * torch.randn(N, len(rates), generator=generator))


def _child(seed=0):
    """A parent, a child that fires only with it, and two others, along the axes of space."""
    x = _samples(seed, [0.4, 0.5, 0.2, 0.2])
    x[:, 1] *= x[:, 0] != 0
    return x


def test_a_rotated_pair_that_leaves_no_residual_is_seen_in_its_proportion():
    rows = torch.eye(4)
    rows[0] = torch.tensor([1.0, 1.2, 0.0, 0.0])
    rows[1] = torch.tensor([1.0, -0.8, 0.0, 0.0])
    sae = _sae(torch.linalg.inv(rows).T.contiguous(), rows)
    columns = evidence(sae, [_child()]).columns
    assert (columns["companion_strength"][:2] > 0.3).all()
    assert (columns["companion_strength"][2:] < 0.03).all()
    assert evidence(sae, [_child()]).drawings["companion.latent"][:2].tolist() == [1, 0]


def test_a_parent_and_its_child_fire_together_but_in_no_proportion():
    columns = evidence(_sae(torch.eye(4), torch.eye(4)), [_child()]).columns
    assert (columns["companion_strength"] < 0.03).all()


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, -0.4])
def test_the_slope_is_the_foreign_part(part):
    rows = torch.eye(4)[:3].clone()
    rows[0, 3] = part
    reads = torch.eye(4)[:3]
    columns = evidence(_sae(reads, rows), [_samples(1, [0.2] * 4)]).columns
    across = abs(part) / (1 + part**2)  # the slope's length is sin, less its part along the row
    # the untracked feature's coming and going is the noise; most samples are without it
    assert columns["residual_slope"][0] == pytest.approx(across, abs=0.15)
    assert columns["steady_slope"][0] == pytest.approx(across, abs=0.06)
    assert (columns["steady_slope"][1:] < 0.06).all()


def test_a_neighbour_read_now_and_then_bends_the_slope_but_not_the_steady_one():
    reads = torch.eye(4)[:3].clone()
    reads[0, 3] = 0.3  # an untracked feature that makes the latent fire more strongly
    rates = [0.3, 0.3, 0.3, 0.1]
    sae = _sae(reads, torch.eye(4)[:3], JumpReLU(torch.full((1, 3), 0.5)))
    columns = evidence(sae, [_samples(2, rates)]).columns
    assert columns["residual_slope"][0] > 0.3
    assert columns["steady_slope"][0] < 0.1


def test_what_fired_too_seldom_has_no_companion_and_no_slope():
    x = _samples(3, [0.3, 0.3, 0.3, 0.0])
    columns = evidence(_sae(torch.eye(4), torch.eye(4)), [x]).columns
    for name in ("companion_strength", "residual_slope", "steady_slope"):
        assert torch.tensor(columns[name]).isnan().tolist() == [False] * 3 + [True]


def test_the_oracle_has_neither():
    world = presets.absorption()
    x = world.sample(6_000, torch.Generator().manual_seed(0)).x
    columns = evidence(baselines.oracle(world), [x]).columns
    assert columns["companion_strength"].max() < 0.05
    assert columns["steady_slope"].max() < 0.05


def test_a_sketch_is_a_fair_few_of_all_samples():
    sketching = Sketching(4, torch.Generator().manual_seed(0))
    batches = 5
    for batch in range(batches):
        z = torch.zeros(SAMPLES // 2, 4)
        z[:, 0] = batch + 1
        sketching.take(z)
    sketch = sketching.done()
    assert SAMPLES // 4 < len(sketch.value) <= SAMPLES
    count = torch.bincount(sketch.value.amax(-1).long(), minlength=batches + 1)[1:].double()
    assert (count / count.sum() - 1 / batches).abs().max() < 0.02


def test_the_firings_of_a_sketch_are_where_each_latent_fired():
    sketch = FiringSketch(
        latent=torch.tensor([[0, 2], [2, 0], [1, 0]]),
        value=torch.tensor([[1.0, 0.5], [2.0, 0.0], [3.0, 1.0]]),
        width=4,
    )
    assert sketch.firings_of(2).tolist() == [[0, 2], [2, -1], [0, 1], [-1, -1]]
