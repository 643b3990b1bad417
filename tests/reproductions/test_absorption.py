"""The readings behind source 000, on SAEs whose weights are known."""

import pytest
import torch

from latent_assay.reproductions import absorption
from latent_assay.reproductions.experiment import SEEDS
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.theory import PairStates
from latent_assay.theory import absorption as theory
from latent_assay.worlds import presets


@pytest.fixture
def world():
    return presets.absorption()


def perfect(world, decoder_scale=1.0):
    rows = world.features.unsqueeze(0)
    return SAE(rows / decoder_scale, rows * decoder_scale, sparsifier=ReLU())


def test_entries_are_of_source_000_with_distinct_ids():
    ids = [entry.id for entry in absorption.ENTRIES]
    assert len(set(ids)) == len(ids)
    assert all(entry.source == "000" for entry in absorption.ENTRIES)
    assert all(entry.id.startswith("000-") for entry in absorption.ENTRIES)


@pytest.mark.parametrize("run", [absorption.perfect_reconstruction, absorption.corollary])
def test_closed_forms_need_no_training_and_hold(run):
    result = run(True)
    assert result.passed
    assert result.members == 1


def test_enumerated_penalties_at_full_absorption():
    """Where parent and child fire only the child's latent does, with a row of length √2."""
    states = PairStates(p11=0.1, p10=0.2, p01=0.05)
    full = torch.ones(1, dtype=torch.float64)
    plain = absorption.enumerated_l1(full, states)
    weighted = absorption.enumerated_l1(full, states, weighted=True)
    torch.testing.assert_close(plain, torch.tensor([0.35], dtype=torch.float64))
    expected = torch.tensor([0.2 + 0.15 * 2**0.5], dtype=torch.float64)
    torch.testing.assert_close(weighted, expected)
    error = absorption.enumerated_error(full, states)
    torch.testing.assert_close(error, torch.tensor([0.05], dtype=torch.float64))


def test_line_counts_hundredths():
    band = absorption.line(
        "l1", absorption.DEGREES, theory.l1(absorption.DEGREES, absorption.STATES)
    )
    assert band.steps.tolist() == list(range(0, 101, 10))
    assert band.mean[0] == pytest.approx(0.3)
    assert (band.low == band.high).all()


def test_imperfect_states_are_those_of_the_world():
    world = presets.imperfect_absorption().enumerate(dtype=torch.float64)
    both = world.firing[:, 0] & world.firing[:, 1]
    child_alone = ~world.firing[:, 0] & world.firing[:, 1]
    assert float(world.probability[both].sum()) == pytest.approx(absorption.IMPERFECT.p11)
    assert float(world.probability[child_alone].sum()) == pytest.approx(absorption.IMPERFECT.p01)


def test_block_takes_the_members_of_one_coefficient():
    values = torch.arange(3 * len(SEEDS))
    assert absorption._block(values.float(), 1).tolist() == list(range(6, 12))


def test_activations_of_child_and_parent_do_not_depend_on_how_they_are_scaled(world):
    f = world.features
    x = torch.stack([f[0], f[0] + f[1], f[1]])
    for scale in (1.0, 3.0):
        child, parent = absorption._acts(perfect(world, scale), world, x)
        torch.testing.assert_close(child, torch.tensor([[0.0, 1.0, 1.0]]), atol=1e-6, rtol=0)
        torch.testing.assert_close(parent, torch.tensor([[1.0, 1.0, 0.0]]), atol=1e-6, rtol=0)


def test_expected_loss_of_the_truth_is_its_penalty(world):
    """Nothing is left of the error; four rates sum to .4."""
    loss = absorption.expected_loss(perfect(world, 2.0), world, 0.1)
    torch.testing.assert_close(loss, torch.tensor([0.04], dtype=torch.float64), atol=1e-6, rtol=0)


def test_never_firing_counts_silent_latents(world):
    sae = perfect(world)
    assert absorption.never_firing(sae, world).tolist() == [0]
    with torch.no_grad():
        sae.W_enc[0, 2:] = 0
    assert absorption.never_firing(sae, world).tolist() == [2]


def test_members_of_a_coefficient_adjoin_and_share_seeds(world):
    sae = absorption._trained(world, (1e-3, 5e-3), steps=1, exact=True, warm_up=0)
    assert sae.members == 2 * len(SEEDS)
    # one step apart from the same start, whatever the coefficient
    torch.testing.assert_close(sae.W_enc[: len(SEEDS)], sae.W_enc[len(SEEDS) :], atol=0.03, rtol=0)
    assert not torch.allclose(sae.W_enc[0], sae.W_enc[1], atol=0.03)
