import math

import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.kernels import force_path
from latent_assay.losses import (
    L0,
    ActivationOrthogonality,
    AuxK,
    Forward,
    Lp,
    Matryoshka,
    Objective,
    SquaredError,
    TargetL0,
)
from latent_assay.sparsifiers import BatchTopK, JumpReLU, ReLU, TopK

from .cases import B, D, M, W, assert_same, at, draw, gradients, make, value

X = draw(B, D, seed=7)
LEVELS = (2, 5, W)


def nested(**arguments: object) -> Matryoshka:
    return Matryoshka([SquaredError(), Lp((0.1, 0.2, 0.3))], levels=LEVELS, **arguments)


def level_by_hand(sae, start: int, end: int, m: int) -> torch.Tensor:
    """Squared error and L1 of the SAE of the first `end` latents; L1 counts from `start`."""
    z = sae.encode(X)[m, :, :end]
    x_hat = z @ sae.W_dec[m, :end] + sae.b_dec[m]
    own, rows = z[:, start:], sae.W_dec[m, start:end]
    penalty = (own.abs() * rows.norm(dim=-1)).sum(-1).mean()
    return (x_hat - X).square().sum(-1).mean() + (0.1, 0.2, 0.3)[m] * penalty


def test_the_sum_over_levels():
    sae = make()
    beta = [[1.0, 2.0, 3.0], [0.5, 0.0, 1.0], [0.0, 0.0, 2.0]]
    expected = torch.stack(
        [
            sum(beta[m][i] * level_by_hand(sae, 0, end, m) for i, end in enumerate(LEVELS))
            for m in range(M)
        ]
    )
    found = value(nested(beta=beta), sae, X)
    torch.testing.assert_close(found, expected)
    assert_same(gradients(sae, found), gradients(sae, expected))


@pytest.mark.parametrize(
    ("beta", "row"), [(2.0, [2.0, 2.0, 2.0]), ((1.0, 0.5, 2.0), [1.0, 0.5, 2.0])]
)
def test_beta_for_all_members(beta, row):
    sae = make()
    assert torch.equal(value(nested(beta=beta), sae, X), value(nested(beta=[row] * M), sae, X))


@pytest.mark.parametrize("path", ["dense", "sparse"])
@pytest.mark.parametrize("sparsifier", [ReLU(), TopK(2, M), BatchTopK(2, M)])
def test_zero_but_for_the_last_is_the_plain_loss(path, sparsifier):
    sae = make(sparsifier)
    with force_path(path):
        plain = Objective([SquaredError(), Lp((0.1, 0.2, 0.3))])(Forward(sae, X), at())[0]
        found = value(nested(beta=(0.0, 0.0, 1.0)), sae, X)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=1e-12)
    assert_same(gradients(sae, found), gradients(sae, plain))


@pytest.mark.parametrize("sparsifier", [ReLU(), BatchTopK(3, M)])
@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_detached_trains_each_latent_by_its_own_level(sparsifier, path):
    """The gradient of a slice is that of its level alone, with what comes before held constant."""
    sae = make(sparsifier)
    with force_path(path):
        term = Matryoshka([SquaredError()], levels=LEVELS, beta=(1.0, 2.0, 3.0), detached=True)
        found = gradients(sae, value(term, sae, X))
    start = 0
    for beta, end in zip((1.0, 2.0, 3.0), LEVELS, strict=True):
        z = sae.encode(X)
        before = (z[:, :, :start] @ sae.W_dec[:, :start]).detach()
        x_hat = before + z[:, :, start:end] @ sae.W_dec[:, start:end] + sae.b_dec.unsqueeze(1)
        alone = gradients(sae, beta * (x_hat - X).square().sum(-1).mean(-1))
        for name in ("W_enc", "W_dec", "b_enc"):
            torch.testing.assert_close(found[name][:, start:end], alone[name][:, start:end])
            assert not alone[name][:, end:].any()
        start = end


def test_detached_counts_sparsity_for_own_latents():
    sae = make()
    term = Matryoshka([Lp(1.0)], levels=LEVELS, beta=1.0, detached=True)
    torch.testing.assert_close(value(term, sae, X), value(Lp(1.0), sae, X))


def test_detached_has_the_value_of_the_attached_squared_error():
    sae = make()
    terms = [SquaredError()]
    one = value(Matryoshka(terms, levels=LEVELS, detached=True), sae, X)
    torch.testing.assert_close(one, value(Matryoshka(terms, levels=LEVELS), sae, X))


def test_biases_are_trained_by_all_levels():
    sae = make()
    by_level = [
        value(Matryoshka([SquaredError()], levels=LEVELS, beta=row, detached=True), sae, X)
        for row in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    ]
    assert all(gradients(sae, each)["b_dec"].any() for each in by_level)


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_the_reconstruction_is_kept_for_other_terms(detached, path):
    sae = make(TopK(2, M))
    with force_path(path):
        forward = Forward(sae, X)
        nested(detached=detached)(forward, at())
    assert "x_hat" in forward.__dict__
    torch.testing.assert_close(forward.x_hat, sae(X))
    # with its gradient, attached or not
    kept = gradients(sae, forward.x_hat.square().sum((1, 2)))
    assert_same(kept, gradients(sae, sae(X).square().sum((1, 2))))


@pytest.mark.parametrize("detached", [False, True])
def test_l0_penalties_work_within(detached):
    sae = make(JumpReLU(draw(M, W, seed=5).abs(), bandwidth=0.7))
    fires = sae.sparsifier.fires(sae.pre_activations(X).detach())
    term = Matryoshka([L0(0.1), TargetL0(2.0)], levels=LEVELS, detached=detached)
    expected = torch.zeros(M, dtype=torch.float64)
    start = 0
    for end in LEVELS:
        l0 = fires[:, :, start if detached else 0 : end].sum(-1).mean(-1)
        expected = expected + 0.1 * l0 + (l0 / 2 - 1) ** 2
        start = end
    found = value(term, sae, X)
    torch.testing.assert_close(found, expected)
    name = "sparsifier.threshold"
    torch.testing.assert_close(gradients(sae, found)[name], gradients(sae, expected)[name])


def test_weights_equal_repeated_samples():
    sae = make(BatchTopK(2, M))
    counts = torch.tensor([3, 0, 1, 2, 1, 1])
    short = value(nested(beta=(0.5, 1.0, 2.0)), sae, X, counts.double() / counts.sum())
    long = value(nested(beta=(0.5, 1.0, 2.0)), sae, X.repeat_interleave(counts, dim=0))
    torch.testing.assert_close(short, long)
    assert_same(gradients(sae, short), gradients(sae, long))


@pytest.mark.parametrize("levels", [(), (0, 4), (4, 4), (5, 2), (-1, 3)])
def test_levels_must_rise(levels):
    with pytest.raises(ConfigError, match="levels must be rising widths such as"):
        Matryoshka([SquaredError()], levels=levels)


@pytest.mark.parametrize("levels", [(2, 5), (2, 9)])
def test_the_last_level_must_be_the_width(levels):
    with pytest.raises(ConfigError, match=r"last level must be the SAE's width 8, got levels \(2,"):
        value(Matryoshka([SquaredError()], levels=levels), make(), X)


@pytest.mark.parametrize(
    "beta",
    [
        (1.0, 2.0),
        (1.0, -1.0, 1.0),
        (1.0, math.nan, 1.0),
        (1.0, math.inf, 1.0),
        (),
        [[1.0, 1.0, 1.0], [1.0, 1.0]],
        [[[1.0, 1.0, 1.0]]],
    ],
)
def test_beta_must_fit_the_levels(beta, monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(ConfigError, match="beta must hold 3 numbers, none negative"):
        nested(beta=beta)


def test_beta_must_fit_the_members():
    with pytest.raises(ConfigError, match="`matryoshka` has 2 values of `beta` but the SAE has 3"):
        Objective([nested(beta=[[1.0] * 3] * 2)]).check(3)


def test_inner_coefficients_must_fit_the_members():
    with pytest.raises(ConfigError, match="`lp` has 3 values of `coefficient` but the SAE has 2"):
        Objective([nested()]).check(2)


def test_inner_terms_must_be_there_and_be_fit_for_a_level():
    with pytest.raises(ConfigError, match="at least one inner term"):
        Matryoshka([], levels=LEVELS)
    with pytest.raises(ConfigError, match="cannot hold levels of its own"):
        value(Matryoshka([nested()], levels=LEVELS), make(), X)
    orthogonality = ActivationOrthogonality(members=M, width=W)
    with pytest.raises(ConfigError, match="belongs beside a matryoshka loss, not into one"):
        value(Matryoshka([orthogonality], levels=LEVELS), make(), X)


def test_auxk_beside_it_sees_the_whole_reconstruction():
    sae = make(TopK(2, M))
    since = torch.zeros(M, W, dtype=torch.int64)
    since[:, 6:] = 100
    alone = AuxK(1.0, members=M, width=W, k=1, dead_after=10)
    objective = Objective([nested(), AuxK(1.0, members=M, width=W, k=1, dead_after=10)])
    _, parts = objective(Forward(sae, X), at(since_fired=since))
    torch.testing.assert_close(parts["auxk"], value(alone, sae, X, since_fired=since))
