"""On SAEs whose absorption and hedging are planted, and on perfect ones."""

import pytest
import torch
from torch.nn.functional import normalize

from latent_assay.evals.first_letter import (
    hedging_share,
    published_absorption,
    repaired_absorption,
)

N = 4000


def generator():
    return torch.Generator().manual_seed(0)


def magnitudes(generator, n=N):
    return 1 + 0.15 * torch.randn(n, generator=generator)


def both(x, z, decoder, parent, fires):
    """Published (mean over samples with the parent) and repaired absorption, latent 0 the main."""
    published = published_absorption(x[fires], z[fires], normalize(decoder, dim=-1), parent, [0])
    half = torch.arange(len(x)) % 2 == 0
    repaired = repaired_absorption(
        x, z, decoder, parent, [0], labels=fires, found=fires, scored=half
    )
    return published, repaired


@pytest.mark.parametrize("together", [(0.5, 0.5), (0.8, 0.05)])
def test_a_perfect_sae_with_a_superposed_neighbour_absorbs_nothing(together):
    """Cosine .45, magnitude 1.5: SAEBench's formula gives 0.4 wherever both fire."""
    source = generator()
    features = torch.eye(8)[:2].clone()
    features[1, :2] = torch.tensor([0.45, (1 - 0.45**2) ** 0.5])
    parent = torch.rand(N, generator=source) < 0.3
    rate = torch.where(parent, *map(torch.tensor, together))
    neighbour = torch.rand(N, generator=source) < rate
    z = torch.stack([parent * magnitudes(source), 1.5 * neighbour * magnitudes(source)], dim=1)
    published, repaired = both(z @ features, z, features, features[0], parent)
    assert published.fraction[neighbour[parent]].mean() > 0.15
    assert repaired.fraction == pytest.approx(0, abs=0.02)
    assert repaired.full == pytest.approx(0, abs=0.01)


def absorbing(delta, child_rate, scale=1.0):
    """Parent and child as an SAE learns them that moves a share delta of the parent."""
    source = generator()
    parent = torch.rand(N, generator=source) < 0.3
    child = parent & (torch.rand(N, generator=source) < child_rate)
    alone = torch.rand(N, generator=source) < 0.2
    a = parent * magnitudes(source)
    c = child * a
    x = torch.stack([a, c, alone * 1.0], dim=1) @ torch.eye(3, 8)
    z = torch.stack([(a - delta * c).clamp_min(0), c / scale, alone * 1.0], dim=1)
    decoder = torch.eye(3, 8)
    decoder[1, 0] = delta
    decoder[1] *= scale
    return x, z, decoder, torch.eye(8)[0], parent, child


@pytest.mark.parametrize("delta", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("child_rate", [0.3, 0.6])
def test_planted_absorption_is_measured(delta, child_rate):
    """The share of the parent that is missing, times how often the child is there."""
    x, z, decoder, direction, parent, child = absorbing(delta, child_rate)
    _, repaired = both(x, z, decoder, direction, parent)
    assert repaired.fraction == pytest.approx(delta * child_rate, abs=0.03)
    if delta == 0:
        assert repaired.absorbers == ()
    else:
        assert repaired.absorbers == (1,)
        assert repaired.n_absorber == int((child & (torch.arange(N) % 2 == 0)).sum())


def test_full_absorption_is_counted():
    x, z, decoder, direction, parent, child = absorbing(1.5, 0.4)
    published, repaired = both(x, z, decoder, direction, parent)
    rate = float(child[parent].double().mean())
    assert repaired.full == pytest.approx(rate, abs=0.05)
    assert float(published.full.double().mean()) == pytest.approx(rate, abs=0.05)


def test_the_length_of_decoder_rows_does_not_matter():
    _, one = both(*absorbing(0.6, 0.4)[:5])
    _, other = both(*absorbing(0.6, 0.4, scale=4.0)[:5])
    assert other.fraction == pytest.approx(one.fraction, abs=1e-5)


def test_what_cannot_be_measured_says_why():
    x, z, decoder, direction, parent, child = absorbing(1.0, 0.4)
    settings = {"labels": parent, "found": parent, "scored": torch.ones(N, dtype=torch.bool)}
    silent = torch.zeros_like(z)
    assert "silent in most samples" in repaired_absorption(
        x, silent, decoder, direction, [0], **settings
    )
    always = {**settings, "found": child}
    assert "only 0 samples have it without" in repaired_absorption(
        x, z, decoder, direction, [0], **always
    )
    nowhere = {**settings, "found": parent & False}
    assert "finds it in no test sample" in repaired_absorption(
        x, z, decoder, direction, [0], **nowhere
    )


def test_hedging_is_seen_where_absorption_is_blind():
    """A latent that is its parent and half of each child: absorption 0, hedging 3/7."""
    source = generator()
    n_children = 3
    parents = torch.rand(N, 2, generator=source) < 0.4
    children = parents.repeat_interleave(n_children, 1) & (
        torch.rand(N, 2 * n_children, generator=source) < 0.4
    )
    firing = torch.cat([parents, children], dim=1).float()
    x = firing @ torch.eye(8, 16)
    hedged = torch.zeros(16)
    hedged[0] = 1.0
    hedged[2 : 2 + n_children] = 0.5
    direction, own = torch.eye(16)[0], parents[:, 0]
    assert hedging_share(hedged, direction, x, own) == pytest.approx(3 / 7, abs=0.03)
    assert hedging_share(direction, direction, x, own) == pytest.approx(0, abs=0.01)
    # another parent's children are no hedging of this one
    others = torch.zeros(16)
    others[0] = 1.0
    others[5:8] = 0.5
    assert hedging_share(others, direction, x, own) == pytest.approx(0, abs=0.05)
    assert hedging_share(torch.zeros(16), direction, x, own) is None
    assert hedging_share(hedged, direction, x[:5], own[:5] | True) is None
    z = torch.stack([x @ hedged / hedged.square().sum(), torch.zeros(N)], dim=1)
    published, _ = both(x, z, torch.stack([hedged, torch.eye(16)[9]]), direction, parents[:, 0])
    assert published.fraction.max() == 0
