import math

import pytest
import torch

from latent_assay.errors import ConfigError, ShapeError, WorldError
from latent_assay.worlds import directions

from .sampling import seeded


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)], ids=["32", "64"]
)
@pytest.mark.parametrize("shape", [(1, 1), (4, 50), (50, 50)])
def test_orthonormal_is_exact(shape, dtype, tolerance):
    rows = directions.orthonormal(*shape, seeded(0), dtype=dtype)
    assert rows.shape == shape
    assert rows.dtype == dtype
    assert (rows @ rows.T - torch.eye(shape[0], dtype=dtype)).abs().max() <= tolerance


def test_orthonormal_follows_its_generator():
    first, again, other = (directions.orthonormal(3, 8, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_orthonormal_has_no_preferred_sign():
    """A factorisation's own sign convention would show as a mean entry that is not zero."""
    corners = torch.stack([directions.orthonormal(2, 2, seeded(s))[0, 0] for s in range(400)])
    # an entry of a uniformly random unit vector in the plane has mean 0 and variance 1/2
    assert corners.mean().abs() <= 5 * math.sqrt(0.5 / 400)


def test_orthonormal_needs_enough_dimensions(generator):
    with pytest.raises(WorldError, match=r"5 directions cannot be orthonormal in 4 .*superposed"):
        directions.orthonormal(5, 4, generator)


@pytest.mark.parametrize("make", [directions.orthonormal, directions.superposed])
def test_sizes_are_positive(make, generator):
    with pytest.raises(ConfigError, match="0 features in 4 dimensions"):
        make(0, 4, generator)


@pytest.mark.parametrize("seed", [0, 1])
def test_superposed_attains_the_welch_bound(seed):
    rows = directions.superposed(20, 19, seeded(seed), dtype=torch.float64)
    cosines = (rows @ rows.T).abs()
    torch.testing.assert_close(cosines.diagonal(), torch.ones(20).double(), atol=1e-12, rtol=0)
    off = cosines[~torch.eye(20, dtype=torch.bool)]
    assert (off - 1 / 19).abs().max() < 1e-6


@pytest.mark.parametrize(("n", "d"), [(3, 2), (6, 3), (28, 7)])
def test_superposed_finds_equiangular_frames(n, d):
    rows = directions.superposed(n, d, seeded(0), dtype=torch.float64)
    largest, _ = directions.largest_interference(rows)
    assert abs(largest - directions.welch_bound(n, d)) < 1e-6


def test_superposed_is_near_the_bound_where_it_is_out_of_reach():
    rows = directions.superposed(100, 50, seeded(0), dtype=torch.float64)
    largest, _ = directions.largest_interference(rows)
    random = torch.nn.functional.normalize(torch.randn(100, 50, generator=seeded(0)).double())
    assert directions.welch_bound(100, 50) <= largest < 1.1 * directions.welch_bound(100, 50)
    assert directions.largest_interference(random)[0] > 3 * largest


def test_superposed_with_room_is_orthonormal(generator):
    rows = directions.superposed(5, 9, generator, dtype=torch.float64)
    torch.testing.assert_close(rows @ rows.T, torch.eye(5).double(), atol=1e-12, rtol=0)


def test_superposed_on_a_line(generator):
    assert directions.superposed(3, 1, generator).abs().tolist() == [[1.0], [1.0], [1.0]]


def test_superposed_needs_steps(generator):
    with pytest.raises(ConfigError, match="`steps` is 0"):
        directions.superposed(3, 2, generator, steps=0)


def test_welch_bound_is_zero_with_room():
    assert directions.welch_bound(4, 4) == 0.0


@pytest.mark.parametrize("block", [1, 2, 100])
def test_largest_interference_finds_the_pair(block, monkeypatch):
    monkeypatch.setattr("latent_assay.worlds.directions.interference.BLOCK", block)
    rows = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 0, 0], [0, -3.0, 4.0]])
    cosine, pair = directions.largest_interference(rows)
    assert pair == (1, 3)
    assert abs(cosine - 0.6) < 1e-12


def test_a_single_direction_interferes_with_nothing():
    assert directions.largest_interference(torch.ones(1, 3)) == (0.0, None)


def output_model_loss(rows: torch.Tensor, sparsity: float) -> torch.Tensor:
    drawn = torch.rand(20_000, rows.shape[0], generator=seeded(9))
    truth = ((drawn - sparsity) / (1 - sparsity)).clamp(min=0)
    return (truth - torch.relu((truth @ rows) @ rows.T)).square().sum(dim=1).mean()


def test_learned_beats_what_fits_without_superposition():
    """Two features exactly and three not at all, against five in superposition."""
    rows = directions.learned(5, 2, seeded(0), sparsity=0.97, steps=800)
    alone = torch.eye(5, 2)
    assert output_model_loss(rows, 0.97) < 0.6 * output_model_loss(alone, 0.97)
    assert (rows.norm(dim=1) > 0.7).sum() > 2


def test_learned_has_as_many_features_as_dimensions_when_all_fire():
    rows = directions.learned(6, 3, seeded(0), sparsity=0.0, steps=800)
    torch.testing.assert_close(torch.linalg.matrix_rank(rows), torch.tensor(3))
    assert output_model_loss(rows, 0.0) < output_model_loss(torch.zeros(6, 3), 0.0)


def test_learned_is_at_a_minimum():
    """Small changes in any direction do not lower the loss by more than they should."""
    rows = directions.learned(4, 2, seeded(0), sparsity=0.9, steps=1500)
    free = rows.clone().requires_grad_()
    at = output_model_loss(free, 0.9)
    (gradient,) = torch.autograd.grad(at, free)
    start = torch.randn(4, 2, generator=seeded(3)).requires_grad_()
    (before,) = torch.autograd.grad(output_model_loss(start, 0.9), start)
    assert gradient.norm() < 0.05 * before.norm()


def test_learned_follows_its_generator():
    first, again = (directions.learned(4, 2, seeded(5), sparsity=0.9, steps=5) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sparsity": 1.0}, "`sparsity` is 1.0, but must be at least 0 and below 1"),
        ({"sparsity": 0.5, "steps": 0}, "got 0 steps"),
        ({"sparsity": 0.5, "learning_rate": -1.0}, "learning rate -1.0"),
    ],
)
def test_learned_refuses(setting, message, generator):
    with pytest.raises(ConfigError, match=message):
        directions.learned(4, 2, generator, **setting)


def test_given_is_a_checked_copy():
    mine = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    rows = directions.given(mine)
    mine[0, 0] = 9
    assert rows.tolist() == [[1, 2], [3, 4]]
    assert directions.given([[1, 2]]).dtype == torch.float32
    assert directions.given(mine, dtype=torch.float64).dtype == torch.float64


def test_given_refuses_what_is_no_matrix():
    with pytest.raises(ShapeError, match=r"shape \(3,\).*a row for each feature"):
        directions.given(torch.ones(3))
    with pytest.raises(WorldError, match="NaN or infinity"):
        directions.given([[1.0, math.nan]])
