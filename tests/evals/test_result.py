import math

import pytest

from latent_assay.errors import ConfigError, DataError
from latent_assay.evals import (
    EVALUATIONS,
    EvalResult,
    evaluation,
    measured,
    not_measurable,
    pooled,
    value,
)
from latent_assay.metrics import MeanSd


def result(values, **settings):
    return measured("sparse_probing", {"auc@1": values}, **settings)


def test_noise_is_not_ranked():
    a, b, c = result([0.90, 0.92, 0.91]), result([0.91, 0.93, 0.92]), result([0.50, 0.52, 0.51])
    assert a.against(b) == {"auc@1": "not distinguishable"}
    assert a.against(c) == {"auc@1": "better"}
    assert c.against(a) == {"auc@1": "worse"}


def test_the_resolution_is_the_difference_below_which_nothing_is_said():
    a = value([0.90, 0.92, 0.91], "higher")
    assert a.resolution == MeanSd(mean=0.91, sd=a.sd, n=3).detectable_difference()
    just_below = value([each - 0.99 * a.resolution for each in (0.90, 0.92, 0.91)], "higher")
    just_above = value([each - 1.01 * a.resolution for each in (0.90, 0.92, 0.91)], "higher")
    assert a.against(just_below) == "not distinguishable"
    assert a.against(just_above) == "better"


def test_directions():
    low, high = value([0.1, 0.1], "lower"), value([0.9, 0.9], "lower")
    assert low.against(high) == "better"
    assert value([1.0, 1.0], "neutral").against(value([2.0, 2.0], "neutral")) == "different"
    with pytest.raises(ConfigError, match="one number is lower, the other higher"):
        low.against(value([0.1], "higher"))


def test_a_single_seed_resolves_nothing_unless_its_sampling_error_is_known():
    one, other = value([0.1], "higher"), value([0.9], "higher")
    assert math.isnan(one.resolution)
    assert one.against(other) == "not distinguishable"
    known = value([0.1], "higher", standard_error=0.01)
    assert known.resolution == pytest.approx(0.0396, abs=1e-4)
    assert known.against(value([0.9], "higher", standard_error=0.01)) == "worse"


def test_few_test_samples_make_agreeing_seeds_no_surer():
    assert value([0.5, 0.5], "higher").resolution == 0
    assert value([0.5, 0.5], "higher", standard_error=0.1).resolution > 0.39


def test_settings_and_versions_must_agree():
    a, b = result([0.9, 0.9], config={"k": [1]}), result([0.9, 0.9], config={"k": [2]})
    with pytest.raises(ConfigError, match=r"`k` is \[1\] in one and \[2\] in the other"):
        a.against(b)
    with pytest.raises(ConfigError, match="do not measure the same"):
        a.against(measured("core", {"l0": [1.0]}))


def test_unknown_names_say_what_is_near():
    with pytest.raises(ConfigError, match=r"no metric `acuracy`.*Did you mean `accuracy`"):
        measured("sparse_probing", {"acuracy@1": [0.5]})
    with pytest.raises(ConfigError, match=r"no evaluation `sparse`.*Did you mean"):
        evaluation("sparse")
    with pytest.raises(ConfigError, match="neither numbers nor a reason"):
        EvalResult(name="core", version=1)


def test_every_headline_is_a_metric_of_its_evaluation():
    for name, each in EVALUATIONS.items():
        assert each.name == name
        assert each.headline is None or each.metric(each.headline)


def test_pooling_takes_the_spread_between_saes():
    a = result([0.8, 0.9], baselines={"random": {"auc@1": [0.5, 0.6]}})
    b = result([0.6, 0.7], baselines={"random": {"auc@1": [0.5, 0.5]}})
    both = pooled([a, b, not_measurable("sparse_probing", "too few texts")])
    assert both.headline.mean == pytest.approx(0.75)
    assert both.headline.n == 2
    assert both.headline.sd == pytest.approx(0.2 / math.sqrt(2))
    assert both.baselines["random"]["auc@1"].mean == pytest.approx(0.525)
    assert both.details == {"pooled": 2, "of": 3}


def test_pooling_nothing():
    with pytest.raises(DataError, match="no result to pool"):
        pooled([])
    none = pooled([not_measurable("core", "no text")] * 2)
    assert none.not_measurable == "no text"
    assert none.headline is None
