import math

import numpy as np
import pytest
import torch
from scipy import stats

from latent_assay.errors import ConfigError, DataError
from latent_assay.metrics import MeanSd, summary


def test_mean_and_sd_over_members(generator):
    values = torch.randn(6, generator=generator, dtype=torch.float64) + 1e6
    result = summary(values)
    assert result.mean == pytest.approx(values.mean().item(), rel=1e-14)
    assert result.sd == pytest.approx(np.std(values.numpy(), ddof=1), rel=1e-9)
    assert result.n == 6


def test_one_member_has_no_spread():
    result = summary(torch.tensor([0.123456]))
    assert math.isnan(result.sd)
    assert str(result) == "0.1235 (1)"
    assert math.isnan(result.detectable_difference())
    assert not result.differs_from(MeanSd(mean=9.0, sd=0.1, n=5))


def test_what_is_not_finite_is_not_dropped():
    assert math.isnan(summary(torch.tensor([1.0, torch.nan, 2.0])).mean)
    assert summary(torch.tensor([1.0, torch.inf])).mean == math.inf
    assert str(summary(torch.tensor([1.0, torch.nan]))) == "nan ± nan (2)"
    assert not summary(torch.tensor([1.0, torch.nan])).differs_from(MeanSd(mean=1.0, sd=0.1, n=2))


def test_no_member_is_an_error():
    with pytest.raises(DataError, match="at least one member"):
        summary(torch.empty(0))


@pytest.mark.usefixtures("as_a_user")
def test_one_axis_is_expected():
    with pytest.raises(DataError, match=r"shape \[2, 2\]; expected one number per member"):
        summary(torch.ones(2, 2))


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (0.1234, 0.0041, "0.123 ± 0.004 (6)"),
        (0.1234, 0.04, "0.12 ± 0.04 (6)"),
        (1234.5, 21.0, "1234 ± 21 (6)"),
        (12.34, 0.7, "12.3 ± 0.7 (6)"),
        (0.5, 0.0, "0.5 ± 0 (6)"),
        (1.234e-7, 2e-9, "1.23e-07 ± 2.00e-09 (6)"),
        (1.234e8, 2e6, "1.23e+08 ± 2.00e+06 (6)"),
        (-0.1234, 0.0041, "-0.123 ± 0.004 (6)"),
        (0.0, 0.01, "0.00 ± 0.01 (6)"),
    ],
)
def test_printing(mean, sd, text):
    assert str(MeanSd(mean=mean, sd=sd, n=6)) == text


def test_printing_in_a_given_format():
    assert f"{MeanSd(mean=0.1234, sd=0.0041, n=6):.5f}" == "0.12340 ± 0.00410 (6)"
    assert f"{MeanSd(mean=0.1234, sd=math.nan, n=1):.2f}" == "0.12 (1)"


def test_differences_are_judged_by_welchs_test(generator):
    for shift in (0.0, 0.5, 1.0, 2.0, 4.0):
        a = torch.randn(5, generator=generator, dtype=torch.float64)
        b = 2 * torch.randn(7, generator=generator, dtype=torch.float64) + shift
        p = stats.ttest_ind(a.numpy(), b.numpy(), equal_var=False).pvalue
        for level in (0.01, 0.05, 0.5):
            assert summary(a).differs_from(summary(b), level=level) == (p < level)


def test_exact_numbers_differ_if_they_are_different():
    exact = MeanSd(mean=1.0, sd=0.0, n=3)
    assert not exact.differs_from(exact)
    assert exact.differs_from(MeanSd(mean=1.1, sd=0.0, n=3))


def test_a_detectable_difference_is_detected_as_often_as_promised():
    n, reference = 5, MeanSd(mean=0.0, sd=1.0, n=5)
    shift = reference.detectable_difference(power=0.8)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4000, n))
    found = stats.ttest_ind(a, b + shift, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.04)
    more = MeanSd(mean=0.0, sd=1.0, n=20)
    assert more.detectable_difference() < reference.detectable_difference()


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0])
def test_probabilities_out_of_range_are_explained(level):
    value = MeanSd(mean=0.0, sd=1.0, n=3)
    with pytest.raises(ConfigError, match="expected a probability between 0 and 1"):
        value.differs_from(value, level=level)
    with pytest.raises(ConfigError, match="`power`"):
        value.detectable_difference(power=level)
