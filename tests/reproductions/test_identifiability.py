"""What the reproductions of source 003 are built from; the entries themselves run elsewhere."""

import math

import pytest
import torch

from latent_assay.reproductions.identifiability import ENTRIES
from latent_assay.reproductions.identifiability.decomposition import identity_errors
from latent_assay.reproductions.identifiability.descent import (
    descend,
    one_sparse,
    permutations,
    positive_top_1,
    starts,
)
from latent_assay.reproductions.identifiability.figure_2 import (
    SUM_SAMPLES,
    SUM_THRESHOLD,
    as_printed,
)
from latent_assay.reproductions.identifiability.reweighting import (
    Measured,
    at_fvu,
    paired,
    recovery_loss,
    shared_world,
)
from latent_assay.reproductions.identifiability.theorem_1 import (
    axes,
    least_interference,
    single_feature_shares,
)
from latent_assay.reproductions.identifiability.toy import (
    SPARSIFIERS,
    activated,
    mean_activations,
    untrained,
)
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU, TopK
from latent_assay.theory.decomposition import best_gamma, gamma_from_variance
from latent_assay.theory.identifiability import one_sparse_losses


def test_entries_are_of_this_source_and_differ():
    ids = [entry.id for entry in ENTRIES]
    assert len(set(ids)) == len(ids) == 16
    assert all(name.startswith("003-") for name in ids)
    assert {entry.source for entry in ENTRIES} == {"003"}
    assert {f"003-theorem-{i}" for i in range(1, 5)} <= set(ids)
    assert {f"003-counterexample-{i}" for i in range(1, 5)} <= set(ids)


@pytest.mark.parametrize(
    "name", ["003-sparse-limit", "003-theorem-3", "003-theorem-4", "003-counterexample-1"]
)
def test_closed_forms_hold(name):
    entry = next(each for each in ENTRIES if each.id == name)
    assert entry.errors
    assert entry.run(True).passed


def test_descent_treats_starts_apart():
    F = axes(2)
    start = starts(3, 4, 2)
    together, losses = descend(one_sparse(F), start, steps=30)
    alone, loss = descend(one_sparse(F), start[1:2], steps=30)
    assert torch.allclose(together[1:2], alone)
    assert float(losses[1]) == pytest.approx(float(loss))


def test_one_sparse_is_the_sum_of_errors_on_single_features():
    F, W = axes(2), starts(2, 4, 2, seed=5)
    for sparsifier in (torch.relu, positive_top_1):
        expected = [float(one_sparse_losses(w, F, sparsifier=sparsifier).sum()) for w in W]
        assert one_sparse(F, sparsifier)(W).tolist() == pytest.approx(expected)


def test_positive_top_1_keeps_one_entry_or_none():
    kept = positive_top_1(torch.tensor([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0]]))
    assert kept.tolist() == [[0, 3, 0], [0, 0, 0]]


def test_permutations_are_recognised():
    F = axes(2)
    W = torch.stack([F, F[[2, 0, 3, 1]], -F[[0, 0, 1, 2]], 1.1 * F])
    assert permutations(W, F).tolist() == [True, True, False, False]


def test_more_than_twice_as_many_unit_vectors_as_dimensions_interfere():
    assert least_interference(4, 2, steps=150) < 0.05
    # five in the plane at best 72° apart
    assert least_interference(5, 2, steps=150) == pytest.approx(math.cos(0.4 * math.pi), abs=0.02)


def test_single_feature_shares_agree():
    enumerated, formula = single_feature_shares(4, 0.7)
    assert enumerated == pytest.approx(formula)
    assert formula == pytest.approx(4 * 0.7**3 * 0.3 / (1 - 0.7**4))


@pytest.mark.parametrize("gamma", [False, True])
def test_the_printed_decomposition_misses_by_far_more(gamma):
    right, wrong = identity_errors(gamma=gamma, trials=3)
    assert right < 1e-10
    assert wrong > 1e-2


def test_mean_activation_over_uniform_magnitudes():
    """ReLU and Top-k scale: half the activation at 1. JumpReLU: (1 - θ²/a²) a / 2."""
    a, threshold = 0.8, 0.3
    sae = SAE(torch.eye(2)[None], sparsifier=TopK(1, 1))
    assert mean_activations(sae, a * torch.eye(2))[0].tolist() == [
        pytest.approx([a / 2, 0]),
        pytest.approx([0, a / 2]),
    ]
    jump = SAE(torch.eye(2)[None], sparsifier=JumpReLU(torch.full((1, 2), threshold)))
    mean = mean_activations(jump, a * torch.eye(2), magnitudes=2000)
    assert float(mean[0, 0, 0]) == pytest.approx(a / 2 * (1 - (threshold / a) ** 2), abs=1e-3)


def test_count_of_activated_features():
    mean = torch.tensor([[[0.2, 0.0], [0.3, 0.0], [0.01, 0.4]]])  # 3 features, 2 latents
    assert activated(mean, 0.05).tolist() == [1.5]
    assert activated(mean, 1e-6).tolist() == [2.0]


def test_count_as_printed_falls_with_sparsity_for_the_same_sae():
    mean = torch.full((1, 4, 2), 0.1)
    limit = 1 - SUM_THRESHOLD / SUM_SAMPLES / 0.1  # beyond it no sum exceeds the threshold
    assert as_printed(mean, limit - 1e-3).tolist() == [4.0]
    assert as_printed(mean, limit + 1e-3).tolist() == [0.0]


@pytest.mark.parametrize("width", [20, 50])
def test_top_2_counts_n_k_over_width_untrained(width):
    directions = torch.randn(200, 20, generator=torch.Generator().manual_seed(1))
    count = activated(mean_activations(untrained("Top-2", width), directions), 1e-6)
    assert count.tolist() == pytest.approx([400 / width] * 6)


def test_thresholds_of_the_toy_are_not_trained():
    sae = untrained("JumpReLU", 20)
    assert sae.tied
    assert all(not each.requires_grad for each in sae.sparsifier.parameters())
    assert isinstance(sae.sparsifier, JumpReLU)
    assert sae.sparsifier.threshold.flatten().tolist() == pytest.approx([0.1] * 120)
    assert set(SPARSIFIERS) == {"Top-2", "JumpReLU", "ReLU", "none"}


def test_recovery_loss_ignores_order_and_is_1_for_silence():
    s = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    z = torch.stack([s[:, [2, 0, 3, 1]], torch.zeros(50, 4), 0.5 * s])
    assert recovery_loss(z, s).tolist() == pytest.approx([0.0, 1.0, 0.25], abs=1e-6)


def _measured(fvu, loss):
    fvu, loss = (torch.tensor(v, dtype=torch.float64) for v in (fvu, loss))
    return Measured(fvu=fvu, loss=loss, mcc=1 - loss)


def test_plain_saes_are_moved_to_the_target_fvu():
    plain = [
        _measured([0.3, 0.3], [0.5, 0.5]),
        _measured([0.2, 0.2], [0.4, 0.6]),
        _measured([0.1, 0.1], [0.8, 0.8]),
    ]
    target = torch.tensor([0.25, 0.15], dtype=torch.float64)
    # half of the way to k - 1 (mean loss .5 against .5), and to k + 1 (.8 against .5)
    assert at_fvu(target, plain, lambda m: m.loss).tolist() == pytest.approx([0.4, 0.75])
    far = torch.tensor([0.9, 0.0], dtype=torch.float64)
    assert at_fvu(far, plain, lambda m: m.loss).tolist() == pytest.approx([0.4, 0.9])


def test_plain_saes_are_not_moved_towards_worse_fvu():
    plain = [
        _measured([0.3, 0.3], [0.5, 0.5]),
        _measured([0.2, 0.2], [0.4, 0.6]),
        _measured([0.25, 0.25], [0.8, 0.8]),
    ]
    target = torch.tensor([0.15, 0.2], dtype=torch.float64)
    assert at_fvu(target, plain, lambda m: m.loss).tolist() == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize(
    ("gains", "passes"),
    [
        ([0.1, 0.12, 0.09, 0.11], True),
        ([-0.1, -0.12, -0.09, -0.11], False),
        ([0.1, -0.12, 0.09, -0.05], False),
    ],
)
def test_a_gain_must_be_positive_and_beyond_the_noise(gains, passes):
    check = paired("gain", torch.tensor(gains, dtype=torch.float64))
    assert check.passed == passes
    assert "p is " in check.expected


def test_the_variance_rule_goes_the_other_way_than_the_principle_in_the_shared_world():
    world = shared_world(0.9, quick=True)
    variance = world.features.double().square().sum(0)
    best, rule = best_gamma(world.features), gamma_from_variance(variance, 0.5)
    assert float(best[:8].min()) > float(best[8:].max())
    assert float(rule[:8].max()) < float(rule[8:].min())
