import math

import pytest
import torch

from latent_assay import worlds
from latent_assay.errors import ConfigError, WorldError
from latent_assay.worlds import Normal, World, presets
from latent_assay.worlds.directions import largest_interference

from .sampling import assert_law_holds, seeded

# what a preset needs beyond a generator, or what makes it quick
SETTINGS = {
    "hedging_pair": {"correlation": 0.3},
    "sparse_superposition": {"n_features": 12, "d_in": 4, "steps": 20},
    "synth_bench": {"n_features": 130, "d_in": 40, "steps": 2},
}


def made(name: str, seed: int = 0) -> World:
    return presets.PRESETS[name](seeded(seed), **SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset(name, tmp_path):
    world = made(name)
    x = world.sample(50, seeded(1)).x
    assert x.shape == (50, world.d_in)
    assert x.isfinite().all()
    assert torch.equal(x, made(name).sample(50, seeded(1)).x)
    assert not torch.equal(world.directions, made(name, seed=1).directions)
    if world.firing.why_not_finite is None and world.n_features <= 4:
        assert_law_holds(world.firing)
    world.save(tmp_path / name)
    assert torch.equal(World.load(tmp_path / name).sample(50, seeded(1)).x, x)
    assert presets.PRESETS[name].__doc__
    assert getattr(worlds, name) is presets.PRESETS[name]


def test_without_a_generator_the_world_is_always_the_same():
    assert torch.equal(worlds.absorption().directions, worlds.absorption(seeded(0)).directions)
    first, again = worlds.hedging_copula(), worlds.hedging_copula(seeded(0))
    assert torch.equal(first.sample(9, seeded(1)).x, again.sample(9, seeded(1)).x)


def rates(world: World) -> list[float]:
    return world.firing.marginals.tolist()


def given(world: World, feature: int, on: int) -> tuple[float, float]:
    """P(feature | on) and P(feature | not on), exactly."""
    found = world.statistics()
    return found.given_firing[on, feature].item(), found.given_silent[on, feature].item()


def test_absorption():
    world = presets.absorption(seeded(0))
    assert world.directions.shape == (4, 50)
    assert rates(world) == pytest.approx([0.25, 0.05, 0.05, 0.05])
    assert given(world, 1, on=0) == pytest.approx((0.2, 0))
    varying = presets.absorption(seeded(0), parent_sd=0.1)
    assert varying.magnitudes == Normal(mean=1.0, sd=(0.1, 0.0, 0.0, 0.0))
    assert not varying.finite


def test_imperfect_absorption():
    world = presets.imperfect_absorption(seeded(0))
    assert rates(world) == pytest.approx([0.25, 0.05, 0.05, 0.05])
    assert given(world, 0, on=1)[0] == pytest.approx(0.95)
    assert presets.imperfect_absorption(seeded(0), together=1.0).parents == (None, 0, None, None)
    with pytest.raises(ConfigError, match=r"`together` is 1\.5"):
        presets.imperfect_absorption(seeded(0), together=1.5)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize(
    ("make", "chances"),
    [
        (presets.hedging_independent, (0.2, 0.2)),
        (presets.hedging_hierarchical, (0.2, 0.0)),
        (presets.hedging_positive, (0.2, 0.1)),
        (presets.hedging_anticorrelated, (0.1, 0.2)),
    ],
)
def test_hedging(make, chances, n):
    world = make(seeded(0), n_features=n)
    assert world.directions.shape == (n, 50)
    assert rates(world)[:-1] == pytest.approx([0.25] * (n - 1))
    assert given(world, n - 1, on=n - 2) == pytest.approx(chances, abs=1e-12)
    others = world.statistics().correlation[:-2, :].fill_diagonal_(0)
    assert others.abs().max().item() < 1e-12 if n > 2 else others.numel() == 0
    with pytest.raises(WorldError, match="`n_features` is 1"):
        make(seeded(0), n_features=1)


def test_hedging_pair():
    world = presets.hedging_pair(seeded(0), correlation=-0.5)
    assert rates(world) == pytest.approx([0.45, 0.25])
    assert world.statistics().correlation[0, 1].item() == pytest.approx(-0.5)


def test_hedging_copula():
    world = presets.hedging_copula(seeded(0))
    assert world.directions.shape == (50, 100)
    assert world.true_l0() == pytest.approx(10.9525)
    assert rates(world)[0] == pytest.approx(0.3881)
    off = world.firing.correlation.matrix.abs()[~torch.eye(50, dtype=torch.bool)]
    assert 0.11 < off.mean() < 0.15
    assert world.magnitudes == Normal(mean=1.0, sd=0.15)


def test_matryoshka_worlds():
    balanced = presets.balance_matryoshka(seeded(0))
    assert rates(balanced) == pytest.approx([0.25, *[0.25 * 0.15] * 3])
    assert balanced.parents == (None, 0, 0, 0)
    uneven = presets.unbalanceable_matryoshka(seeded(0))
    assert [given(uneven, child, on=0)[0] for child in (1, 2, 3)] == pytest.approx(
        [0.02, 0.15, 0.5]
    )
    other = presets.unbalanceable_matryoshka(seeded(0), middle=0.2)
    assert given(other, 2, on=0)[0] == pytest.approx(0.2)


def test_broken_latents():
    world = presets.broken_latents(seeded(0))
    assert world.directions.shape == (20, 50)
    p, m = world.firing.marginals, world.magnitudes.constants(20)
    assert p.tolist() == pytest.approx([0.3 * (i + 1) / 20 for i in range(20)])
    assert m.tolist() == pytest.approx([20.0 - i for i in range(20)])
    strongest = (p * m**2).topk(5)
    assert sorted(strongest.indices.tolist()) == [4, 5, 6, 7, 8]
    assert strongest.indices[0] == 6
    with_parent = presets.broken_latents(seeded(0), parent=12)
    parent_rate = with_parent.firing.marginals[12].item()
    assert parent_rate == pytest.approx(1 - (1 - 0.195) * (1 - 0.09) * (1 - 0.12))
    assert with_parent.firing.marginals[5].item() == pytest.approx(0.09)
    assert given_children(with_parent) == [5, 7]
    assert given_children(presets.broken_latents(seeded(0), parent=6)) == [5, 7]


def given_children(world: World) -> list[int]:
    return [i for i, parent in enumerate(world.parents) if parent is not None]


def test_broken_latents_in_superposition():
    world = presets.broken_latents(seeded(0), parent=6, d_in=19)
    cosine, _ = largest_interference(world.directions)
    assert cosine == pytest.approx(1 / 19, abs=1e-6)


def test_single_latent():
    world = presets.single_latent(seeded(0))
    assert rates(world) == pytest.approx([0.3, 0.12, 0.12, 0.2])


def test_sparse_superposition():
    world = made("sparse_superposition")
    assert world.true_l0() == pytest.approx(0.12)
    assert world.directions.norm(dim=1).std() > 0  # columns are not of unit length
    drawn = world.sample(20_000, seeded(0)).magnitudes
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_synth_bench_structure():
    world = presets.synth_bench(seeded(0), n_features=512, d_in=64, steps=1)
    parents = world.parents
    depth = world.firing.forest.depths
    assert [depth.count(d) for d in range(1, 4)] == [16, 64, 256]  # 4 roots, branching 4
    assert parents[4:8] == (0, 0, 0, 0)
    assert parents[20:24] == (4, 4, 4, 4)
    assert parents[340:] == (None,) * 172
    assert world.bias.norm().item() == pytest.approx(0.5)
    fires = world.sample(4000, seeded(1)).firing
    for child, parent in enumerate(parents):
        if parent is not None:
            assert not (fires[:, child] & ~fires[:, parent]).any()
    for family in world.firing.forest.children:
        assert not family or fires[:, list(family)].sum(dim=1).max() <= 1
    # parents fire alone often enough for absorption to have support
    root_on = fires[:, 0]
    alone = root_on & ~fires[:, list(world.firing.forest.children[0])].any(dim=1)
    assert 0.3 < (alone.sum() / root_on.sum()).item() < 0.5
    with pytest.raises(ConfigError, match="`alone` is -1"):
        presets.synth_bench(seeded(0), alone=-1.0)


def test_synth_bench_with_room_and_without_parents_alone():
    world = presets.synth_bench(seeded(0), n_features=24, d_in=24, alone=0.0)
    assert largest_interference(world.directions)[0] < 1e-5
    family = list(world.firing.forest.children[0])
    assert math.isclose(sum(world.firing.rates[child] for child in family), 1.0)


def test_hierarchical_demo():
    world = presets.hierarchical_demo(seeded(0))
    enumeration = world.enumerate(dtype=torch.float64)
    firing, probability = enumeration.firing, enumeration.probability
    assert not (firing[:, [5, 6]].all(dim=1) | firing[:, [6, 7]].all(dim=1)).any()
    assert firing[:, [1, 2]].all(dim=1).any()
    for parent, children in ((0, [1, 2]), (4, [5, 6, 7])):
        on = firing[:, parent]
        alone = on & ~firing[:, children].any(dim=1)
        assert 0.3 < (probability[alone].sum() / probability[on].sum()).item() < 0.6


def test_presets_follow_the_dimensions():
    assert presets.absorption(seeded(0), d_in=8).d_in == 8
    with pytest.raises(WorldError, match="16 directions cannot be orthonormal in 8"):
        presets.hierarchical_demo(seeded(0), d_in=8)
