import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from latent_assay.errors import ConfigError
from latent_assay.evals.probing.classifier import (
    STRENGTHS,
    ClassifierConfig,
    auc,
    fit_and_score,
    stratified,
)


def generator():
    return torch.Generator().manual_seed(0)


def samples(n=300, columns=3):
    x = torch.randn(n, columns, generator=generator())
    noise = torch.randn(n, generator=torch.Generator().manual_seed(1))
    return x, x[:, 0] + 0.5 * noise > 0.4


def test_scores_are_those_of_sklearn():
    x, y = samples()
    found = fit_and_score(x[:200], y[:200], x[200:], y[200:], ClassifierConfig(), generator())
    model = LogisticRegression(max_iter=1000).fit(x[:200].numpy(), y[:200].numpy())
    says = model.predict(x[200:].numpy())
    assert found.accuracy == pytest.approx(accuracy_score(y[200:], says))
    assert found.f1 == pytest.approx(f1_score(y[200:], says))
    assert found.auc == pytest.approx(roc_auc_score(y[200:], model.decision_function(x[200:])))


def test_auc_with_ties_is_that_of_sklearn():
    decisions = torch.randint(0, 5, (200,), generator=generator()).double()
    y = torch.rand(200, generator=generator()) < 0.3
    assert auc(decisions, y) == pytest.approx(roc_auc_score(y, decisions))
    assert auc(decisions, torch.ones(200, dtype=torch.bool)) != auc(decisions, y)


@pytest.mark.parametrize("folds", [1, 6])
@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_strength_is_chosen_on_training_samples(folds, penalty):
    """Columns of noise beside a good one: test data choose nothing."""
    x, y = samples(120, 40)
    config = ClassifierConfig(strength=None, folds=folds, penalty=penalty, max_iter=200)
    first = fit_and_score(x[:80], y[:80], x[80:], y[80:], config, generator())
    assert first.strength in STRENGTHS
    assert penalty == "l2" or first.strength < 10
    other = fit_and_score(x[:80], y[:80], x[80:], ~y[80:], config, generator())
    assert other.strength == first.strength


def test_ten_strengths_from_1e5_to_1e_minus_5():
    assert len(STRENGTHS) == 10
    assert STRENGTHS[0] == pytest.approx(1e5)
    assert STRENGTHS[-1] == pytest.approx(1e-5)


def test_each_class_is_held_out():
    y = torch.arange(50) < 5
    chosen = stratified(y, 0.2, generator())
    assert chosen[y].sum() == 1
    assert chosen[~y].sum() == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 0.0}, "strength is 0.0"),
        ({"held_out": 1.0}, "held_out is 1.0"),
        ({"folds": 0}, "folds is 0"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        ClassifierConfig(**options)
