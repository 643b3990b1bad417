"""The loss, the views and the network."""

import math
import re

import pytest
import torch

from latent_assay.activations.images import (
    AugmentationConfig,
    ContrastiveNetwork,
    NetworkConfig,
    augmented,
    contrastive_loss,
)
from latent_assay.errors import ConfigError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_loss_equals_its_formula():
    first, second = torch.rand(2, 5, 3, generator=seeded(), dtype=torch.float64)
    z = torch.cat([first, second])
    total = 0.0
    for v in range(10):
        cosines = [float(torch.cosine_similarity(z[v], z[w], dim=0)) / 0.3 for w in range(10)]
        others = math.log(sum(math.exp(cosines[w]) for w in range(10) if w != v))
        total += others - cosines[(v + 5) % 10]
    assert contrastive_loss(first, second, 0.3).item() == pytest.approx(total / 10)


def test_a_view_without_anything_is_finite():
    first = torch.zeros(2, 3, requires_grad=True)
    loss = contrastive_loss(first, torch.eye(3)[:2])
    loss.backward()
    assert loss.isfinite()
    assert first.grad.isfinite().all()


def test_loss_is_least_for_views_that_agree():
    z = torch.eye(4)
    assert contrastive_loss(z, z) < contrastive_loss(z, z.roll(1, 0))


def test_augmentation_that_changes_nothing():
    config = AugmentationConfig(smallest_crop=1.0, aspect=1.0, flip=False, jitter=0.0, grey=0.0)
    images = torch.rand(3, 3, 9, 9, generator=seeded())
    assert torch.allclose(augmented(images, config, seeded(1)), images, atol=1e-5)


def test_flip_mirrors_about_half():
    config = AugmentationConfig(smallest_crop=1.0, aspect=1.0, jitter=0.0, grey=0.0)
    images = torch.rand(400, 1, 8, 8, generator=seeded())
    views = augmented(images, config, seeded(1))
    mirrored = ((views - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-4).float()
    same = ((views - images).abs().amax((1, 2, 3)) < 1e-4).float()
    assert (mirrored + same == 1).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_views_differ_stay_in_range_and_are_reproducible():
    images = torch.rand(20, 3, 16, 16, generator=seeded())
    config = AugmentationConfig(rotation=20.0)
    first, again = (augmented(images, config, seeded(1)) for _ in range(2))
    other = augmented(images, config, seeded(2))
    assert torch.equal(first, again)
    assert ((first - other).abs().amax((1, 2, 3)) > 0.01).all()
    assert first.min() >= 0
    assert first.max() <= 1


def test_some_views_lose_their_colour():
    images = torch.rand(500, 3, 8, 8, generator=seeded())
    views = augmented(images, AugmentationConfig(grey=0.3), seeded(1))
    grey = (views.amax(1) - views.amin(1)).amax((1, 2)) < 1e-5
    assert 0.2 < grey.float().mean() < 0.4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smallest_crop": 0.0}, "`smallest_crop` of the augmentation is 0.0; expected above 0"),
        ({"aspect": 0.5}, "`aspect` of the augmentation is 0.5; expected at least 1"),
        ({"jitter": 1.0}, "expected at least 0 and below 1"),
        ({"grey": 2.0}, "expected from 0 to 1"),
        ({"rotation": -1.0}, "expected from 0 to 180"),
    ],
)
def test_augmentation_refuses(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        AugmentationConfig(**changes)


@pytest.mark.parametrize("size", [8, 64])
def test_network_is_not_negative_and_reproducible(size):
    config = NetworkConfig(channels=(4, 8), depths=(1, 2), hidden=16, out=12)
    before = torch.random.get_rng_state()
    made = [ContrastiveNetwork(config, in_channels=3, size=size, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    x = torch.rand(5, 3, size, size, generator=seeded())
    z, again, other = (each.eval()(x) for each in made)
    assert z.shape == (5, 12)
    assert (z >= 0).all()
    assert torch.equal(z, again)
    assert not torch.equal(z, other)
    assert made[0].features(x, "backbone").shape == (5, 8)


def test_the_default_is_resnet_18():
    network = ContrastiveNetwork(
        NetworkConfig(hidden=8, out=8), in_channels=3, size=224, seed=0
    ).backbone
    # without the layer for 1,000 classes, 512 × 1,000 + 1,000 of torchvision's 11,689,512
    assert sum(p.numel() for p in network.parameters()) == 11_689_512 - 513_000


def test_network_refuses():
    with pytest.raises(ConfigError, match="expected one positive number of each for every stage"):
        NetworkConfig(channels=(4, 8), depths=(1,))
    with pytest.raises(ConfigError, match="temperature must be positive, got 0"):
        contrastive_loss(torch.eye(2), torch.eye(2), 0.0)
