import numpy as np
import pytest
import torch

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.metrics import METRICS, Classification, match, nearest_feature


def seen(z, fires, weight=None):
    classification = Classification()
    classification.update(z, fires, weight)
    return classification


@pytest.fixture
def data(generator):
    fires = torch.rand(60, 4, generator=generator) < 0.3
    noise = torch.rand(2, 60, 5, generator=generator) < 0.15
    z = (torch.cat([fires, fires[:, :1]], dim=-1) ^ noise).float()
    z[0, :, 1] = 0  # never fires
    return z, fires


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_plain_formulas(data, generator, weighted):
    z, fires = data
    w = torch.rand(60, generator=generator, dtype=torch.float64)
    classification = seen(z, fires, w if weighted else None)
    v = w.numpy() if weighted else np.ones(60)
    feature = torch.tensor([[0, 1, 2, 3, -1], [3, 2, 1, 0, 0]])
    result = classification.result(feature, chosen_by="match")
    by_f1 = classification.result()
    for m in range(2):
        table = np.zeros((5, 4))
        for j in range(5):
            on = (z[m, :, j] != 0).numpy()
            for i in range(4):
                truth = fires[:, i].numpy()
                both, either = v[on & truth].sum(), v[on].sum() + v[truth].sum()
                table[j, i] = 2 * both / either
                if feature[m, j] == i:
                    precision = both / v[on].sum() if on.any() else 0
                    assert result.precision[m, j].item() == pytest.approx(precision)
                    assert result.recall[m, j].item() == pytest.approx(both / v[truth].sum())
                    assert result.f1[m, j].item() == pytest.approx(table[j, i])
        np.testing.assert_allclose(by_f1.f1[m], table.max(1), rtol=1e-12)
        np.testing.assert_allclose(by_f1.feature_f1[m], table.max(0), rtol=1e-12)
        alive = table.max(1) > 0
        assert by_f1.feature[m].numpy()[alive].tolist() == table.argmax(1)[alive].tolist()
        assert by_f1.f1_coverage[m].item() == pytest.approx(table.max(0).mean())
    for name in ("precision", "recall", "f1"):
        mean = getattr(result, name).mean(-1)
        torch.testing.assert_close(getattr(result, f"macro_{name}"), mean)


def test_f1_is_the_harmonic_mean(data):
    result = seen(*data).result()
    p, r = result.precision, result.recall
    expected = torch.where(p + r > 0, 2 * p * r / (p + r), 0.0)
    torch.testing.assert_close(result.f1, expected)


def test_perfect_latents_score_one(generator):
    fires = torch.rand(50, 3, generator=generator) < 0.4
    z = (fires * torch.rand(50, 3, generator=generator)).float()[None]
    features = torch.eye(3)
    classification = seen(z, fires)
    for result in (
        classification.result(),
        classification.result(match(features[None], features).feature, chosen_by="match"),
        classification.result(
            nearest_feature(features[None], features).feature, chosen_by="cosine"
        ),
    ):
        assert result.f1.tolist() == [[1.0, 1.0, 1.0]]
        assert result.macro_precision.item() == result.macro_recall.item() == 1.0
        assert result.f1_coverage.item() == 1.0


def test_latents_that_never_fire_and_features_that_never_do_score_zero():
    z = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    fires = torch.tensor([[True, False], [True, False]])
    result = seen(z, fires).result(torch.tensor([[0, 1]]), chosen_by="match")
    assert result.f1.tolist() == [[0.0, 0.0]]
    assert result.precision.tolist() == [[0.0, 0.0]]
    assert result.recall.tolist() == [[0.0, 0.0]]
    by_f1 = seen(z, fires).result()
    assert by_f1.feature.tolist() == [[-1, 0]]
    assert by_f1.macro_f1.item() == 0.5  # the dead latent counts
    assert by_f1.feature_f1.tolist() == [[1.0, 0.0]]


def test_negative_latent_activations_fire():
    result = seen(torch.tensor([[[-1.0], [0.0]]]), torch.tensor([[True], [False]])).result()
    assert result.f1.item() == 1.0


def test_the_three_choices_differ_where_they_should(generator):
    """Two latents along f0, of which only the second fires with it; none along f1."""
    fires = torch.rand(200, 2, generator=generator) < 0.4
    z = torch.stack([fires[:, 1], fires[:, 0]], dim=-1).float()[None]
    decoder, features = torch.tensor([[[1.0, 0.0], [1.0, 0.1]]]), torch.eye(2)
    classification = seen(z, fires)
    matched = classification.result(match(decoder, features).feature, chosen_by="match")
    nearest = classification.result(nearest_feature(decoder, features).feature, chosen_by="cosine")
    by_f1 = classification.result()
    assert matched.feature.tolist() == [[0, 1]]
    assert nearest.feature.tolist() == [[0, 0]]
    assert by_f1.feature.tolist() == [[1, 0]]
    assert matched.macro_f1.item() < nearest.macro_f1.item() < by_f1.macro_f1.item() == 1.0


def test_a_narrow_sae_of_easy_features_has_f1_but_no_coverage(generator):
    """Macro F1 over latents does not notice the features that nothing stands for."""
    fires = torch.rand(100, 10, generator=generator) < 0.3
    result = seen(fires[None, :, :1].float(), fires).result()
    assert result.macro_f1.item() == 1.0
    assert result.f1_coverage.item() < 0.5


def test_padding_is_left_out_of_the_means(data):
    z, fires = data
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    together = seen(z, fires).result(mask=mask)
    alone = seen(z[:1, :, :3], fires).result()
    for name, value in alone.metrics().items():
        torch.testing.assert_close(together.metrics()[name][:1], value)
    assert together.feature[0, 3:].tolist() == [-1, -1]


def test_counts_of_whole_samples_are_whole(data):
    z, fires = data
    counts = seen(z, fires).counts()
    expected = torch.einsum("mbl,bf->mlf", (z != 0).double(), fires.double())
    assert counts.both.equal(expected)
    assert counts.latent.equal((z != 0).double().sum(1))
    assert counts.feature.equal(fires.double().sum(0).expand(2, -1))
    assert (counts.n, counts.weight) == (60, 60.0)


def test_headline_names_say_how_the_feature_was_chosen(data):
    classification = seen(*data)
    feature = torch.zeros(2, 5, dtype=torch.int64)
    names = set(classification.result().metrics())
    names |= set(classification.result(feature, chosen_by="match").metrics())
    names |= set(classification.result(feature, chosen_by="cosine").metrics())
    assert names <= set(METRICS)
    assert len(names) == 10


def test_contradictory_choices_are_explained(data):
    classification = seen(*data)
    feature = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(ConfigError, match="'f1' and `feature` is given"):
        classification.result(feature)
    with pytest.raises(ConfigError, match="'match' and `feature` is not given"):
        classification.result(chosen_by="match")
    with pytest.raises(DataError, match="indices from 0 to 4, but 4 features were seen"):
        classification.result(feature.index_fill(1, torch.tensor([1]), 4), chosen_by="cosine")


@pytest.mark.usefixtures("as_a_user")
def test_wrong_inputs_are_explained(data):
    z, fires = data
    with pytest.raises(DataError, match="pass `magnitudes != 0`"):
        seen(z, fires.float())
    with pytest.raises(ShapeError, match=r"`fires` has shape \[59, 4\]; expected \[60, feature\]"):
        seen(z, fires[1:])
    with pytest.raises(ShapeError, match="Pass the `feature` field"):
        seen(z, fires).result(torch.zeros(2, 4, dtype=torch.int64), chosen_by="match")
    with pytest.raises(ConfigError, match="'best'"):
        seen(z, fires).result(torch.zeros(2, 5, dtype=torch.int64), chosen_by="best")
