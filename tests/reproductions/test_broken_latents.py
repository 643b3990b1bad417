"""The readings behind source 004, on SAEs and distributions that are known."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from latent_assay.reproductions.broken_latents import (
    ENTRIES,
    equal_width,
    narrow,
    one_latent,
    peaks,
    too_few,
    too_many,
)
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.worlds import ChildSwitchesParent, Constant, Independent, Linear, World, presets


def small_world(rates, parents=None, magnitudes=None):
    n = len(rates)
    law = ChildSwitchesParent(parents=parents, rates=rates) if parents else Independent(rates=rates)
    return World(directions=torch.eye(n), firing=law, magnitudes=magnitudes or Constant())


def test_entries_are_of_source_004_with_distinct_ids():
    ids = [entry.id for entry in ENTRIES]
    assert len(set(ids)) == len(ids)
    assert all(entry.source == "004" and entry.id.startswith("004-") for entry in ENTRIES)
    assert all(entry.claim and entry.setup for entry in ENTRIES)


def test_the_entry_in_closed_form_holds():
    (entry,) = [each for each in ENTRIES if each.id == "004-expected-error"]
    assert entry.run(True).passed


# ---------------------------------------------------------------------- census


def test_census_of_each_kind_of_latent():
    half = math.sqrt(0.5)
    cosines = torch.tensor(
        [[[1.0, 0.0], [-0.97, 0.2], [0.0, 1.0], [half, half], [half, -half], [1.0, 0.0]]]
    )
    alive = torch.tensor([[True, True, True, True, False, False]])
    found = too_many.census(cosines, alive)
    assert found.alive.tolist() == [4]
    assert found.combinations.tolist() == [1]  # the other combination is dead
    assert found.duplicates.tolist() == [1]  # -f counts as f; a dead copy does not


def test_worst_recovery_takes_either_sign():
    world = presets.absorption()
    rows = world.features.clone()
    rows[2] *= -1
    perfect = SAE(rows.unsqueeze(0), sparsifier=ReLU())
    assert equal_width.worst_recovery(perfect, world).item() == pytest.approx(1)
    rows[2] = 0
    lacking = SAE(rows.unsqueeze(0), sparsifier=ReLU())
    assert equal_width.worst_recovery(lacking, world).item() == pytest.approx(0, abs=1e-6)


def test_near_truth_begins_at_the_features_and_fills_up_with_short_rows():
    world = too_many.world_of(Independent(rates=(0.2,) * 4))
    start = too_many.near_truth(world, 0.0)
    encoder, decoder = start(torch.Generator().manual_seed(0), 8, world.d_in)
    torch.testing.assert_close(encoder[:4], world.features.double())
    torch.testing.assert_close(encoder[4:].norm(dim=-1), torch.full((4,), 0.1).double())
    assert encoder.equal(decoder)
    assert encoder is not decoder


# ---------------------------------------------------------------------- narrow


@pytest.mark.parametrize("parents", [None, (2, None, None, 2)])
def test_covariance_is_that_of_the_enumerated_world(parents):
    world = small_world((0.3, 0.2, 0.1, 0.25), parents, Linear(first=4.0, last=1.0))
    states = world.enumerate(dtype=torch.float64)
    mean = states.probability @ states.magnitudes
    second = states.magnitudes.mT @ (states.probability.unsqueeze(-1) * states.magnitudes)
    expected = second - mean.unsqueeze(-1) * mean
    torch.testing.assert_close(narrow.covariance(world), expected)


def test_principal_directions_of_independent_features_are_those_of_largest_variance():
    world = narrow.world_with(None)
    found = narrow.principal_directions(world)
    inside = narrow.within(world.features.unsqueeze(0), found)[0]
    expected = one_hot(torch.arange(4, 9), 20).sum(0).double()
    torch.testing.assert_close(inside, expected, atol=1e-4, rtol=0)


def test_a_parent_brings_features_into_the_principal_directions():
    with_parent = narrow.within(
        narrow.world_with(12).features.unsqueeze(0),
        narrow.principal_directions(narrow.world_with(12)),
    )[0]
    assert 0.3 < with_parent[12] < 0.6
    share = narrow.within(
        narrow.world_with(6).features.unsqueeze(0),
        narrow.principal_directions(narrow.world_with(6)),
    )[0]
    assert share[3] == pytest.approx(1, abs=1e-4)  # which has no latent without a parent
    assert float(share[5:8].sum()) == pytest.approx(2, abs=1e-4)


def test_best_cosines_name_the_worst_of_the_wanted_features():
    cosines = torch.tensor([[[1.0, 0.1, 0.0], [0.0, 0.6, 0.9]]])
    assert too_few.best_cosines(cosines, (0, 2)).item() == pytest.approx(0.9)
    assert too_few.best_cosines(cosines, (0, 1)).item() == pytest.approx(0.6)


# ---------------------------------------------------------------------- peaks


def test_peaks_of_the_exact_distribution_over_patterns():
    """.88 of feature 0 (magnitude 3) and .47 of feature 1 (2): alone, alone, and together."""
    world = small_world((0.2, 0.3), magnitudes=Linear(first=3.0, last=2.0))
    states = world.enumerate()
    z = states.magnitudes @ torch.tensor([0.88, 0.47])
    found = peaks.peaks(z, states.probability)
    assert found == pytest.approx([0.94, 2.64, 3.58], abs=0.05)


def test_weights_count_like_repetitions():
    z = torch.tensor([1.0, 4.0, 9.0])
    repeated = z.repeat_interleave(torch.tensor([5, 3, 2]))
    assert peaks.peaks(z, torch.tensor([0.5, 0.3, 0.2])) == pytest.approx(peaks.peaks(repeated))


def test_silence_is_no_peak():
    z = torch.cat([torch.zeros(500), torch.full((300,), 0.4), torch.full((50,), 10.0)])
    assert peaks.peaks(z) == pytest.approx([10.0], abs=0.1)
    assert len(peaks.peaks(z, floor=0.0)) == 2
    assert peaks.peaks(torch.zeros(10)) == []
    assert peaks.peaks(torch.empty(0)) == []


def test_a_broad_hill_is_one_peak():
    generator = torch.Generator().manual_seed(0)
    hill = 10 + torch.randn(20_000, generator=generator)
    assert len(peaks.peaks(hill)) == 1


def test_peak_counts_are_per_member_and_latent():
    one = torch.tensor([0.0, 5.0, 5.0, 5.0])
    two = torch.tensor([0.0, 5.0, 5.0, 9.0])
    z = torch.stack([torch.stack([one, two], -1), torch.stack([two, two], -1)])
    assert peaks.peak_counts(z).tolist() == [[1, 2], [2, 2]]


# ---------------------------------------------------------------------- one latent


def test_leading_direction_of_the_single_latent_world():
    found = one_latent.leading_direction(presets.single_latent())
    assert found.tolist() == pytest.approx(one_latent.MIXTURE, abs=0.005)
