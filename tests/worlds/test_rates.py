import math

import pytest

from latent_assay.errors import ConfigError, WorldError
from latent_assay.worlds import rates


def test_linear_has_both_published_forms():
    for i, rate in enumerate(rates.linear(20, first=0.015, last=0.3)):
        assert math.isclose(rate, 0.3 * (i + 1) / 20, rel_tol=1e-12)
    falling = rates.linear(50, first=0.3881, last=0.05)
    for i, rate in enumerate(falling):
        assert math.isclose(rate, 0.345 * (49 - i) / 50 + 0.05, rel_tol=1e-12)
    assert math.isclose(sum(falling), 10.9525, rel_tol=1e-12)


def test_zipfian_is_an_affine_power_law():
    found = rates.zipfian(100, exponent=0.5, highest=0.4, lowest=5e-4)
    assert math.isclose(found[0], 0.4)
    assert math.isclose(found[-1], 5e-4)
    weights = [(i + 1) ** -0.5 for i in range(100)]
    slopes = [(found[i] - found[i + 1]) / (weights[i] - weights[i + 1]) for i in range(99)]
    assert max(slopes) - min(slopes) < 1e-9


def test_single_features_take_the_first_rate():
    assert rates.linear(1, first=0.2, last=0.4) == (0.2,)
    assert rates.zipfian(1, highest=0.2, lowest=0.1) == (0.2,)
    assert rates.constant(2, 0.3) == (0.3, 0.3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rates.constant(0, 0.1), ConfigError, "`n` is 0"),
        (lambda: rates.constant(3, 1.5), WorldError, r"`rates\[0\]` is 1.5"),
        (lambda: rates.constant(3, math.nan), WorldError, "is nan"),
        (lambda: rates.linear(3, first=0.1, last=-0.1), WorldError, r"`rates\[2\]` is -0.1"),
        (lambda: rates.zipfian(3, exponent=0.0, highest=1, lowest=0), ConfigError, "positive"),
        (lambda: rates.checked_rates([]), WorldError, "`rates` is empty"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()
