"""Control and extended SAE train in lockstep, and neither changes the other."""

import math
from dataclasses import replace

import pytest
import torch

from latent_assay import recipes
from latent_assay.batch import WeightedBatch
from latent_assay.diagnosis import continue_both, continue_together
from latent_assay.errors import ConfigError
from latent_assay.extension import extend
from latent_assay.training import TrainingConfig, fit

from ..laws import recipes as small

STEPS, NEW = 20, 3


def generators(members=2):
    return [torch.Generator().manual_seed(7 + member) for member in range(members)]


def begin(name):
    """A recipe's SAE after a few steps, so that a threshold of BatchTopK exists."""
    recipe = small.ensemble(name)
    fit(recipe.sae, recipe.objective, small.batches(), config(recipe, 5), progress=False)
    return recipe


def config(recipe, steps=STEPS):
    return replace(recipe.config, steps=steps, log_every=steps, lr_warm_up_steps=0)


def objective_of(name):
    """The recipe's objective for a company of any width, its values by member repeated."""

    def make(sae):
        varied = {key: values * (sae.members // 2) for key, values in small.VARIED[name].items()}
        sizes = {"seeds": (0,) * sae.members, "width": sae.width}
        if "levels" in small.FIXED.get(name, {}):
            sizes["levels"] = (3, sae.width)
        return small.ensemble(name, **(varied | sizes)).objective

    return make


def largest_difference(first, second):
    mine, own = first.state_dict(), second.state_dict()
    assert set(mine) == set(own)
    return max(float((mine[name] - own[name]).nan_to_num(0.0).abs().max()) for name in own)


@pytest.mark.parametrize("name", small.NAMES)
def test_control_in_company_equals_the_control_alone(name):
    recipe = begin(name)
    both = continue_both(
        recipe.sae,
        objective_of(name),
        small.batches(seed=1),
        config(recipe),
        n=NEW,
        generators=generators(),
        progress=False,
    )
    for mine, by_itself in (
        (both.control, recipe.sae),
        (both.extended, extend(recipe.sae, NEW, generators())),
    ):
        (alone,), _ = continue_together(
            [by_itself], objective_of(name), small.batches(seed=1), config(recipe), progress=False
        )
        assert largest_difference(mine, alone) < 1e-9
    assert both.control.widths == (small.WIDTH,) * 2
    assert both.extended.widths == (small.WIDTH + NEW,) * 2
    # the new latents did something, so that the comparison says something
    moved = both.extended.W_dec[:, : small.WIDTH] - both.control.W_dec
    assert float(moved.detach().abs().max()) > 1e-5


def test_the_beginning_is_left_as_it_is():
    recipe = begin("relu_l1")
    kept = {name: tensor.clone() for name, tensor in recipe.sae.state_dict().items()}
    continue_both(
        recipe.sae, objective_of("relu_l1"), small.batches(), config(recipe), n=1,
        generators=generators(), progress=False,
    )  # fmt: skip
    assert all(torch.equal(kept[name], now) for name, now in recipe.sae.state_dict().items())


def test_each_member_keeps_its_own_batches():
    """Members with batches of their own equal members trained apart on them, weighted or not."""
    recipe = small.ensemble("relu_l1", l1=(0.01, 0.01), lr=(1e-2, 1e-2))
    streams = [small.batches(seed=seed) for seed in (3, 4)]
    x = [torch.stack([next(stream) for stream in streams]) for _ in range(STEPS)]
    weight = torch.rand(2, small.BATCH, generator=generators()[0], dtype=torch.float64)
    weight = weight / weight.sum(-1, keepdim=True)
    plain = TrainingConfig(steps=STEPS, lr=(1e-2, 2e-2), log_every=STEPS)

    def make(sae):
        return recipes.relu_l1(d_in=6, width=sae.width, l1=0.01).objective

    for batches, own in (
        (x, lambda member: [each[member] for each in x]),
        (
            [WeightedBatch(each, weight) for each in x],
            lambda member: [WeightedBatch(each[member], weight[member]) for each in x],
        ),
    ):
        both = continue_both(
            recipe.sae, make, batches, plain, n=NEW, generators=generators(), progress=False
        )
        for member in (0, 1):
            alone = continue_both(
                recipe.sae.take(member),
                make,
                own(member),
                replace(plain, lr=plain.lr[member]),
                n=NEW,
                generators=generators()[member],
                progress=False,
            )
            assert largest_difference(both.control.take(member), alone.control) < 1e-9
            assert largest_difference(both.extended.take(member), alone.extended) < 1e-9


def test_an_interrupted_continuation_goes_on(tmp_path):
    from latent_assay.worlds import presets

    world = presets.hierarchical_demo()
    sae = recipes.relu_l1(d_in=world.d_in, width=6, seeds=(0, 1)).sae

    def go(batches, folder):
        return continue_both(
            sae,
            lambda company: recipes.relu_l1(d_in=world.d_in, width=company.width).objective,
            batches,
            TrainingConfig(steps=40, lr=1e-2, log_every=10, checkpoint_every=10),
            n=2,
            generators=generators(),
            folder=folder,
            progress=False,
        )

    class Killed(Exception):
        pass

    def dying():
        stream = world.stream(16, seeds=(5, 6))
        for _ in range(25):
            yield next(stream)
        raise Killed

    whole = go(world.stream(16, seeds=(5, 6)), tmp_path / "whole")
    with pytest.raises(Killed):
        go(dying(), tmp_path / "killed")
    resumed = go(world.stream(16, seeds=(5, 6)), tmp_path / "killed")
    assert largest_difference(whole.control, resumed.control) == 0
    assert largest_difference(whole.extended, resumed.extended) == 0


def test_place_of_a_stream_is_remembered():
    from latent_assay.diagnosis.continuation import _Shared
    from latent_assay.worlds import presets

    world = presets.hierarchical_demo()
    shared = _Shared(world.stream(4, seeds=(0, 1)), members=2, times=3)
    first = iter(shared)
    assert next(first).shape == (6, 4, world.d_in)
    state = shared.state_dict()
    expected = next(first)
    again = _Shared(world.stream(4, seeds=(0, 1)), members=2, times=3)
    again.load_state_dict(state)
    assert torch.equal(next(iter(again)), expected)
    plain = _Shared([torch.ones(5, 3)], members=2, times=3)
    assert not hasattr(plain, "state_dict")
    assert next(iter(plain)).shape == (5, 3)


def test_penalties_begin_at_full_strength_unless_told_otherwise():
    recipe = begin("relu_l1")

    def make(sae):
        return recipes.relu_l1(
            d_in=6, width=sae.width, l1=0.5, sparsity_warm_up_steps=10**6
        ).objective

    def penalty(floor):
        _, history = continue_together(
            [recipe.sae], make, small.batches(), TrainingConfig(steps=1, log_every=1),
            penalty_floor=floor, progress=False,
        )  # fmt: skip
        return history["lp"][0]

    assert (penalty(math.inf) > 0).all()
    assert penalty(0.25) == pytest.approx(penalty(math.inf) / 2)
    assert (penalty(0.0) == 0).all()


def test_unequal_companies_are_refused():
    one, two = small.alone("relu_l1", 0).sae, small.ensemble("relu_l1").sae
    with pytest.raises(ConfigError, match=r"equally many members, got \[1, 2\]"):
        continue_together([one, two], lambda sae: None, [], TrainingConfig())
    with pytest.raises(ConfigError, match=r"equally many members, got \[\]"):
        continue_together([], lambda sae: None, [], TrainingConfig())
