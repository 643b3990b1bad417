import math

import jaxtyping
import pytest
import torch
from torch import Tensor

from latent_assay.errors import ConfigError, DataError, ShapeError
from latent_assay.initialisation import data_mean, from_features, kaiming, tied_random


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


@pytest.mark.parametrize("norm", [0.1, 2.0])
def test_tied_random(norm):
    encoder, decoder = tied_random(norm)(generator(), 400, 30)
    assert encoder.shape == (400, 30)
    assert torch.equal(encoder, decoder)
    assert encoder.data_ptr() != decoder.data_ptr()
    torch.testing.assert_close(encoder.norm(dim=-1), torch.full((400,), norm).double())
    # directions without preference
    assert float(encoder.mean(0).norm()) < 0.1 * norm
    cosines = (encoder @ encoder.T / norm**2).triu(1)
    assert float(cosines.square().sum() / (400 * 399 / 2)) == pytest.approx(1 / 30, rel=0.05)


def test_kaiming():
    encoder, decoder = kaiming()(generator(), 400, 30)
    assert torch.equal(encoder, decoder)
    assert encoder.data_ptr() != decoder.data_ptr()
    bound = math.sqrt(6 / 30)
    assert bound * 0.99 < float(encoder.abs().max()) <= bound
    assert float(encoder.square().mean()) == pytest.approx(bound**2 / 3, rel=0.02)
    assert float(encoder.norm(dim=-1).mean()) == pytest.approx(math.sqrt(2), rel=0.02)


@pytest.mark.parametrize("init", [tied_random(), kaiming(), from_features(torch.eye(6), 0.1)])
def test_the_generator_decides(init):
    one, again = init(generator(1), 5, 6)[0], init(generator(1), 5, 6)[0]
    other = init(generator(2), 5, 6)[0]
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("norm", [0.0, -1.0])
def test_rows_need_a_length(norm):
    with pytest.raises(ConfigError, match="norm of initial rows must be positive"):
        tied_random(norm)


def test_from_features():
    features = draw(6, 4)
    encoder, decoder = from_features(features)(generator(), 5, 4)
    assert torch.equal(encoder, features[:5].double())
    assert torch.equal(decoder, encoder)
    with torch.no_grad():
        encoder.zero_()
    assert features[:5].any()
    assert decoder.any()


def test_from_features_with_noise():
    features = draw(500, 40)
    encoder, decoder = from_features(features, noise=0.3)(generator(1), 500, 40)
    assert torch.equal(decoder, encoder)
    assert float((encoder - features).std()) == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(("width", "d_in"), [(7, 4), (5, 3)])
def test_too_few_features(width, d_in):
    message = rf"cannot begin {width} latents in {d_in} dimensions from features of shape \[6, 4\]"
    with pytest.raises(ConfigError, match=message):
        from_features(draw(6, 4))(generator(), width, d_in)


def test_data_mean():
    x = draw(100, 3)
    mean = data_mean([x[:30], x[30:32], x[32:]])
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean, x.double().mean(0).float())


def test_data_mean_takes_no_more_than_it_needs():
    taken = []

    def batches():
        for number in range(10):
            taken.append(number)
            yield draw(8, 3, seed=number)

    mean = data_mean(batches(), samples=20)
    assert taken == [0, 1, 2]
    torch.testing.assert_close(mean, torch.cat([draw(8, 3, seed=n) for n in range(3)]).mean(0))


def test_data_mean_does_not_lose_digits():
    """A sum of a million in float32 would be off in the fourth digit."""
    batches = [torch.full((1000, 1), 1 / 3)] * 1000
    assert data_mean(batches, samples=10**6).item() == torch.tensor(1 / 3).item()


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 3)]])
def test_data_mean_of_nothing(batches):
    with pytest.raises(DataError, match="expected at least one, got none"):
        data_mean(batches)


def test_data_mean_of_the_wrong_shape(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ShapeError, match=r"shape \[batch, d_in\], got \[2, 5, 3\]"):
        data_mean([draw(2, 5, 3)])
