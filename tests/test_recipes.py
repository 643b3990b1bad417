import math

import pytest
import torch
from torch import Tensor

from latent_assay import recipes
from latent_assay.errors import ConfigError
from latent_assay.initialisation import from_features, kaiming, tied_random
from latent_assay.losses import (
    L0,
    ActivationOrthogonality,
    AuxK,
    Lp,
    Matryoshka,
    Ramp,
    SquaredError,
    TargetL0,
)
from latent_assay.recipes import RECIPES, Recipe
from latent_assay.sparsifiers import BatchTopK, Identity, JumpReLU, ReLU, TopK

D = 8
SIZES = {"d_in": D, "width": 16}
# what a recipe cannot do without
NEEDS: dict[str, dict] = {
    "topk": {"k": 2},
    "batchtopk": {"k": 2},
    "matryoshka": {"levels": (4, 16)},
    "matryoshka_batchtopk": {"levels": (4, 16), "k": 2},
    "balance_matryoshka": {"levels": (4, 8, 16), "k": 2},
    "wsae": {"k": 2, "gamma": torch.linspace(0.5, 2.0, D)},
}
NAMES = sorted(RECIPES)


def make(name: str, **changes: object) -> Recipe:
    return RECIPES[name](**(SIZES | NEEDS.get(name, {}) | changes))


def terms(recipe: Recipe) -> dict[str, object]:
    return {term.name: term for term in recipe.objective.every_term()}


def close(a: Tensor, b: object) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=a.dtype))


# ---------------------------------------------------------------- published defaults


SPARSIFIERS = {
    "linear": Identity,
    "relu_l1": ReLU,
    "tied": ReLU,
    "tied_orthogonal": ReLU,
    "jumprelu": JumpReLU,
    "topk": TopK,
    "batchtopk": BatchTopK,
    "matryoshka": ReLU,
    "matryoshka_batchtopk": BatchTopK,
    "balance_matryoshka": BatchTopK,
    "wsae": TopK,
}


@pytest.mark.parametrize("name", NAMES)
def test_architecture(name):
    sae = make(name).sae
    assert type(sae.sparsifier) is SPARSIFIERS[name]
    assert sae.tied == (name in {"linear", "tied", "tied_orthogonal", "wsae"})
    unit = {"jumprelu", "topk", "batchtopk", "matryoshka_batchtopk", "balance_matryoshka"}
    assert sae.decoder_norm == ("unit" if name in unit else "free")
    frozen = {
        "linear": ("b_dec", "b_enc"),
        "wsae": ("b_dec", "b_enc"),
        "tied": ("b_enc",),
        "tied_orthogonal": ("b_enc",),
    }
    assert sae.frozen == frozen.get(name, ())
    assert sae.subtract_b_dec
    assert (sae.members, sae.width, sae.d_in) == (1, 16, D)
    assert sae.W_enc.dtype == torch.float32


LR = {"linear": 1e-3, "wsae": 1e-3, "jumprelu": 7e-5, "topk": [2e-4 / math.sqrt(16 / 2**14)]}


@pytest.mark.parametrize("name", NAMES)
def test_training_settings(name):
    config = make(name).config
    assert config.lr == LR.get(name, 3e-4)
    assert config.betas == ((0.0, 0.999) if name == "jumprelu" else (0.9, 0.999))
    assert config.eps == (6.25e-10 if name == "topk" else 1e-8)
    assert config.lr_warm_up_steps == (1_000 if name == "jumprelu" else 0)
    assert config.dead_after == 10_000_000


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("linear", ["squared_error"]),
        ("relu_l1", ["squared_error", "lp"]),
        ("tied", ["squared_error", "lp"]),
        ("tied_orthogonal", ["squared_error", "lp", "activation_orthogonality"]),
        ("jumprelu", ["squared_error", "l0"]),
        ("topk", ["squared_error", "auxk"]),
        ("batchtopk", ["squared_error", "auxk"]),
        ("matryoshka", ["matryoshka"]),
        ("matryoshka_batchtopk", ["matryoshka", "auxk"]),
        ("balance_matryoshka", ["matryoshka", "auxk"]),
        ("wsae", ["squared_error"]),
    ],
)
def test_objective(name, words):
    assert make(name).objective.names == words


def test_every_recipe_is_listed():
    assert {recipe.__name__ for recipe in RECIPES.values()} == set(NAMES) == set(SPARSIFIERS)
    for name in NAMES:
        assert getattr(recipes, name) is RECIPES[name]


def test_coefficients_that_are_published():
    assert terms(make("relu_l1"))["lp"].coefficient.tolist() == [1e-3]
    assert terms(make("tied"))["lp"].coefficient.tolist() == [5e-3]
    auxk = terms(make("topk"))["auxk"]
    assert isinstance(auxk, AuxK)
    assert auxk.coefficient.tolist() == [1 / 32]
    assert (auxk.k, auxk.dead_after) == (D // 2, 10_000_000)
    orthogonality = terms(make("tied_orthogonal"))["activation_orthogonality"]
    assert isinstance(orthogonality, ActivationOrthogonality)
    assert orthogonality.coefficient.tolist() == [1e4]
    assert orthogonality.fraction == 0.7
    assert orthogonality.recent.shape == (50, 1, 16)
    ramp = Ramp(delay=50_000_000, length=50_000_000, unit="samples")
    assert orthogonality.ramp == ramp


def test_jumprelu():
    sae, objective, _ = make("jumprelu")
    assert sae.sparsifier.bandwidth == 0.001
    close(sae.sparsifier.threshold.detach(), [[0.001] * 16])
    penalty = objective.terms[1]
    assert isinstance(penalty, L0)
    assert penalty.coefficient.tolist() == [1e-3]
    assert penalty.ramp == Ramp(length=10_000)
    target = make("jumprelu", target_l0=(3, 5), sparsity_warm_up_steps=7).objective.terms[1]
    assert isinstance(target, TargetL0)
    assert target.target.tolist() == [3.0, 5.0]
    assert target.coefficient.tolist() == [1.0]
    assert target.ramp == Ramp(length=7)
    with pytest.raises(ConfigError, match=r"give `l0` \(a penalty\) or `target_l0` \(a target\)"):
        make("jumprelu", l0=1e-3, target_l0=5)


def test_the_learning_rate_of_topk_follows_the_width():
    rates = make("topk", width=(2**14, 2**12)).config.lr
    assert rates == pytest.approx([2e-4, 4e-4])
    assert make("topk", lr=1e-3).config.lr == 1e-3


def test_auxk_takes_its_settings():
    recipe = make("batchtopk", auxk=(0.5, 0.25), k_aux=3, dead_after=77)
    auxk = terms(recipe)["auxk"]
    assert (auxk.k, auxk.dead_after) == (3, 77)
    assert auxk.coefficient.tolist() == [0.5, 0.25]
    assert recipe.config.dead_after == 77
    assert terms(make("topk", d_in=1, k=1))["auxk"].k == 1


def test_the_penalty_warms_up():
    penalty = make("relu_l1", p=0.5, sparsity_warm_up_steps=30).objective.terms[1]
    assert isinstance(penalty, Lp)
    assert penalty.p == 0.5
    assert penalty.ramp == Ramp(length=30)


# ---------------------------------------------------------------- matryoshka


def test_nested_terms():
    nested = make("matryoshka", l1=(0.1, 0.2), detached=True).objective.terms[0]
    assert isinstance(nested, Matryoshka)
    assert nested.detached
    assert nested.levels == (4, 16)
    squared_error, penalty = nested.terms
    assert isinstance(squared_error, SquaredError)
    assert penalty.coefficient.tolist() == [0.1, 0.2]
    inner = make("matryoshka_batchtopk").objective.terms[0].terms
    assert [term.name for term in inner] == ["squared_error"]


@pytest.mark.parametrize("name", ["matryoshka", "matryoshka_batchtopk"])
@pytest.mark.parametrize(
    ("beta", "rows", "members"),
    [
        (1.0, [[1.0, 1.0]], 1),
        ((0.5, 2.0), [[0.5, 2.0]], 1),
        (((0.5, 2.0), (0.0, 1.0), (1.0, 1.0)), [[0.5, 2.0], [0.0, 1.0], [1.0, 1.0]], 3),
        ([[0.5, 2.0]], [[0.5, 2.0]], 1),
    ],
)
def test_beta(name, beta, rows, members):
    """Numbers for each level say nothing about members; rows do."""
    recipe = make(name, beta=beta)
    assert recipe.sae.members == members
    assert recipe.objective.terms[0].beta.tolist() == rows


def test_the_multiplier_counts_from_the_outermost_level():
    assert make("balance_matryoshka").objective.terms[0].beta.tolist() == [[0.5625, 0.75, 1.0]]
    recipe = make("balance_matryoshka", multiplier=(0.0, 1.0, 0.5))
    assert recipe.sae.members == 3
    expected = [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.25, 0.5, 1.0]]
    assert recipe.objective.terms[0].beta.tolist() == expected
    with pytest.raises(ConfigError, match="give `multiplier` here, or `beta` to"):
        make("balance_matryoshka", beta=1.0)


# ---------------------------------------------------------------- wsae


def test_gamma_is_normalised():
    gamma = torch.tensor([1.0, 2.0, 3.0, 0.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    found = make("wsae", gamma=gamma).objective.terms[0].gamma
    assert float(found.square().mean()) == pytest.approx(1.0)
    close(found / found[0], gamma)
    assert torch.equal(found, make("wsae", gamma=gamma * 8).objective.terms[0].gamma)
    rows = torch.stack([gamma, torch.ones(D, dtype=torch.float64)])
    recipe = make("wsae", gamma=rows)
    assert recipe.sae.members == 2
    close(recipe.objective.terms[0].gamma[0], found)
    close(recipe.objective.terms[0].gamma[1], torch.ones(D))


@pytest.mark.parametrize(
    "gamma",
    [torch.ones(D - 1), torch.zeros(D), -torch.ones(D), torch.full((D,), math.nan)],
)
def test_gamma_must_fit(gamma):
    with pytest.raises(ConfigError, match=r"gamma must hold 8 weights \(d_in\), none negative"):
        make("wsae", gamma=gamma)


def test_gamma_of_one_member_only_zeros():
    with pytest.raises(ConfigError, match="gamma must be finite"):
        make("wsae", gamma=torch.stack([torch.ones(D), torch.zeros(D)]))


def test_gamma_must_fit_the_members():
    with pytest.raises(ConfigError, match="must agree in number, got seeds: 3, gamma: 2"):
        make("wsae", gamma=torch.ones(2, D), seeds=(0, 1, 2))


# ---------------------------------------------------------------- members


PER_MEMBER = [
    ("linear", {"lr": (1e-3, 1e-2)}),
    ("relu_l1", {"l1": (1e-3, 1e-2)}),
    ("relu_l1", {"width": (4, 9)}),
    ("tied", {"l1": [1e-3, 1e-2]}),
    ("tied_orthogonal", {"orthogonality": (1.0, 2.0)}),
    ("jumprelu", {"l0": (1e-3, 1e-2)}),
    ("jumprelu", {"target_l0": (1, 2)}),
    ("topk", {"k": (1, 2)}),
    ("topk", {"auxk": (0.1, 0.2)}),
    ("batchtopk", {"k": (1.5, 2)}),
    ("matryoshka", {"beta": ((1, 1), (1, 2))}),
    ("matryoshka_batchtopk", {"beta": ((1, 1), (1, 2))}),
    ("balance_matryoshka", {"multiplier": (0.1, 0.2)}),
    ("wsae", {"gamma": torch.ones(2, D)}),
    *((name, {"seeds": range(2)}) for name in NAMES),
]


@pytest.mark.parametrize(("name", "values"), PER_MEMBER)
def test_a_sequence_makes_members(name, values):
    sae, objective, _ = make(name, **values)
    assert sae.members == 2
    objective.check(2)
    same = torch.equal(sae.W_enc[0], sae.W_enc[1])
    assert same == ("seeds" not in values and "width" not in values)
    if "seeds" not in values:  # one seed for all: what differs is the argument alone
        assert torch.equal(sae.W_enc[0, :4], sae.W_enc[1, :4]) or "width" in values


@pytest.mark.parametrize(
    ("name", "values"), [each for each in PER_MEMBER if "seeds" not in each[1]]
)
def test_sequences_must_agree(name, values):
    argument = next(iter(values))
    with pytest.raises(ConfigError, match=r"must agree in number, got .*seeds: 3") as e:
        make(name, **values, seeds=(0, 1, 2))
    assert argument in str(e.value)


@pytest.mark.parametrize("changes", [{"seeds": ()}, {"lr": ()}, {"width": ()}])
def test_empty_sequences(changes):
    with pytest.raises(ConfigError, match="must agree in number"):
        make("relu_l1", **changes)


@pytest.mark.parametrize("changes", [{"d_in": 0}, {"width": 0}, {"width": (4, 0)}])
def test_sizes_must_be_positive(changes):
    with pytest.raises(ConfigError, match="d_in and width must be at least 1"):
        make("relu_l1", **changes)


@pytest.mark.parametrize("name", ["topk", "batchtopk"])
def test_k_must_fit_the_width(name):
    with pytest.raises(ConfigError, match="k is 17 but the SAE has only 16 latents"):
        make(name, k=17)
    with pytest.raises(ConfigError, match="k is 5 but the SAE has only 4 latents"):
        make(name, k=5, width=(16, 4))


def test_widths_differ_by_padding():
    sae = make("topk", width=(4, 9)).sae
    assert sae.widths == (4, 9)
    assert sae.W_enc.shape == (2, 9, D)
    assert not sae.W_enc[0, 4:].any()
    assert sae.W_enc[1].any(dim=-1).all()


# ---------------------------------------------------------------- beginnings


@pytest.mark.parametrize("name", NAMES)
def test_the_first_weights(name):
    sae = make(name, seeds=3).sae
    begins_at_one = {"topk", "batchtopk", "matryoshka_batchtopk", "balance_matryoshka"}
    norm = 1.0 if name in begins_at_one else 0.1
    init = kaiming() if name == "jumprelu" else tied_random(norm)
    rows, _ = init(torch.Generator().manual_seed(3), 16, D)
    close(sae.W_enc[0].detach(), rows)
    if sae.decoder_norm == "unit":
        rows = rows / rows.norm(dim=-1, keepdim=True)
    close(sae.W_dec[0].detach(), rows)
    assert not sae.b_enc.any()
    assert not sae.b_dec.any()


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_begins_the_same_in_any_company(name):
    company = make(name, seeds=(5, 2, 7)).sae
    alone = make(name, seeds=2).sae
    assert torch.equal(company.W_enc[1], alone.W_enc[0])
    assert torch.equal(company.W_dec[1], alone.W_dec[0])
    # nor does it matter how wide the others are
    if name in {"relu_l1", "topk", "jumprelu"}:
        padded = make(name, seeds=(5, 2), width=(30, 16)).sae.take(1)
        assert torch.equal(padded.W_enc, alone.W_enc)


def test_own_initialisation_bias_and_type():
    features = torch.eye(D)
    bias = torch.arange(float(D))
    sae = make(
        "relu_l1",
        width=6,
        seeds=(0, 1),
        init=from_features(features),
        b_dec=bias,
        dtype=torch.float64,
    ).sae
    close(sae.W_enc[1].detach(), features[:6])
    close(sae.b_dec.detach(), bias.expand(2, -1))
    assert sae.b_dec.dtype == sae.W_dec.dtype == torch.float64
    with torch.no_grad():
        sae.b_dec.zero_()
    assert bias.any()


def test_nothing_global_is_touched():
    before = torch.get_rng_state()
    for name in NAMES:
        make(name)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["batchtopk", "matryoshka_batchtopk", "balance_matryoshka"])
def test_a_free_decoder_begins_short_and_may_have_any_length(name):
    recipe = make(name, decoder_norm="free")
    assert recipe.sae.decoder_norm == "free"
    close(recipe.sae.W_dec.norm(dim=-1), torch.full((1, 16), 0.1))
    with torch.no_grad():
        recipe.sae.W_dec.mul_(3)
        recipe.sae.constrain()
    close(recipe.sae.W_dec.norm(dim=-1), torch.full((1, 16), 0.3))
