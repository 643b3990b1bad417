"""What is read from curves whose minimum or bend is known."""

import numpy as np
import pytest

from latent_assay.diagnosis.choosing import (
    Hedging,
    Sweep,
    choose_balance,
    choose_sparsity,
    choose_width,
    levelling,
    minimum,
)
from latent_assay.errors import ConfigError, DataError
from latent_assay.metrics import MeanSd

VALUES = (2.0, 4.0, 8.0, 16.0, 32.0)


def noisy(means, *, noise=0.01, members=5, parts=1, seed=1):
    """A curve with independent noise for every member and part."""
    generator = np.random.default_rng(seed)
    means = np.asarray(means, dtype=float)
    return means[:, None, None] + noise * generator.normal(size=(len(means), members, parts))


def test_a_clear_minimum_lies_between_its_neighbours():
    found = minimum(VALUES, noisy([3, 2, 1, 2, 3]))
    assert (found.shape, found.best, found.low, found.high) == ("inside", 8, 4, 16)
    assert found.determined
    assert found.holds(5)
    assert not found.holds(3)


@pytest.mark.parametrize(
    ("means", "shape", "low", "high"),
    [
        ([5, 4, 3, 2, 1], "falling", 16, None),
        ([1, 2, 3, 4, 5], "rising", None, 4),
        ([1, 1, 1, 1, 1], "flat", None, None),
    ],
)
def test_what_the_grid_does_not_enclose_stays_open(means, shape, low, high):
    found = minimum(VALUES, noisy(means))
    assert (found.shape, found.low, found.high) == (shape, low, high)
    assert not found.determined


def test_a_curve_that_falls_and_is_level_has_no_upper_end():
    found = minimum(VALUES, noisy([3, 2, 1, 1, 1], noise=0.05, members=6))
    assert found.shape in ("level above", "falling")
    assert found.low == 4
    assert found.high is None


def test_noise_makes_the_interval_wider_and_one_seed_makes_none():
    means = [3, 2, 1, 1.05, 3]
    sharp, blurred = minimum(VALUES, noisy(means)), minimum(VALUES, noisy(means, noise=0.2))
    assert sharp.candidates == (8,)
    assert set(blurred.candidates) >= {8, 16}
    alone = minimum(VALUES, noisy(means, members=1))
    assert (alone.shape, alone.low, alone.high) == ("one seed", None, None)


@pytest.mark.parametrize("members", [3, 5])
def test_noise_alone_seldom_looks_like_a_minimum(members):
    shapes = [
        minimum(VALUES, noisy([1] * 5, members=members, seed=seed)).shape for seed in range(60)
    ]
    assert shapes.count("inside") <= 3
    assert shapes.count("flat") >= 42


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Parabolas with a minimum anywhere in the grid, six noisy seeds."""
    values = tuple(float(v) for v in range(1, 12))
    held = 0
    for seed in range(60):
        truth = 2 + 8 * seed / 59
        found = minimum(
            values, noisy([(v - truth) ** 2 for v in values], noise=1.0, members=6, seed=seed)
        )
        held += found.holds(truth)
    assert held >= 57


def test_where_a_fall_ends():
    found = levelling(VALUES, noisy([5, 4, 3, 3, 3]))
    assert (found.shape, found.best, found.low, found.high) == ("inside", 8, 4, 16)
    assert [gain.counts for gain in found.gains] == [True, True, False, False]
    assert levelling(VALUES, noisy([5, 4, 3, 2, 1])).shape == "falling"
    assert levelling(VALUES, noisy([1, 1, 1, 1, 1])).shape == "level"
    assert levelling(VALUES, noisy([5, 4, 3, 3, 3], members=1)).shape == "one seed"


def sweep(kind="sparsity", values=VALUES, **curves):
    return Sweep(
        kind=kind, name="G", axis="k", values=values, settings=values, label="k", curves=curves
    )


def test_advice_on_sparsity_in_plain_words():
    def told(cosine, projection):
        return choose_sparsity(
            sweep(
                decoder_pairwise_cosine=noisy(cosine),
                nth_decoder_projection=noisy(projection, parts=4),
            )
        )

    both = told([5, 4, 3, 2, 1], [-5, -4, -3, -2, -1])
    assert both.advice == "L0 is too low: the curve still falls at k = 32. Try k from 48 to 96."
    assert not both.determined
    assert "too high: the curve rises" in told([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]).advice
    assert "flat within its noise from k = 2 to 32" in told([1] * 5, [1] * 5).advice
    inside = told([3, 2, 1, 2, 3], [3, 2, 1, 1, 1])
    assert (inside.best, inside.low, inside.high, inside.determined) == (8, 4, 16, True)
    assert inside.advice.startswith("Take k = 8. Below 4 L0 is too low, above 16 too high")
    # where one curve is flat the other decides
    assert told([1] * 5, [3, 2, 1, 2, 3]).best == 8
    against = told([3, 1, 3, 4, 5], [5, 4, 3, 1, 3])
    assert not against.determined
    assert "disagree" in against.advice
    assert (against.low, against.high) == (2, 32)


def test_advice_on_width():
    fvu = noisy([5, 4, 3, 3, 3])
    assert choose_width(sweep("width", fvu=fvu)).advice.startswith("Take width 8: the FVU falls")
    falling = choose_width(sweep("width", fvu=noisy([5, 4, 3, 2, 1])))
    assert "still falls at width 32. Try 64 and 128" in falling.advice
    # an FVU that always falls says less than hedged latents that become fewer
    both = choose_width(
        sweep("width", fvu=noisy([5, 4, 3, 2, 1]), hedged_share=noisy([0.5, 0.3, 0.1, 0.1, 0.1]))
    )
    assert both.best == 8
    rising = choose_width(
        sweep("width", fvu=noisy([5, 4, 3, 2, 1]), hedged_share=noisy([0.1, 0.2, 0.3, 0.4, 0.5]))
    )
    assert (rising.best, rising.determined) == (None, False)
    assert "the FVU still falls at width 32, but the share of hedged latents" in rising.advice


def of(mean):
    return MeanSd(mean=mean, sd=0.005, n=3)


def test_a_hedging_degree_decides_on_width():
    null = {32: of(0.01), 64: of(0.01), 128: of(0.01)}
    degree = {32: of(0.2), 64: of(0.1), 128: of(0.011)}
    choice = choose_width(hedging=Hedging(name="E", degree=degree, null=null))
    assert (choice.best, choice.low, choice.high) == (128, 64, 128)
    assert choice.advice.startswith("Take width 128: up to 64 latents hedge")
    narrow = choose_width(hedging=Hedging(name="E", degree=degree | {128: of(0.1)}, null=null))
    assert "Too narrow" in narrow.advice
    assert "256 and 512" in narrow.advice
    assert choice.to_json()["hedging"]["32"]["degree"]["mean"] == 0.2


def test_advice_on_balance():
    values = (0.0, 0.25, 0.5, 1.0, 2.0)
    total = [0.5, 0.3, 0.2, 0.4, 0.6]
    found = choose_balance(sweep("balance", values, absorbed_or_hedged=noisy(total)))
    assert (found.best, found.low, found.high) == (0.5, 0.25, 1)
    assert found.advice.startswith("Take k = 0.5 (")
    flat = choose_balance(sweep("balance", values, absorbed_or_hedged=noisy([0.3] * 5)))
    assert "no k from 0 to 2 is better" in flat.advice


def test_mistakes_are_explained():
    with pytest.raises(ConfigError, match="three settings with ascending k"):
        sweep(values=(1.0, 2.0))
    with pytest.raises(ConfigError, match="at least three ascending values"):
        minimum((1.0, 2.0), noisy([1, 2]))
    with pytest.raises(DataError, match="finite number for every setting"):
        minimum(VALUES, noisy([1, 2, np.nan, 3, 4]))
    with pytest.raises(ConfigError, match="positive, ascending"):
        levelling((0.0, 1.0, 2.0), noisy([1, 2, 3]))
    with pytest.raises(ConfigError, match="found none of them"):
        choose_width()
    with pytest.raises(ConfigError, match="let it run"):
        choose_balance(sweep("balance"))
    with pytest.raises(ConfigError, match="an L0 is chosen by the curves"):
        choose_sparsity(sweep())
