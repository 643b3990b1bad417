import numpy as np
import pytest
import torch

from latent_assay.metrics import Correlation, assign


def test_equals_numpy_far_from_zero(generator):
    left = torch.randn(2, 80, 3, generator=generator, dtype=torch.float64) + 1e6
    right = torch.randn(80, 2, generator=generator, dtype=torch.float64) - 1e6
    right[:, 0] += left[0, :, 1]
    w = torch.randint(1, 9, (80,), generator=generator)
    seen = Correlation()
    for start in range(0, 80, 17):
        rows = slice(start, start + 17)
        seen.update(left[:, rows], right[rows], w[rows])
    result = seen.result()
    for member in range(2):
        both = np.concatenate([left[member].numpy(), right.numpy()], axis=1).T
        covariance = np.cov(both, fweights=w.numpy(), ddof=0)
        sd = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(result.covariance[member], covariance[:3, 3:], rtol=1e-7)
        expected = (covariance / np.outer(sd, sd))[:3, 3:]
        np.testing.assert_allclose(result.correlation[member], expected, atol=1e-8)
        np.testing.assert_allclose(result.left_sd[member], sd[:3], rtol=1e-8)
        np.testing.assert_allclose(result.right_sd[member], sd[3:], rtol=1e-8)
        means = np.average(both, axis=1, weights=w.numpy())
        np.testing.assert_allclose(result.left_mean[member], means[:3])
        np.testing.assert_allclose(result.right_mean[member], means[3:])


def test_what_does_not_vary_has_no_correlation():
    left = torch.tensor([[[0.1], [0.1], [0.1]]])
    seen = Correlation()
    for row in range(3):
        seen.update(left[:, row : row + 1], torch.tensor([[float(row)]]))
    assert seen.result().correlation.item() == 0
    assert seen.result().left_sd.item() == 0


def test_latents_are_matched_by_what_they_do(generator):
    magnitudes = torch.rand(100, 4, generator=generator).double()
    z = 3 * magnitudes[None][..., [2, 0, 3, 1]] + 1
    seen = Correlation()
    seen.update(z, magnitudes)
    pairs = assign(seen.result().correlation)
    assert pairs.feature.tolist() == [[2, 0, 3, 1]]
    assert pairs.similarity.tolist() == [pytest.approx([1.0] * 4)]
    assert seen.result().correlation.abs().max().item() <= 1
