import math

import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.reproductions.beyond import ENTRIES
from latent_assay.reproductions.beyond.balance import BETAS, best_single
from latent_assay.reproductions.beyond.basins import Basin, basin_of, exact_loss
from latent_assay.reproductions.beyond.kept import (
    between,
    error_of_clean,
    turning_point,
    variances_of,
)
from latent_assay.reproductions.beyond.mixture import kept_by, residue_of
from latent_assay.reproductions.beyond.share_theory import (
    balancing_beta,
    balancing_share,
    excess_of_absorption,
)
from latent_assay.sae import SAE
from latent_assay.sparsifiers import ReLU
from latent_assay.worlds import presets

HALF = math.sqrt(0.5)
PAIR = torch.tensor(
    [[HALF, -HALF, 0, 0], [HALF, HALF, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64
)


def test_entries():
    assert [entry.id for entry in ENTRIES] == [
        "beyond-balance-per-latent",
        "beyond-peaks-mixture",
        "beyond-single-latent-cure",
        "beyond-basins",
    ]
    assert {entry.source for entry in ENTRIES} == {"beyond"}


def test_the_best_beta_is_that_of_the_smallest_error():
    errors = torch.linspace(1, 2, len(BETAS))
    errors[4] = 0.25
    assert best_single(errors).beta == BETAS[4]
    assert best_single(errors).error == 0.25


def test_every_rate_needs_a_balance_of_its_own():
    rates = (0.05, 0.15, 0.5)
    shares = [balancing_share(rate, l1=0.03) for rate in rates]
    betas = [balancing_beta(rate, l1=0.03) for rate in rates]
    assert shares == sorted(shares)
    assert shares[-1] - shares[0] > 0.5
    assert betas == sorted(betas, reverse=True)
    assert betas[0] > 5 * betas[-1]
    for rate, beta in zip(rates, betas, strict=True):
        assert balancing_share(rate, l1=0.03, beta=beta) == pytest.approx(0, abs=1e-9)
        force = excess_of_absorption(rate=rate, missing=1.0, beta=2 * beta, l1=0.03)
        assert force < 0  # more balance than needed is hedging


def test_rates_are_probabilities():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        balancing_share(1.0, l1=0.03)
    with pytest.raises(ConfigError, match="no balance was found"):
        balancing_beta(1e-6, l1=0.03)


def test_variances_rank_the_features():
    variances = variances_of(parent=6)
    assert int(variances.argmax()) == 6
    assert float(variances[6]) == pytest.approx(39.8, abs=0.1)
    assert error_of_clean(variances, range(20)) == 0
    every = error_of_clean(variances, ())
    assert error_of_clean(variances, (6,)) == pytest.approx(every - float(variances[6]))


def test_the_variance_between_the_sides_of_a_cut():
    p, q, low, step = 0.3, 0.4, 0.8, 0.5
    levels = torch.tensor([0.0, low, low + step])
    masses = torch.tensor([1 - p, p * (1 - q), p * q])
    for cut, found in zip(
        (1, 2), between(parent_rate=p, given=q, parent_peak=low, child_step=step), strict=True
    ):
        up = masses[cut:].sum()
        gap = (masses * levels)[cut:].sum() / up - (masses * levels)[:cut].sum() / (1 - up)
        assert found == pytest.approx(float(up * (1 - up) * gap**2))


def test_at_the_turning_point_both_cuts_are_alike():
    angle = turning_point(parent_rate=0.3, given=0.4, ratio=0.9)
    for shift, sign in ((-0.05, 1), (0.05, -1)):
        theta = angle + shift
        low, high = between(
            parent_rate=0.3,
            given=0.4,
            parent_peak=math.cos(theta),
            child_step=0.9 * math.sin(theta),
        )
        assert sign * (low - high) > 0


def test_what_latents_keep():
    maps = torch.tensor([[[0.99, 0.1], [0.05, -0.98]]])
    kept, cosine = kept_by(maps)
    assert kept.tolist() == [[0, 1]]
    assert cosine.flatten().tolist() == pytest.approx([0.99, 0.98])
    assert float(residue_of(maps, parent=0)) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("cosines", "name"),
    [
        (torch.eye(4), "truth"),
        (torch.eye(4)[[2, 0, 3, 1]], "truth"),
        (torch.diag(torch.tensor([1.0, 1.0, 1.0, -1.0])), "truth, not 3"),
        (torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0])), "truth, not 0"),
        (PAIR, "45° pair"),
        (PAIR * torch.tensor([1, 1, -1, 1.0]), "45° pair, not 2"),
        (torch.tensor([[0.97, 0.24, 0, 0], [0.1, 0.1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
         "merged"),
        (torch.tensor([[0.94, -0.34, 0, 0], [0.34, 0.94, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
         "turning"),
    ],
)  # fmt: skip
def test_basins_are_told_apart(cosines, name):
    assert basin_of(cosines).name == name


@pytest.mark.parametrize("rows", [torch.eye(4).double(), PAIR])
def test_losses_of_basins(rows):
    world = presets.absorption()
    sae = SAE((rows @ world.features.double())[None], sparsifier=ReLU())
    loss = exact_loss(sae, world, torch.tensor([1e-3], dtype=torch.float64))
    assert float(loss) == pytest.approx(basin_of(rows).loss(1e-3), rel=1e-6)


def test_losses_without_a_closed_form():
    assert math.isnan(Basin(pair="turning").loss(1e-3))
    assert Basin(pair="merged").loss(1e-3) == pytest.approx(0.0382, abs=1e-4)
    more = Basin(pair="truth", negated=(3,)).loss(1e-3) - Basin(pair="truth").loss(1e-3)
    assert more == pytest.approx(0.9e-3)
