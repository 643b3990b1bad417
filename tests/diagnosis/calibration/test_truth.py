"""Truth on SAEs made by hand, one failure each."""

import pytest
import torch

from latent_assay.baselines import oracle
from latent_assay.diagnosis.calibration import WORLDS, truth
from latent_assay.diagnosis.calibration.composition import coefficients
from latent_assay.diagnosis.verdict import FAILURES, Verdict
from latent_assay.errors import ShapeError
from latent_assay.sae import SAE
from latent_assay.sparsifiers import JumpReLU, ReLU
from latent_assay.theory.absorption import absorbed_sae
from latent_assay.worlds import Hierarchy, Independent, Normal, SideBySide, World

PARENT, CHILD, OTHER = 0, 1, 2


@pytest.fixture(scope="module")
def world():
    """A parent, its child, two others; the axes are the features."""
    trees = Hierarchy(parents=(None, 0), rates=(0.4, 0.4))
    firing = SideBySide(parts=(trees, Independent(rates=(0.25, 0.25))))
    return World(directions=torch.eye(4), firing=firing, magnitudes=Normal(mean=1.0, sd=0.1))


@pytest.fixture(scope="module")
def sample(world):
    return world.sample(20_000, torch.Generator().manual_seed(3))


def made(encoder, decoder=None, threshold=0.3):
    encoder = torch.tensor(encoder)
    return SAE(
        encoder[None],
        encoder[None].clone() if decoder is None else torch.tensor(decoder)[None],
        sparsifier=JumpReLU(torch.full((1, len(encoder)), threshold)),
    )


def failures(found):
    return [{f for f, has in zip(FAILURES, row, strict=True) if has} for row in found.clear]


CLEAN = [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]]


def changed(rows):
    return [rows.get(i, row) for i, row in enumerate(CLEAN)]


def test_the_features_themselves_are_clean(world, sample):
    found = truth(made(CLEAN), world, sample)
    assert found.clean.all()
    assert not found.clear.any()
    assert not found.grey.any()
    assert found.composition.own.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("named", WORLDS, ids=lambda each: each.name)
def test_oracle_has_no_failure_in_any_world(named):
    world = named.world(7)
    found = truth(oracle(world), world, world.sample(15_000, torch.Generator().manual_seed(1)))
    assert not found.clear.any()
    assert (found.composition.own == torch.arange(world.n_features)).all()


def test_full_absorption(world, sample):
    sae = made(changed({PARENT: [1.0, -1.5, 0, 0]}), changed({CHILD: [1.0, 1.0, 0, 0]}))
    # the parent's decoder row stays along the parent
    with torch.no_grad():
        sae.W_dec[0, PARENT] = torch.tensor(CLEAN[PARENT])
    found = truth(sae, world, sample)
    assert failures(found) == [{Verdict.ABSORBED}, {Verdict.ABSORBING}, set(), set()]
    (hole,) = found.holes
    assert (hole.parent, hole.child) == (PARENT, CHILD)
    assert [latent for latent, _ in hole.carriers] == [CHILD]
    assert hole.silence > 0.99
    assert abs(hole.carried - 1) < 0.02
    assert abs(hole.share - 0.4) < 0.02


@pytest.mark.parametrize("delta", [0.3, 0.6, 0.9])
def test_strength_is_the_delta_of_the_exact_model(delta):
    firing = Hierarchy(parents=(None, 0), rates=(0.4, 0.4))
    world = World(directions=torch.eye(2, dtype=torch.float64), firing=firing)
    sample = world.sample(8_000, torch.Generator().manual_seed(0))
    sae = absorbed_sae(delta)
    found = truth(sae, world, sample)
    (hole,) = found.holes
    assert hole.silence == 0  # the latent still fires, 1 - delta as strongly
    assert hole.deficit == pytest.approx(delta, abs=1e-3)
    assert hole.carried == pytest.approx(delta, abs=1e-3)
    assert failures(found) == [{Verdict.ABSORBED}, {Verdict.ABSORBING}]


def test_a_hole_that_nobody_fills_is_no_absorption(world, sample):
    sae = made(changed({PARENT: [1.0, -1.5, 0, 0]}), CLEAN)
    found = truth(sae, world, sample)
    assert found.holes[0].silence > 0.99
    assert failures(found) == [set()] * 4


@pytest.mark.parametrize(("part", "sign"), [(0.3, 1), (0.3, -1)])
def test_hedge_on_a_feature_without_a_latent(world, sample, part, sign):
    rows = [[1.0, sign * part, 0, 0], CLEAN[2], CLEAN[3]]
    found = truth(made(rows), world, sample)
    assert failures(found)[0] == {Verdict.HEDGED}
    strength = found.strengths[0, FAILURES.index(Verdict.HEDGED)]
    assert strength == pytest.approx(part, abs=1e-5)
    assert found.composition.ratios[0, CHILD] == pytest.approx(sign * part)


def test_hedge_on_a_feature_with_a_latent_that_need_not_fire(world, sample):
    decoder = changed({PARENT: [1.0, 0.3, 0, 0]})
    assert failures(truth(made(CLEAN, decoder), world, sample))[PARENT] == {Verdict.HEDGED}


def test_small_hedges_lie_in_the_grey_zone(world, sample):
    found = truth(made([[1.0, 0.1, 0, 0], CLEAN[2], CLEAN[3]]), world, sample)
    column = FAILURES.index(Verdict.HEDGED)
    assert found.grey[0, column]
    assert not found.clear[0, column]
    assert not found.clean[0]
    assert truth(made([[1.0, 0.03, 0, 0], CLEAN[2]]), world, sample).clean[0]


def test_duplicates_fire_together(world, sample):
    rows = [*CLEAN[:3], [0, 0, 0, 0.5], [0, 0.01, 0, 0.5]]
    found = truth(made(rows, threshold=0.15), world, sample)
    assert failures(found)[3:] == [{Verdict.DUPLICATE}] * 2


def test_splits_do_not(world, sample):
    rows = [CLEAN[0], CLEAN[1], [0, 0, 1.0, -2.0], [0, 0, 0.5, 0.5], CLEAN[3]]
    sae = made(rows)
    with torch.no_grad():
        sae.W_dec[0, 2:4] = torch.tensor(CLEAN[2])
        sae.sparsifier.threshold[0, 3] = 0.75
    found = truth(sae, world, sample)
    assert failures(found) == [set(), set(), {Verdict.SPLIT}, {Verdict.SPLIT}, set()]


def test_a_conjunction(world, sample):
    rows = [*CLEAN, [0, 0, 0.5, 0.5]]
    sae = made(rows)
    with torch.no_grad():
        sae.sparsifier.threshold[0, 4] = 0.75
        sae.W_dec[0, 4] = torch.tensor([0, 0, 1.0, 1.0])
    found = truth(sae, world, sample)
    assert failures(found)[4] == {Verdict.COMPOSED}


def test_a_parent_is_no_conjunction_of_its_children(world, sample):
    found = truth(made([[0.5, 0.5, 0, 0]], threshold=0.7), world, sample)
    assert Verdict.COMPOSED not in failures(found)[0]


def test_several_peaks(world, sample):
    found = truth(made([CLEAN[0], CLEAN[1], [0, 0, 1.0, 0.5]]), world, sample)
    assert failures(found)[2] == {Verdict.HEDGED, Verdict.SEVERAL_PEAKS}


def test_dead_and_dense(world, sample):
    sae = made([*CLEAN, [0.1, -0.1, 0.1, -0.1], [1.0, 0, 0, 0]], threshold=0.01)
    with torch.no_grad():
        sae.b_enc[0, 4] = 5.0
        sae.sparsifier.threshold[0, 5] = 1e6
    found = failures(truth(sae, world, sample))
    assert found[4] == {Verdict.DENSE}
    assert found[5] == {Verdict.DEAD}


def test_rows_in_superposition_are_composed_of_few_features():
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(30, 20, generator=generator), dim=1)
    row = features[3] - 0.4 * features[11]
    (found,) = coefficients(row[None], features)
    assert found[3] == pytest.approx(1, abs=0.05)
    assert found[11] == pytest.approx(-0.4, abs=0.05)
    assert (found != 0).sum() <= 4


def test_one_member_at_a_time(world, sample):
    sae = SAE(torch.eye(4).repeat(2, 1, 1), sparsifier=ReLU())
    with pytest.raises(ShapeError, match=r"one SAE at a time, got 2 members; take one"):
        truth(sae, world, sample)
