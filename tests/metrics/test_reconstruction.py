import numpy as np
import pytest
import torch

from latent_assay.errors import ShapeError
from latent_assay.metrics import METRICS, Reconstruction


def scores(x, x_hat, weight=None, batches=1):
    seen = Reconstruction()
    weights = [None] * batches if weight is None else weight.chunk(batches)
    pairs = zip(x.chunk(batches, dim=-2), x_hat.chunk(batches, dim=-2), weights, strict=True)
    for x_batch, x_hat_batch, w in pairs:
        seen.update(x_batch, x_hat_batch, w)
    return seen.result()


def plain(x, x_hat, w):
    """Every formula at once, in numpy, for one member."""
    error = ((x - x_hat) ** 2).sum(-1)
    mean = np.average(x, axis=0, weights=w)
    length, length_hat = np.linalg.norm(x, axis=-1), np.linalg.norm(x_hat, axis=-1)
    inner = (x * x_hat).sum(-1)
    return {
        "mse": np.average(error, weights=w),
        "fvu": (w * error).sum() / (w * ((x - mean) ** 2).sum(-1)).sum(),
        "explained_variance": 1 - (w * error).sum() / (w[:, None] * (x - mean) ** 2).sum(),
        "cosine": np.average(inner / length / length_hat, weights=w),
        "shrinkage": np.average(length_hat / length, weights=w),
        "relative_reconstruction_bias": (w * length_hat**2).sum() / (w * inner).sum(),
        "variance": np.average(((x - mean) ** 2).sum(-1), weights=w),
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_equals_the_plain_formulas(generator, weighted, own):
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64) + 2
    if own:
        x = x + torch.randn(3, 40, 6, generator=generator)
    x_hat = 0.8 * x + 0.3 * torch.randn(3, 40, 6, generator=generator)
    w = torch.rand(40, generator=generator, dtype=torch.float64)
    result = scores(x, x_hat, w if weighted else None, batches=4)
    for member in range(3):
        expected = plain(
            (x[member] if own else x).numpy(),
            x_hat[member].numpy(),
            w.numpy() if weighted else np.ones(40),
        )
        for name, value in expected.items():
            assert getattr(result, name)[member].item() == pytest.approx(value, rel=1e-12), name


def test_a_perfect_reconstruction(generator):
    x = torch.randn(20, 4, generator=generator)
    result = scores(x, x[None])
    assert (result.mse.item(), result.fvu.item(), result.explained_variance.item()) == (0, 0, 1)
    for name in ("cosine", "shrinkage", "relative_reconstruction_bias"):
        assert getattr(result, name).item() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("mean_in_sds", [0.0, 1.0, 1e3, 1e7])
@pytest.mark.parametrize("batches", [1, 7])
def test_reconstructing_the_mean_scores_exactly_one(generator, scale, mean_in_sds, batches):
    x = (torch.randn(200, 8, generator=generator, dtype=torch.float64) + mean_in_sds) * scale
    x_hat = x.mean(0).expand(1, 200, 8)
    result = scores(x, x_hat, batches=batches)
    # x itself is rounded, by mean_in_sds * 1e-16 standard deviations.
    tolerance = 1e-12 if mean_in_sds <= 1e3 else 1e-9
    assert result.fvu.item() == pytest.approx(1, abs=tolerance)
    assert result.explained_variance.item() == pytest.approx(0, abs=tolerance)


def test_reconstructing_the_mean_in_float32(generator):
    x = torch.randn(500, 8, generator=generator) * 0.1 + 100
    x_hat = x.double().mean(0).float().expand(1, 500, 8)
    assert scores(x, x_hat, batches=5).fvu.item() == pytest.approx(1, abs=1e-6)


def test_worse_than_the_mean_scores_more_than_one(generator):
    x = torch.randn(50, 3, generator=generator)
    assert scores(x, -x[None]).fvu.item() == pytest.approx(4, rel=0.1)


def test_zero_vectors(generator):
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    x_hat = torch.tensor([[0.0, 0.0], [0.0, 0.0], [2.0, 0.0], [5.0, 0.0]])
    result = scores(x, x_hat[None])
    assert result.cosine.item() == 0.5  # over the two samples with x not 0: 0 and 1
    assert result.shrinkage.item() == 1.0  # over the same two: 0 and 2
    nothing = scores(torch.zeros(3, 2), torch.ones(1, 3, 2))
    assert nothing.cosine.isnan().all()
    assert nothing.shrinkage.isnan().all()
    assert nothing.relative_reconstruction_bias.isnan().all()
    assert nothing.mse.item() == 2.0


def test_an_input_that_does_not_vary_has_no_fraction_of_variance():
    # Most of these are not binary fractions, so that sum / n would not give them back exactly.
    x = (torch.arange(1, 40, dtype=torch.float64) / 30).expand(23, 39)
    result = scores(x, torch.stack([x, x + 1]), batches=3)
    assert result.variance.tolist() == [0.0, 0.0]
    assert result.fvu.isnan().all()
    assert result.mse.tolist() == pytest.approx([0.0, 39.0])


def test_relative_reconstruction_bias_is_the_best_rescaling(generator):
    x = torch.randn(100, 5, generator=generator, dtype=torch.float64)
    x_hat = 0.6 * x + 0.4 * torch.randn(100, 5, generator=generator, dtype=torch.float64)
    gamma = scores(x, x_hat[None]).relative_reconstruction_bias.item()
    best = scores(x, x_hat[None] / gamma).mse.item()
    for other in (gamma * 0.99, gamma * 1.01):
        assert scores(x, x_hat[None] / other).mse.item() > best


def test_a_member_that_is_not_finite_harms_no_other(generator):
    x = torch.randn(6, 3, generator=generator)
    x_hat = torch.stack([x, torch.full_like(x, torch.nan)])
    result = scores(x, x_hat)
    assert result.fvu[0].item() == 0
    assert result.fvu[1].isnan()
    assert result.cosine[1].isnan()


def test_headline_numbers_by_name(generator):
    x = torch.randn(6, 3, generator=generator)
    result = scores(x, x[None])
    metrics = result.metrics()
    assert set(metrics) == {
        "mse",
        "fvu",
        "explained_variance",
        "cosine",
        "shrinkage",
        "relative_reconstruction_bias",
    }
    assert set(metrics) <= set(METRICS)
    assert metrics["mse"] is result.mse


@pytest.mark.usefixtures("as_a_user")
def test_a_wrong_d_in_is_explained():
    with pytest.raises(
        ShapeError, match=r"`x` has shape \[4, 3\]; expected \[4, 2\], or \[1, 4, 2"
    ):
        Reconstruction().update(torch.ones(4, 3), torch.ones(1, 4, 2))


# What is wrong with published metrics, each shown to be wrong and then to be right here.


def squares_before_the_mean(x, x_hat):
    """Explained variance with E[x^2] where the mean should stand, averaged over dimensions."""
    total = x.square().sum(-1).mean() - x.square().mean(0).mean() ** 2
    return 1 - ((x - x_hat).square().sum(-1).mean() / total).item()


def variance_about_zero(x, x_hat):
    return 1 - ((x - x_hat).square().sum() / x.square().sum()).item()


def mean_of_ratios(x, x_hat, batch):
    """One ratio per sample, each against the mean of its own batch, then averaged."""
    ratios = [
        (a - b).square().sum(-1) / (a - a.mean(0)).square().sum(-1)
        for a, b in zip(x.split(batch), x_hat.split(batch), strict=True)
    ]
    return 1 - torch.cat(ratios).mean().item()


@pytest.fixture
def off_centre(generator):
    """Means of one standard deviation in each of many dimensions, and their reconstruction."""
    x = torch.randn(4000, 10, generator=generator, dtype=torch.float64) + 1
    return x, x.mean(0).expand_as(x)


def test_defect_explained_variance_of_the_mean_is_not_zero_elsewhere(off_centre):
    x, mean = off_centre
    assert squares_before_the_mean(x, mean) == pytest.approx(0.376, abs=0.03)
    assert variance_about_zero(x, mean) == pytest.approx(0.5, abs=0.02)
    assert scores(x, mean[None]).explained_variance.item() == pytest.approx(0, abs=1e-12)


def test_defect_explained_variance_depends_on_units_elsewhere(off_centre):
    x, mean = off_centre
    # Negative "variances" make a mean-only reconstruction look better than perfect.
    assert squares_before_the_mean(100 * x, 100 * mean) > 1
    for scale in (0.01, 1, 100):
        ours = scores(scale * x, scale * mean[None]).explained_variance.item()
        assert ours == pytest.approx(0, abs=1e-12)


def test_defect_true_r_squared_is_overstated_elsewhere(off_centre, generator):
    x, _ = off_centre
    x_hat = x + 0.5 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    true = 1 - ((x - x_hat).square().sum() / (x - x.mean(0)).square().sum()).item()
    assert true == pytest.approx(0.75, abs=0.01)
    assert squares_before_the_mean(x, x_hat) > true + 0.05
    assert scores(x, x_hat[None], batches=9).explained_variance.item() == pytest.approx(true)


def test_defect_mean_squared_error_shrinks_with_the_batch_elsewhere(off_centre):
    x, mean = off_centre

    def divided_by_batch(batch):
        return sum(
            (a - b).square().sum(-1).mean().item() / batch
            for a, b in zip(x.split(batch), mean.split(batch), strict=True)
        ) / (len(x) / batch)

    assert divided_by_batch(1000) == pytest.approx(divided_by_batch(100) / 10, rel=1e-6)
    for batches in (4, 40):
        assert scores(x, mean[None], batches=batches).mse.item() == pytest.approx(10, abs=0.5)


def test_defect_averaged_ratios_depend_on_the_batch_and_on_one_sample_elsewhere(generator):
    x = torch.randn(64, 4, generator=generator, dtype=torch.float64)
    x_hat = x + 0.1
    assert abs(mean_of_ratios(x, x_hat, 64) - mean_of_ratios(x, x_hat, 4)) > 0.001
    ours = [scores(x, x_hat[None], batches=b).explained_variance.item() for b in (1, 16)]
    assert ours[0] == pytest.approx(ours[1], rel=1e-12)
    # A single sample that happens to lie at the mean sinks the average of ratios.
    x = torch.cat([x, x.mean(0, keepdim=True) + 1e-4])
    assert mean_of_ratios(x, x + 0.1, 65) < -100
    assert scores(x, (x + 0.1)[None]).explained_variance.item() == pytest.approx(ours[0], abs=0.01)


def test_defect_one_silent_reconstruction_makes_the_mean_cosine_nan_elsewhere():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    x_hat = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    unguarded = (x / x.norm(dim=-1, keepdim=True)) * (x_hat / x_hat.norm(dim=-1, keepdim=True))
    assert unguarded.sum(-1).mean().isnan()
    assert scores(x, x_hat[None]).cosine.item() == 0.5


def test_defect_length_ratio_depends_on_units_elsewhere(generator):
    x = torch.randn(50, 3, generator=generator, dtype=torch.float64)

    def lengths_below_a_threshold_count_as_one(x, x_hat):
        length = x.norm(dim=-1)
        return (x_hat.norm(dim=-1) / torch.where(length < 1e-4, 1.0, length)).mean().item()

    assert lengths_below_a_threshold_count_as_one(x, 0.9 * x) == pytest.approx(0.9)
    tiny = 1e-6 * x
    assert lengths_below_a_threshold_count_as_one(tiny, 0.9 * tiny) < 1e-4
    assert scores(tiny, 0.9 * tiny[None]).shrinkage.item() == pytest.approx(0.9, rel=1e-12)


def test_defect_bias_averaged_over_batches_depends_on_the_batch_elsewhere(generator):
    x = torch.randn(64, 4, generator=generator, dtype=torch.float64)
    x_hat = x + torch.randn(64, 4, generator=generator, dtype=torch.float64)

    def mean_over_batches(batch):
        pairs = list(zip(x.split(batch), x_hat.split(batch), strict=True))
        return sum(b.square().sum().item() / (a * b).sum().item() for a, b in pairs) / len(pairs)

    assert abs(mean_over_batches(64) - mean_over_batches(4)) > 0.05
    ours = [scores(x, x_hat[None], batches=b).relative_reconstruction_bias.item() for b in (1, 16)]
    assert ours == [pytest.approx(mean_over_batches(64))] * 2
