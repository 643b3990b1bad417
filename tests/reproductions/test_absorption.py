"""The readings behind source 000, on SAEs whose weights are known."""

import pytest
import torch

from latent_assay.reproductions import absorption
from latent_assay.reproductions.absorption import imperfect, proofs, states, trained
from latent_assay.reproductions.experiment import SEEDS
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.theory import PairStates
from latent_assay.worlds import presets


@pytest.fixture
def world():
    return presets.absorption()


def perfect(world, decoder_scale=1.0):
    rows = world.features.unsqueeze(0)
    return SAE(rows / decoder_scale, rows * decoder_scale, sparsifier=ReLU())


def test_entries_have_distinct_ids_that_begin_with_their_source():
    ids = [entry.id for entry in absorption.ENTRIES]
    assert len(set(ids)) == len(ids)
    assert {entry.source for entry in absorption.ENTRIES} == {"000", "001"}
    assert all(entry.id.startswith(f"{entry.source}-") for entry in absorption.ENTRIES)


@pytest.mark.parametrize("run", [proofs.perfect_reconstruction, proofs.corollary])
def test_closed_forms_need_no_training_and_hold(run):
    result = run(True)
    assert result.passed
    assert result.members == 1


def test_enumerated_penalties_at_full_absorption():
    """Where parent and child fire only the child's latent does, with a row of length √2."""
    pair = PairStates(p11=0.1, p10=0.2, p01=0.05)
    full = torch.ones(1, dtype=torch.float64)
    plain = states.enumerated_l1(full, pair)
    weighted = states.enumerated_l1(full, pair, weighted=True)
    torch.testing.assert_close(plain, torch.tensor([0.35], dtype=torch.float64))
    expected = torch.tensor([0.2 + 0.15 * 2**0.5], dtype=torch.float64)
    torch.testing.assert_close(weighted, expected)
    error = states.enumerated_error(full, pair)
    torch.testing.assert_close(error, torch.tensor([0.05], dtype=torch.float64))


def test_slope_is_a_derivative():
    half = torch.tensor([0.5], dtype=torch.float64)
    found = states.slope(lambda delta: delta**3, half)
    torch.testing.assert_close(found, torch.tensor([0.75], dtype=torch.float64))


def test_imperfect_states_are_those_of_the_world():
    world = presets.imperfect_absorption().enumerate(dtype=torch.float64)
    both = world.firing[:, 0] & world.firing[:, 1]
    child_alone = ~world.firing[:, 0] & world.firing[:, 1]
    assert float(world.probability[both].sum()) == pytest.approx(states.IMPERFECT.p11)
    assert float(world.probability[child_alone].sum()) == pytest.approx(states.IMPERFECT.p01)


def test_block_takes_the_members_of_one_coefficient():
    values = torch.arange(3 * len(SEEDS))
    assert trained.block(values.float(), 1).tolist() == list(range(6, 12))


def test_activations_of_child_and_parent_do_not_depend_on_how_they_are_scaled(world):
    f = world.features
    x = torch.stack([f[0], f[0] + f[1], f[1]])
    for scale in (1.0, 3.0):
        child, parent = trained.child_and_parent(perfect(world, scale), world, x)
        torch.testing.assert_close(child, torch.tensor([[0.0, 1.0, 1.0]]), atol=1e-6, rtol=0)
        torch.testing.assert_close(parent, torch.tensor([[1.0, 1.0, 0.0]]), atol=1e-6, rtol=0)


def test_expected_loss_of_the_truth_is_its_penalty(world):
    """Nothing is left of the error; four rates sum to .4."""
    loss = imperfect.expected_loss(perfect(world, 2.0), world, 0.1)
    torch.testing.assert_close(loss, torch.tensor([0.04], dtype=torch.float64), atol=1e-6, rtol=0)


def test_never_firing_counts_silent_latents(world):
    sae = perfect(world)
    assert imperfect.never_firing(sae, world).tolist() == [0]
    with torch.no_grad():
        sae.W_enc[0, 2:] = 0
    assert imperfect.never_firing(sae, world).tolist() == [2]


def test_members_of_a_coefficient_adjoin_and_share_seeds(world):
    sae = trained.train_toy(world, (1e-3, 5e-3), steps=1, exact=True, warm_up=0)
    assert sae.members == 2 * len(SEEDS)
    # one step apart from the same start, whatever the coefficient
    torch.testing.assert_close(sae.W_enc[: len(SEEDS)], sae.W_enc[len(SEEDS) :], atol=0.03, rtol=0)
    assert not torch.allclose(sae.W_enc[0], sae.W_enc[1], atol=0.03)
