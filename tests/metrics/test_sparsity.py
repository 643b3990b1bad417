import numpy as np
import pytest
import torch

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics import METRICS, LatentHistogram, Sparsity, density_histogram


def scores(z, weight=None, mask=None):
    seen = Sparsity()
    seen.update(z, weight)
    return seen.result(mask)


def test_equals_the_plain_formulas(generator):
    z = torch.randn(2, 30, 5, generator=generator).relu()
    z[0, :, 2] = 0
    w = torch.rand(30, generator=generator, dtype=torch.float64)
    for weight in (None, w):
        result = scores(z, weight)
        v = np.ones(30) if weight is None else w.numpy()
        for member in range(2):
            a = z[member].double().numpy()
            fires = a != 0
            density = (v[:, None] * fires).sum(0) / v.sum()
            total = (v[:, None] * a).sum(0)
            np.testing.assert_allclose(result.density[member], density, rtol=1e-12)
            assert result.l0[member].item() == pytest.approx(np.average(fires.sum(1), weights=v))
            assert result.l1[member].item() == pytest.approx(np.average(a.sum(1), weights=v))
            np.testing.assert_array_equal(result.firing_max[member], a.max(0))
            alive = fires.any(0)
            firing_mean = total[alive] / (v[:, None] * fires).sum(0)[alive]
            np.testing.assert_allclose(result.firing_mean[member][torch.tensor(alive)], firing_mean)
            np.testing.assert_array_equal(result.dead[member], ~alive)
            assert result.frac_alive[member].item() == pytest.approx(alive.mean())
            assert result.n_dead[member].item() == (~alive).sum()
    assert result.n == 30


def test_batches_longer_than_a_block(generator):
    z = torch.randn(1, 700, 3, generator=generator, dtype=torch.float64).relu()
    z[0, 650, 1] = 9.0
    result = scores(z)
    torch.testing.assert_close(result.density, (z != 0).double().mean(1))
    torch.testing.assert_close(result.l1, z.sum((1, 2)) / 700)
    assert result.firing_max.equal(z.amax(1))


def test_latents_that_never_fire():
    result = scores(torch.tensor([[[0.0, 1.0], [0.0, 3.0]]]))
    assert result.dead.tolist() == [[True, False]]
    assert result.firing_mean[0, 0].isnan()
    assert result.firing_mean[0, 1].item() == 2.0
    assert result.firing_max.tolist() == [[0.0, 3.0]]
    assert result.n_dead.tolist() == [1.0]
    assert result.frac_alive.tolist() == [0.5]
    assert result.n == 2


def test_negative_latent_activations_fire():
    result = scores(torch.tensor([[[-2.0, 0.0], [1.0, 0.0]]]))
    assert result.l0.item() == 1.0
    assert result.l1.item() == 1.5
    assert result.firing_max[0, 0].item() == 2.0
    assert not result.dead[0, 0]


def test_defect_signed_latents_cancel_in_l1_and_have_no_density_elsewhere():
    z = torch.tensor([[[-2.0, 2.0], [-3.0, 3.0]]])
    assert z.sum(-1).mean().item() == 0  # L1 without the magnitudes
    assert (z > 0).double().mean(1).tolist() == [[0.0, 1.0]]  # density that asks for z > 0
    result = scores(z)
    assert result.l1.item() == 5.0
    assert result.density.tolist() == [[1.0, 1.0]]
    assert result.l0.item() == result.density.sum().item()


def test_a_sample_of_weight_zero_does_not_revive_a_latent():
    result = scores(torch.tensor([[[0.0], [7.0]]]), torch.tensor([1.0, 0.0]))
    assert result.dead.tolist() == [[True]]
    assert result.firing_max.item() == 0
    assert result.n == 1


def test_padding_does_not_exist():
    z = torch.tensor([[[1.0, 0.0, 5.0]], [[1.0, 2.0, 3.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    result = scores(z, mask=mask)
    assert result.l0.tolist() == [1.0, 3.0]
    assert result.l1.tolist() == [1.0, 6.0]
    assert result.n_dead.tolist() == [1.0, 0.0]
    assert result.frac_alive.tolist() == [0.5, 1.0]
    assert result.dead.tolist() == [[False, True, False], [False] * 3]
    assert result.firing_max[0].tolist() == [1.0, 0.0, 0.0]
    narrow = scores(z[:1, :, :2])
    for name, value in narrow.metrics().items():
        assert value.item() == result.metrics()[name][0].item()


@pytest.mark.usefixtures("as_a_user")
def test_bad_masks_are_explained():
    z = torch.ones(1, 2, 3)
    with pytest.raises(ShapeError, match=r"torch.bool of shape \[1, 3\], True where a latent exis"):
        scores(z, mask=torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ShapeError, match=r"`mask` is torch.float32"):
        scores(z, mask=torch.ones(1, 3))
    with pytest.raises(DataError, match="without a single latent"):
        scores(z, mask=torch.zeros(1, 3, dtype=torch.bool))


def test_headline_numbers_by_name():
    metrics = scores(torch.ones(1, 2, 3)).metrics()
    assert set(metrics) == {"l0", "l1", "frac_alive", "n_dead"}
    assert set(metrics) <= set(METRICS)


def test_density_histogram():
    density = torch.tensor([[0.0, 1.0, 0.5, 0.02, 1e-5], [0.0, 0.0, 0.5, 0.5, 1.0]])
    histogram = density_histogram(density, decades=3, bins_per_decade=1)
    assert histogram.edges.tolist() == [-3.0, -2.0, -1.0, 0.0]
    # 1e-5 is rarer than the first edge and is kept in the first bin; 1.0 is in the last.
    assert histogram.counts.tolist() == [[1.0, 1.0, 2.0], [0.0, 0.0, 3.0]]
    assert histogram.never.tolist() == [1.0, 2.0]
    mask = torch.tensor([[False, True, True, True, True], [True, True, False, False, True]])
    masked = density_histogram(density, mask, decades=3, bins_per_decade=1)
    assert masked.counts.tolist() == [[1.0, 1.0, 2.0], [0.0, 0.0, 1.0]]
    assert masked.never.tolist() == [0.0, 2.0]


def test_density_histogram_agrees_with_numpy(generator):
    density = torch.rand(3, 400, generator=generator, dtype=torch.float64) ** 6
    histogram = density_histogram(density, decades=12, bins_per_decade=3)
    assert histogram.counts.sum(-1).tolist() == [400.0] * 3
    for member in range(3):
        logs = density[member].log10().clamp_min(-12).numpy()
        expected, _ = np.histogram(logs, bins=histogram.edges.numpy())
        np.testing.assert_array_equal(histogram.counts[member], expected)


def test_density_histogram_needs_a_bin():
    with pytest.raises(ConfigError, match="must be at least 1"):
        density_histogram(torch.ones(1, 1), decades=0)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_latent_histogram_agrees_with_numpy(generator, scale):
    z = (3 * torch.randn(2, 500, 3, generator=generator, dtype=torch.float64)).relu()
    maximum = torch.tensor([[4.0, 5.0, 2.0], [1.0, 20.0, 6.0]], dtype=torch.float64)
    seen = LatentHistogram(maximum, bins=7, scale=scale, decades=2)
    for batch in z.split(60, dim=1):
        seen.update(batch)
    result = seen.result()
    for member in range(2):
        for latent in range(3):
            values = z[member, :, latent]
            values = values[values > 0].numpy()
            edges = result.edges[member, latent].numpy()
            expected, _ = np.histogram(values, bins=edges)
            np.testing.assert_array_equal(result.counts[member, latent], expected)
            assert result.above[member, latent].item() == (values > edges[-1]).sum()
            assert result.below[member, latent].item() == (values < edges[0]).sum()
    top = result.edges[..., -1]
    torch.testing.assert_close(top, maximum)
    first = torch.zeros_like(maximum) if scale == "linear" else maximum / 100
    torch.testing.assert_close(result.edges[..., 0], first)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_latent_histogram_edges(scale):
    """The maximum is inside, the next float above; NaN is no firing; no maximum, no bins."""
    top = torch.tensor(0.3, dtype=torch.float64)
    over = torch.nextafter(top, torch.tensor(1.0, dtype=torch.float64))
    under = torch.nextafter(top, torch.tensor(0.0, dtype=torch.float64))
    values = torch.stack([top, over, under, torch.tensor(torch.nan).double(), -top, 0 * top])
    seen = LatentHistogram(torch.tensor([[top, 0.0]]).double(), bins=3, scale=scale)
    seen.update(torch.stack([values, values], -1)[None])
    result = seen.result()
    assert result.counts[0, 0].tolist() == [0, 0, 3]
    assert result.above[0, 0].item() == 1
    assert result.above[0, 1].item() == 4
    assert result.counts[0, 1].sum().item() == 0
    assert result.n == 6


def test_latent_histogram_follows_a_first_pass(generator):
    z = torch.randn(1, 100, 2, generator=generator).relu()
    first = Sparsity()
    first.update(z)
    seen = LatentHistogram(first.result().firing_max, bins=10)
    seen.update(z)
    assert seen.result().above.sum().item() == 0
    assert seen.result().counts.sum(-1).tolist() == (z != 0).sum(1).double().tolist()


@pytest.mark.parametrize(
    "other",
    [{"bins": 3}, {"scale": "log"}, {"decades": 2}, {"maximum": torch.tensor([[1.0, 2.0]])}],
)
def test_histograms_with_different_bins_do_not_merge(other):
    settings = {"maximum": torch.ones(1, 2), "bins": 4}
    first, second = LatentHistogram(**settings), LatentHistogram(**settings | other)
    for seen in (first, second):
        seen.update(torch.ones(1, 3, 2))
    with pytest.raises(ConfigError, match="counts cannot be added"):
        first.merge(second)
    assert first.result().n == 3


def test_different_things_do_not_merge():
    first, second = Sparsity(), Sparsity()
    first.update(torch.ones(1, 3, 2))
    second.update(torch.ones(2, 3, 2))
    with pytest.raises(ShapeError, match="began with member 1, latent 2 but now received member 2"):
        first.merge(second)


@pytest.mark.usefixtures("as_a_user")
def test_bad_histograms_are_explained():
    top = torch.ones(1, 2)
    with pytest.raises(ConfigError, match="`bins` is 0 and `decades` is 4; expected at least 1"):
        LatentHistogram(top, bins=0)
    with pytest.raises(ConfigError, match="`decades` is 0"):
        LatentHistogram(top, decades=0)
    with pytest.raises(ConfigError, match="expected 'linear' or 'log'"):
        LatentHistogram(top, scale="cubic")
    with pytest.raises(ConfigError, match="`maximum` must be finite and at least 0"):
        LatentHistogram(-top)
    with pytest.raises(ShapeError, match=r"expected \[member, latent\]"):
        LatentHistogram(top[0])
