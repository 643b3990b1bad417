"""Every simple term against its formula, member by member and sample by sample."""

import math

import pytest
import torch

from latent_assay.errors import ConfigError
from latent_assay.kernels import force_path
from latent_assay.losses import L0, Forward, Lp, Objective, Ramp, SquaredError, TargetL0
from latent_assay.sae import SAE
from latent_assay.sparsifiers import BatchTopK, Identity, JumpReLU, ReLU, TopK

from .cases import B, D, M, W, assert_same, at, draw, gradients, make, value

X = draw(B, D, seed=7)
OWN_X = draw(M, B, D, seed=8)


def jumping(members: int = M) -> SAE:
    return make(JumpReLU(draw(members, W, seed=5).abs(), bandwidth=0.7), members)


# ---------------------------------------------------------------- squared error


@pytest.mark.parametrize("x", [X, OWN_X])
def test_squared_error(x):
    sae = make()
    expected = []
    for m in range(M):
        batch = x if x.dim() == 2 else x[m]
        z = ((batch - sae.b_dec[m]) @ sae.W_enc[m].T + sae.b_enc[m]).clamp_min(0)
        x_hat = z @ sae.W_dec[m] + sae.b_dec[m]
        expected.append(sum((x_hat[b] - batch[b]).square().sum() for b in range(B)) / B)
    found = value(SquaredError((1.0, 2.0, 0.0)), sae, x)
    wanted = torch.stack(expected) * torch.tensor([1.0, 2.0, 0.0])
    torch.testing.assert_close(found, wanted)
    assert_same(gradients(sae, found), gradients(sae, wanted))


@pytest.mark.parametrize("shape", [(D,), (M, D)])
def test_squared_error_with_gamma(shape):
    sae = make()
    gamma = draw(*shape, seed=9).abs()
    x_hat = sae(X)
    expected = torch.zeros(M, dtype=torch.float64)
    for m in range(M):
        weights = gamma if gamma.dim() == 1 else gamma[m]
        expected[m] = sum(((x_hat[m, b] - X[b]) * weights).square().sum() for b in range(B)) / B
    found = value(SquaredError(gamma=gamma), sae, X)
    torch.testing.assert_close(found, expected)
    assert_same(gradients(sae, found), gradients(sae, expected))


def test_gamma_of_one_changes_nothing():
    sae = make()
    one = value(SquaredError(gamma=torch.ones(D, dtype=torch.float64)), sae, X)
    assert torch.equal(one, value(SquaredError(), sae, X))


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_gamma_must_be_finite_and_not_negative(bad):
    with pytest.raises(ConfigError, match="gamma must be finite and not negative"):
        SquaredError(gamma=torch.tensor([1.0, bad]))


# ---------------------------------------------------------------- Lp


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("by_norm", [True, False])
@pytest.mark.parametrize("sparsifier", [ReLU(), Identity()])
def test_lp(p, by_norm, sparsifier):
    sae = make(sparsifier)
    z = sae.encode(X)
    size = z.abs()
    if p < 1:  # as documented: at |z| + 1e-6, and zero at zero
        penalty = (size + 1e-6) ** p - 1e-6**p
    else:
        penalty = size**p
    if by_norm:
        penalty = penalty * sae.W_dec.square().sum(-1).sqrt().unsqueeze(1)
    expected = penalty.sum((1, 2)) / B * torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    term = Lp((0.1, 0.2, 0.3), p=p, weight_by_decoder_norm=by_norm)
    found = value(term, sae, X)
    torch.testing.assert_close(found, expected)
    assert_same(gradients(sae, found), gradients(sae, expected))


def test_lp_below_one_is_near_its_formula():
    sae = make(Identity())
    plain = sae.encode(X).abs().sqrt().sum((1, 2)) / B
    found = value(Lp(1.0, p=0.5, weight_by_decoder_norm=False), sae, X)
    torch.testing.assert_close(found, plain, rtol=2e-3, atol=0)


def test_lp_below_one_has_finite_gradients_where_nothing_fires():
    sae = make()
    with torch.no_grad():
        sae.b_enc.fill_(-1e3)
    total = value(Lp(1.0, p=0.5), sae, X)
    assert total.tolist() == [0.0] * M
    assert all(bool(each.isfinite().all()) for each in gradients(sae, total).values())


@pytest.mark.parametrize("p", [0.0, -1.0, math.nan, math.inf])
def test_lp_refuses_an_exponent(p):
    with pytest.raises(ConfigError, match="exponent p must be positive"):
        Lp(1.0, p=p)


# ---------------------------------------------------------------- L0


def test_l0_and_its_gradient():
    sae = jumping()
    theta, epsilon = sae.sparsifier.threshold, sae.sparsifier.bandwidth
    pre = sae.pre_activations(X)
    expected = (pre > theta.unsqueeze(1)).double().sum((1, 2)) / B
    coefficient = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    found = value(L0((0.1, 0.2, 0.3)), sae, X)
    torch.testing.assert_close(found, coefficient * expected)
    near = ((pre - theta.unsqueeze(1)).abs() < epsilon / 2).double()
    assert bool(near.any())
    gradient = gradients(sae, found)
    torch.testing.assert_close(
        gradient["sparsifier.threshold"],
        -coefficient.unsqueeze(-1) * near.sum(1) / epsilon / B,
    )
    assert not any(each.any() for name, each in gradient.items() if name != "sparsifier.threshold")


def test_target_l0():
    sae = jumping()
    target = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    theta, epsilon = sae.sparsifier.threshold, sae.sparsifier.bandwidth
    pre = sae.pre_activations(X).detach()
    l0 = (pre > theta.unsqueeze(1)).double().sum((1, 2)) / B
    found = value(TargetL0((1.0, 2.0, 5.0), (1.0, 3.0, 2.0)), sae, X)
    coefficient = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(found, coefficient * (l0 / target - 1) ** 2)
    near = ((pre - theta.unsqueeze(1)).abs() < epsilon / 2).double().sum(1)
    slope = coefficient * 2 * (l0 / target - 1) / target
    torch.testing.assert_close(
        gradients(sae, found)["sparsifier.threshold"],
        -slope.unsqueeze(-1) * near / epsilon / B,
    )


@pytest.mark.parametrize("sparsifier", [ReLU(), TopK(2, M), BatchTopK(2, M), Identity()])
@pytest.mark.parametrize("term", [L0(1.0), TargetL0(2.0)])
def test_an_l0_penalty_needs_jumprelu(sparsifier, term):
    name = type(sparsifier).__name__
    with pytest.raises(ConfigError, match=f"needs a JumpReLU sparsifier, got {name}: only thresh"):
        value(term, make(sparsifier), X)


@pytest.mark.parametrize("target", [0, -1.0, [1.0, 0.0], math.nan])
def test_target_must_be_positive(target):
    with pytest.raises(ConfigError, match="target L0 must be positive"):
        TargetL0(target)


def test_l0_counts_exactly_under_autocast():
    """bfloat16 cannot count beyond 256."""
    sae = SAE(
        torch.ones(1, 301, 1),
        sparsifier=JumpReLU(torch.zeros(1, 301), bandwidth=1.0),
    )
    x = torch.ones(1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert value(L0(1.0), sae, x).item() == 301.0
        assert Forward(sae, x).latents.l0().tolist() == [301.0]


# ---------------------------------------------------------------- weights


TERMS = [
    SquaredError((1.0, 2.0, 3.0)),
    SquaredError(gamma=draw(D, seed=9).abs()),
    Lp(0.1),
    Lp(0.1, p=0.5),
    L0(0.1),
    TargetL0(2.0),
]


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
@pytest.mark.parametrize("x", [X, OWN_X])
def test_weights_equal_repeated_samples(term, x):
    sae = jumping()
    counts = torch.tensor([3, 0, 1, 2, 1, 1])
    weight = counts.double() / counts.sum()
    repeated = x.repeat_interleave(counts, dim=-2)
    short, long = value(term, sae, x, weight), value(term, sae, repeated)
    torch.testing.assert_close(short, long, rtol=1e-12, atol=1e-12)
    assert_same(gradients(sae, short), gradients(sae, long))


def test_weights_are_not_rounded_by_autocast():
    sae = make().float()
    weight = torch.tensor([0.999, *[0.0002] * (B - 1)])
    forward = Forward(sae, X.float(), weight)
    values = torch.full((M, B), 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert forward.average(values).tolist() == pytest.approx([1.0] * M, abs=1e-6)


# ---------------------------------------------------------------- ramps, coefficients, sums


@pytest.mark.parametrize(
    ("position", "factor"), [(0, 0.0), (9, 0.0), (10, 0.0), (15, 0.5), (20, 1.0), (99, 1.0)]
)
@pytest.mark.parametrize("unit", ["steps", "samples"])
def test_ramp(position, factor, unit):
    ramp = Ramp(delay=10, length=10, unit=unit)
    assert ramp.at(position) == factor
    when = {"step": position} if unit == "steps" else {"samples": position}
    assert ramp.now(at(**when)) == factor
    sae = make()
    found = value(Lp((0.1, 0.2, 0.3), ramp=ramp), sae, X, **when)
    torch.testing.assert_close(found, factor * value(Lp((0.1, 0.2, 0.3)), sae, X))


def test_ramp_without_length_is_a_step():
    assert [Ramp(delay=3).at(step) for step in (0, 2, 3, 4)] == [0.0, 0.0, 1.0, 1.0]
    assert Ramp().at(0) == 1.0


@pytest.mark.parametrize("bad", [{"delay": -1}, {"length": -1}])
def test_ramp_refuses_negative_times(bad):
    with pytest.raises(ConfigError, match="must not be negative"):
        Ramp(**bad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, (1.0, math.nan)])
def test_a_coefficient_must_be_finite(bad):
    with pytest.raises(ConfigError, match="coefficient of `lp` must be finite"):
        Lp(bad)


def test_an_objective_adds_its_terms():
    sae = jumping()
    objective = Objective([SquaredError(), Lp(0.1), L0((0.1, 0.2, 0.3)), Lp(0.2, p=2.0)])
    total, parts = objective(Forward(sae, X), at())
    assert list(parts) == ["squared_error", "lp_1", "l0", "lp_2"]
    assert objective.names == list(parts)
    torch.testing.assert_close(total, sum(parts.values()))
    torch.testing.assert_close(parts["lp_2"], value(Lp(0.2, p=2.0), sae, X))


def test_an_objective_needs_a_term():
    with pytest.raises(ConfigError, match="at least one term"):
        Objective([])


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (Lp((0.1, 0.2)), "`lp` has 2 values of `coefficient` but the SAE has 3 members"),
        (TargetL0((1.0, 2.0)), "`target_l0` has 2 values of `target` but the SAE has 3"),
        (SquaredError(gamma=torch.ones(2, D)), "gamma has 2 rows but the SAE has 3 members"),
    ],
)
def test_values_must_fit_the_members(term, message):
    objective = Objective([SquaredError(), term])
    objective.check(2)
    with pytest.raises(ConfigError, match=message):
        objective.check(3)


def test_settings_say_how_a_term_was_made():
    settings = Objective(
        [
            SquaredError(gamma=torch.ones(2)),
            Lp((0.5, 1.0), p=0.5, ramp=Ramp(delay=1, length=2, unit="samples")),
        ]
    ).settings()
    ramp = {"delay": 0, "length": 0, "unit": "steps"}
    assert settings == [
        {"name": "squared_error", "ramp": ramp, "coefficient": [1.0], "gamma": [1.0, 1.0]},
        {
            "name": "lp",
            "ramp": {"delay": 1, "length": 2, "unit": "samples"},
            "p": 0.5,
            "weight_by_decoder_norm": True,
            "coefficient": [0.5, 1.0],
        },
    ]


# ---------------------------------------------------------------- the pass


@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_the_pass_agrees_with_the_sae(path):
    sae = make(BatchTopK(2, M))
    with force_path(path):
        forward = Forward(sae, X)
    torch.testing.assert_close(forward.x_hat, sae(X))
    torch.testing.assert_close(forward.z, sae.encode(X))
    assert forward.x_hat is forward.x_hat
    torch.testing.assert_close(forward.decoder_norm, sae.W_dec.norm(dim=-1))
