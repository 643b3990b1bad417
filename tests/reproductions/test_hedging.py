"""The formulas and readings behind the toy models of source 002, without training them."""

import math

import pytest
import torch
from torch.nn import functional as F

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.metrics import hedging_degree
from latent_assay.reproductions.hedging import (
    ENTRIES,
    balance,
    degree_by_width,
    four_features,
    single_latent,
)
from latent_assay.reproductions.hedging.every_member import every
from latent_assay.reproductions.hedging.member_worlds import MemberWorlds
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.worlds import presets


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------ entries


def test_there_is_an_entry_for_every_toy_figure():
    wanted = {f"002-fig-{n}" for n in (1, 2, 3, 4, 5, 8, 10, 11, 12, 13, 14, 15, 20)}
    assert {entry.id for entry in ENTRIES} == wanted
    assert len(ENTRIES) == len(wanted)


def test_entries_tell_what_they_do():
    for entry in ENTRIES:
        assert entry.source == "002"
        assert entry.title
        assert entry.claim.endswith(".")
        assert entry.setup.endswith(".")
        assert "{" not in entry.setup


def test_the_world_of_fifty_features_is_as_claimed():
    (entry,) = [each for each in ENTRIES if each.id == "002-fig-14"]
    assert entry.run(True).passed


# ------------------------------------------------------------------ hedging degree


def test_degree_of_unchanged_latents_is_zero():
    rows = torch.randn(2, 5, 8, generator=generator())
    new = torch.randn(2, 2, 8, generator=generator(1))
    degree = hedging_degree(rows, torch.cat([3 * rows, new], 1), generator())
    torch.testing.assert_close(degree.difference, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(degree.rescaled, torch.zeros(2, dtype=torch.float64))


def test_degree_of_a_hedged_feature():
    """Both of two latents held f3 at 30°; one new latent takes it over."""
    angle = math.radians(30)
    eye = torch.eye(40, dtype=torch.float64)
    before = math.cos(angle) * eye[:2] + math.sin(angle) * eye[2]
    degree = hedging_degree(before[None], eye[None, :3], generator())
    assert degree.projection.item() == pytest.approx(0.5)
    assert degree.difference.item() == pytest.approx(0.5 - degree.baseline.item())
    rescaled = degree.difference / (1 - degree.baseline)
    torch.testing.assert_close(degree.rescaled, rescaled)


def test_baseline_is_what_a_random_direction_catches():
    """For one direction in d dimensions E|cos| is near √(2 / πd)."""
    d_in = 400
    before, after = torch.randn(2, 1, 20, d_in, generator=generator()).double()
    new = torch.randn(1, 1, d_in, generator=generator(1)).double()
    change = (F.normalize(after, dim=-1) - F.normalize(before, dim=-1)).norm(dim=-1).mean()
    degree = hedging_degree(before, torch.cat([after, new], 1), generator(), baselines=500)
    expected = change.item() * math.sqrt(2 / (math.pi * d_in))
    assert degree.baseline.item() == pytest.approx(expected, rel=0.05)


def test_rescaled_form_is_never_negative():
    eye = torch.eye(12)
    before, after = eye[None, :1], torch.stack([eye[1], eye[5]])[None]
    degree = hedging_degree(before, after, generator())
    assert degree.difference.item() < 0
    assert degree.rescaled.item() == 0


def test_new_latents_span_no_more_than_they_are():
    """Neither a copy nor a scaled row nor a dead one adds to the span."""
    rows = torch.randn(1, 4, 6, generator=generator())
    moved = torch.randn(1, 4, 6, generator=generator(1))
    new = torch.randn(1, 1, 6, generator=generator(2))
    one = hedging_degree(rows, torch.cat([moved, new], 1), generator())
    more = torch.cat([moved, new, 5 * new, 0 * new], 1)
    many = hedging_degree(rows, more, generator())
    torch.testing.assert_close(one.projection, many.projection)


def test_members_do_not_matter_to_one_another():
    rows = torch.randn(3, 4, 6, generator=generator())
    after = torch.randn(3, 6, 6, generator=generator(1))
    together = hedging_degree(rows, after, generator()).projection
    alone = [
        hedging_degree(rows[m, None], after[m, None], generator()).projection for m in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_degree_refuses_what_is_not_an_extension():
    rows = torch.randn(2, 4, 6, generator=generator())
    with pytest.raises(ShapeError, match="must have the 4 latents of the control and new ones"):
        hedging_degree(rows, rows, generator())
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        hedging_degree(rows, rows.repeat(1, 2, 1), generator(), baselines=0)


# ------------------------------------------------------------------ members in worlds of their own


def test_members_see_the_probabilities_of_their_world():
    worlds = [presets.hedging_hierarchical(n_features=2), presets.hedging_positive(n_features=2)]
    batch = next(MemberWorlds(worlds, batch_size=None, dtype=torch.float64))
    for member, world in enumerate(worlds):
        mean = batch.weight[member] @ batch.x[member]
        expected = world.enumerate(dtype=torch.float64)
        torch.testing.assert_close(mean, expected.probability @ expected.x)
        torch.testing.assert_close(batch.weight[member].sum().item(), 1.0)


def test_counts_have_the_right_mean_and_are_reproducible():
    worlds = [presets.hedging_pair(correlation=rho) for rho in (-0.5, 0.5)]
    batches = MemberWorlds(worlds, batch_size=20_000)
    batch = next(batches)
    assert batch.samples == 20_000
    torch.testing.assert_close(batch.weight.double(), batches.probability, atol=0.02, rtol=0)
    again = next(MemberWorlds(worlds, batch_size=20_000))
    assert torch.equal(batch.weight, again.weight)


def test_padding_never_occurs():
    worlds = [presets.hedging_hierarchical(n_features=2), presets.hedging_positive(n_features=2)]
    assert len(worlds[0].enumerate().x) == 3
    weight = next(MemberWorlds(worlds, batch_size=1000)).weight
    assert weight[0, 3] == 0
    assert weight[1, 3] > 0


# ------------------------------------------------------------------ readings


def test_every_member_counts():
    assert every("x", torch.tensor([0.4, 0.6]), 0.3, 0.7).passed
    failed = every("x", [0.2, 0.8], 0.3, 0.7)
    assert not failed.passed
    assert failed.measured == pytest.approx(0.5)


def test_reading_orders_latents_and_turns_absences():
    world = presets.hedging_independent()
    f = world.features
    rows = torch.stack([f[1], f[2] + 0.25 * f[3], -f[0]])[None]
    b_dec = 0.2 * f[3] + f[0]
    reading = four_features.read(SAE(rows, rows, b_dec=b_dec[None], sparsifier=ReLU()), world)
    assert reading.turned == 1
    assert (four_features.own(reading.decoder) > 0.96).all()
    assert reading.decoder[0, 2, 3].item() == pytest.approx(0.25 / math.hypot(1, 0.25), abs=1e-5)
    assert reading.bias[0, 3].item() == pytest.approx(0.2, abs=1e-5)
    expected = 0.25 / math.hypot(1, 0.25)
    assert four_features.others(reading.decoder).item() == pytest.approx(expected, abs=1e-5)


def test_oracle_cosine_of_a_correlation():
    """V = P(2|1) − P(2|¬1) = ρ √(p2 q2 / p1 q1)."""
    assert single_latent.oracle_cosine(0.0) == pytest.approx(0, abs=1e-12)
    weight = 0.5 * math.sqrt(0.25 * 0.75 / (0.45 * 0.55))
    expected = weight / math.hypot(1, weight)
    assert single_latent.oracle_cosine(0.5) == pytest.approx(expected)
    assert single_latent.oracle_cosine(-0.5) == pytest.approx(-expected)


def test_balanced_saes_begin_at_the_truth():
    world = presets.balance_matryoshka()
    saes = balance.train_balanced([world, world], (0.0, 1.0), seeds=(0, 1), steps=4, quick=True)
    assert [sae.members for sae in saes] == [2, 2]
    for sae in saes:
        cosines = F.cosine_similarity(sae.W_dec.detach(), world.features[None], dim=-1)
        assert (cosines > 0.9).all()


def test_extension_keeps_what_was_there():
    world = presets.hedging_copula()
    init = degree_by_width.tied_random(0.1)
    sae = degree_by_width.new_sae(world, 15, init, degree_by_width.SEEDS)
    more = degree_by_width.extended(sae)
    assert more.width == 17
    assert torch.equal(more.W_dec[:, :15], sae.W_dec)
    assert torch.equal(more.W_enc[:, 15:], more.W_dec[:, 15:])
    norms = more.W_dec[:, 15:].norm(dim=-1)
    torch.testing.assert_close(norms, torch.full_like(norms, 0.1))
    assert not torch.equal(more.W_dec[0, 15:], more.W_dec[1, 15:])


def test_phases_of_a_width_give_a_degree_for_each_member():
    world = presets.hedging_copula()
    init = degree_by_width.from_features(world.features)
    outcome = degree_by_width.measure(world, 50, init, batch_size=16, first_steps=2, steps=2)
    assert outcome.degree.difference.shape == (6,)
    assert (outcome.before == 50).all()
    assert (outcome.covered == 50).all()
