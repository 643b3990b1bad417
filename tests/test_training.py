"""The loop: what it does in order, and what it says when something goes wrong."""

import dataclasses
import json
import math
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from latent_assay import checkpoint, recipes
from latent_assay.batch import WeightedBatch
from latent_assay.errors import (
    ConfigError,
    DataError,
    FormatError,
    ShapeError,
    StorageError,
    TrainingDiverged,
)
from latent_assay.history import History
from latent_assay.kernels import force_path
from latent_assay.recipes import Recipe
from latent_assay.sae import SAE
from latent_assay.training import TrainingConfig, fit

D, W, B = 4, 6, 16


@pytest.fixture
def as_a_user(monkeypatch):
    """Without the shape checker, which only tests have: users meet our own messages instead."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def stream(*shape: int, start: int = 0) -> Iterator[Tensor]:
    step = start
    while True:
        yield draw(*(shape or (B, D)), seed=step)
        step += 1


def relu(**changes: object) -> Recipe:
    return recipes.relu_l1(**({"d_in": D, "width": W, "lr": 1e-2} | changes))


def train(
    recipe: Recipe, batches=None, *, folder=None, resume=True, trackers=(), **config
) -> History:
    settings = {"steps": 10, "log_every": 5, "lr_warm_up_steps": 0, **config}
    return fit(
        recipe.sae,
        recipe.objective,
        stream() if batches is None else batches,
        dataclasses.replace(recipe.config, **settings),
        folder=folder,
        resume=resume,
        trackers=trackers,
        progress=False,
    )


def state(sae: SAE) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in sae.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name].nan_to_num(), two[name].nan_to_num()) for name in one)


# ---------------------------------------------------------------- config


def test_the_learning_rate_rises_stays_and_falls():
    config = TrainingConfig(steps=10, lr_warm_up_steps=4, lr_decay_steps=5)
    factors = [config.lr_factor(step) for step in range(10)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert TrainingConfig(steps=3).lr_factor(2) == 1.0


def test_the_schedule_reaches_the_weights():
    """Adam's first step has the length of the learning rate in every coordinate."""
    recipe = relu(lr=0.5)
    before = state(recipe.sae)
    train(recipe, steps=1, lr_warm_up_steps=1, lr_decay_steps=0, clip=math.inf)
    moved = (recipe.sae.b_dec.detach() - before["b_dec"]).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5), rtol=1e-4, atol=0)
    recipe = relu(lr=0.5)
    train(recipe, [draw(B, D)] * 2, steps=2, lr_warm_up_steps=2, eps=1e-12, clip=math.inf)
    moved = (recipe.sae.b_dec.detach() - before["b_dec"]).abs()
    assert 0.25 < float(moved.max()) < 0.751  # a quarter, then up to a half


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "`steps` must be at least 1, got 0"),
        ({"log_every": 0}, "`log_every` must be at least 1"),
        ({"dead_after": 0}, "`dead_after` must be at least 1"),
        ({"checkpoint_every": 0}, "`checkpoint_every` must be at least 1 or None, got 0"),
        ({"lr_warm_up_steps": -1}, "warm-up and decay of the learning rate cannot be negative"),
        (
            {"steps": 9, "lr_warm_up_steps": 5, "lr_decay_steps": 5},
            r"warm-up \(5\) and decay \(5\) of the learning rate do not fit into 9 steps; shorten",
        ),
        ({"lr": 0.0}, r"`lr` must be positive, got 0\.0"),
        ({"lr": (1e-3, -1.0)}, r"`lr` must be positive, got \(0\.001, -1\.0\)"),
        ({"lr": math.nan}, "`lr` must be positive, got nan"),
        ({"lr": ()}, r"`lr` must be positive, got \(\)"),
        ({"lr": math.inf}, "`lr` must be finite"),
        ({"clip": 0.0}, "`clip` must be positive"),
        ({"betas": (0.9, 1.0)}, r"`betas` must lie from 0 to below 1 .* got \(0\.9, 1\.0\)"),
        ({"eps": 0.0}, "`eps` be positive"),
    ],
)
def test_settings_out_of_range(wrong, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**wrong)


@pytest.mark.parametrize("name", ["lr", "clip"])
def test_settings_for_another_number_of_members(name):
    with pytest.raises(ConfigError, match=f"`{name}` has 3 values but the SAE has 2 members"):
        train(relu(seeds=(0, 1)), **{name: (1.0, 1.0, 1.0)})


def test_coefficients_for_another_number_of_members():
    two, one = relu(seeds=(0, 1), l1=(0.1, 0.2)), relu()
    with pytest.raises(ConfigError, match="`lp` has 2 values of `coefficient` but the SAE has 1"):
        train(one._replace(objective=two.objective))


def test_everything_frozen():
    recipe = relu()
    sae = SAE(
        draw(1, W, D),
        draw(1, W, D),
        sparsifier=recipe.sae.sparsifier,
        frozen=("W_enc", "W_dec", "b_enc", "b_dec"),
    )
    with pytest.raises(ConfigError, match="every parameter of this SAE is frozen"):
        train(recipe._replace(sae=sae))


# ---------------------------------------------------------------- what is trained and logged


@pytest.mark.parametrize("path", ["dense", "sparse", "gram"])
def test_frozen_parameters_stay(path):
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        recipe = recipes.topk(d_in=D, width=W, k=2, lr=1e-2)
        before = state(recipe.sae)
        sae = SAE(
            before["W_enc"].clone(),
            before["W_dec"].clone(),
            b_enc=before["b_enc"].clone() + 0.5,
            b_dec=before["b_dec"].clone() + 0.1,
            sparsifier=recipe.sae.sparsifier,
            frozen=(name,),
        )
        before = state(sae)
        with force_path(path):
            train(recipe._replace(sae=sae))
        after = state(sae)
        moved = {
            each
            for each in ("W_enc", "W_dec", "b_enc", "b_dec")
            if not torch.equal(after[each], before[each])
        }
        assert moved == {"W_enc", "W_dec", "b_enc", "b_dec"} - {name}


def test_unit_rows_stay_at_length_one():
    recipe = recipes.topk(d_in=D, width=W, k=2, lr=0.1, dtype=torch.float64)
    before = state(recipe.sae)
    train(recipe, steps=20)
    length = recipe.sae.W_dec.detach().norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length), rtol=1e-14, atol=0)
    assert not torch.allclose(recipe.sae.W_dec.detach(), before["W_dec"], atol=0.05)


def test_thresholds_stay_at_or_above_zero():
    recipe = recipes.jumprelu(
        d_in=D, width=W, l0=1e-9, bandwidth=1.0, threshold=0.01, lr=0.1, sparsity_warm_up_steps=0
    )
    train(recipe, steps=10)
    threshold = recipe.sae.sparsifier.threshold.detach()
    assert float(threshold.min()) == 0.0


def test_all_of_b_dec_learns_where_d_in_equals_the_width():
    """A narrower member's padding must not be taken for coordinates of b_dec."""
    common = {"d_in": W, "lr": 1e-2, "dtype": torch.float64}
    company = relu(width=(3, W), seeds=(0, 1), **common)
    alone = relu(width=3, seeds=0, **common)
    for recipe in (company, alone):
        train(recipe, (x.double() for x in stream(B, W)))
    torch.testing.assert_close(company.sae.b_dec[0], alone.sae.b_dec[0])
    assert bool((company.sae.b_dec != 0).all())


def test_what_is_logged():
    recipe = relu(seeds=(0, 1), l1=(0.01, 0.1))
    history = train(recipe, steps=11, log_every=4)
    assert history.steps.tolist() == [4, 8, 11]  # the last step too
    assert history.samples.tolist() == [4 * B, 8 * B, 11 * B]
    assert history.members == 2
    assert history.names == ["loss", "squared_error", "lp", "fvu", "l0", "dead", "gradient_norm"]
    assert not history.interrupted
    total = history["squared_error"] + history["lp"]
    assert history["loss"] == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("own_x", [False, True])
def test_logged_numbers_are_those_of_the_batch(own_x):
    recipe = relu(seeds=(0, 1), dtype=torch.float64)
    x = draw(2, B, D) if own_x else draw(B, D)
    sae = recipe.sae
    x64 = x.double()
    z, x_hat = sae.encode(x64), sae(x64)
    error = (x64 - x_hat).square().sum(-1).mean(-1)
    spread = (x64 - x64.mean(-2, keepdim=True)).square().sum(-1).mean(-1)
    penalty = (z * sae.W_dec.norm(dim=-1).unsqueeze(1)).sum(-1).mean(-1)
    sae.zero_grad()
    (error + 1e-3 * penalty).sum().backward()
    norm = sum(p.grad.flatten(1).square().sum(1) for p in sae.parameters()).sqrt()
    sae.zero_grad()
    expected = {
        "squared_error": error,
        "lp": 1e-3 * penalty,
        "fvu": error / spread,
        "l0": (z > 0).sum(-1).double().mean(-1),
        "dead": torch.zeros(2),
        "gradient_norm": norm,
    }
    expected = {name: value.tolist() for name, value in expected.items()}
    history = train(recipe, [x], steps=1)
    for name, value in expected.items():
        assert history[name][0].tolist() == pytest.approx(value, rel=1e-10), name


def test_dead_latents_are_counted_in_samples():
    recipe = relu(seeds=(0, 1), width=(W, 3))
    with torch.no_grad():  # two of six and one of three can never fire
        recipe.sae.W_enc[0, :2] = 0.0
        recipe.sae.W_enc[1, 0] = 0.0
        recipe.sae.b_enc[0, :2] = -1.0
        recipe.sae.b_enc[1, 0] = -1.0
    history = train(recipe, steps=5, log_every=1, dead_after=3 * B)
    # the padding of the narrower member is not dead
    assert history["dead"].tolist() == [[0, 0], [0, 0], [2, 1], [2, 1], [2, 1]]


def test_a_latent_that_fires_again_is_no_longer_dead():
    recipe = recipes.linear(d_in=D, width=W)
    recipe.sae.W_enc.requires_grad_(False)
    recipe.sae.b_enc.requires_grad_(True)
    silent = torch.zeros(B, D)
    history = train(
        recipe,
        [silent, silent, draw(B, D), silent],
        steps=4,
        log_every=1,
        dead_after=2 * B,
        lr=1e-30,
    )
    assert history["dead"].ravel().tolist() == [0, W, 0, 0]


def test_the_sae_is_left_in_evaluation_mode():
    recipe = recipes.batchtopk(d_in=D, width=W, k=2)
    recipe.sae.eval()
    train(recipe)
    assert not recipe.sae.training
    assert recipe.sae.sparsifier.threshold.isfinite().all()
    assert all(p.grad is None for p in recipe.sae.parameters())


@pytest.mark.parametrize("path", ["dense", "sparse", "gram"])
@pytest.mark.parametrize("name", ["topk", "batchtopk", "matryoshka_batchtopk"])
def test_bfloat16(name, path):
    """Forced or not, sparse products are not taken under autocast."""
    extra = {"levels": (2, W)} if name == "matryoshka_batchtopk" else {}
    recipe = recipes.RECIPES[name](d_in=D, width=W, k=2, lr=1e-2, **extra)
    with force_path(path):
        history = train(recipe, steps=40, log_every=20, autocast=True)
    assert recipe.sae.W_enc.dtype == torch.float32
    assert history["fvu"][-1, 0] < history["fvu"][0, 0] < 1


# ---------------------------------------------------------------- weighted batches


@pytest.mark.parametrize("path", ["dense", "sparse", "gram"])
def test_a_weighted_batch_is_as_many_samples(path):
    """Weights, numbers, dead latents and thresholds agree, also for patterns that do not occur."""
    patterns = 2 * draw(5, D, seed=99, dtype=torch.float64)

    def counts(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        drawn = torch.randint(0, 4, (5,), generator=generator)
        drawn[step % 5] = 0
        drawn[(step + 1) % 5] = B - int(drawn.sum()) + int(drawn[(step + 1) % 5])
        return drawn

    def repeated() -> Iterator[Tensor]:
        for step in range(40):
            yield patterns.repeat_interleave(counts(step), dim=0)

    def weighted() -> Iterator[WeightedBatch]:
        for step in range(40):
            yield WeightedBatch(patterns, counts(step) / B, samples=B)

    seen = []
    for batches in (repeated(), weighted()):
        recipe = recipes.batchtopk(
            d_in=D, width=W, k=1.5, seeds=(0, 1), lr=2e-2, dead_after=3 * B, dtype=torch.float64
        )
        with force_path(path):
            history = train(recipe, batches, steps=40, log_every=1)
        seen.append((state(recipe.sae), history))
    (long, one), (short, two) = seen
    for name in long:
        torch.testing.assert_close(short[name], long[name], rtol=1e-9, atol=1e-9)
    assert one.samples.tolist() == two.samples.tolist()
    for name in one.names:
        assert two[name] == pytest.approx(one[name], rel=1e-7, abs=1e-9), name
    assert one["dead"].any()


def test_a_row_is_a_sample_unless_said_otherwise():
    batch = WeightedBatch(draw(3, D), torch.tensor([0.5, 0.25, 0.25]))
    assert train(relu(), [batch] * 10).samples.tolist() == [15, 30]


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (torch.ones(3), DataError, "weights of a batch must sum to 1, got 3; divide them by"),
        (torch.tensor([math.nan] * 3), DataError, "must sum to 1, got nan"),
        (
            torch.ones(2) / 2,
            ShapeError,
            r"a weight for each of 3 samples was expected, .* got shape \[2\]",
        ),
    ],
)
def test_weights_must_fit(weight, error, message, as_a_user):
    with pytest.raises(error, match=message):
        train(relu(), [WeightedBatch(draw(3, D), weight)] * 10)


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("count", [0, 1, 7])
def test_batches_run_out(count):
    message = rf"batches ran out after {count} steps, but the config asks for 10; give an endless"
    with pytest.raises(DataError, match=message):
        train(relu(), [draw(B, D)] * count)


def test_batches_of_the_wrong_kind(as_a_user):
    with pytest.raises(DataError, match="got list; a DataLoader over a TensorDataset yields lists"):
        train(relu(), [[draw(B, D)]] * 10)
    with pytest.raises(DataError, match="the batch of step 1 holds no samples"):
        train(relu(), [draw(B, D), draw(0, D)])
    with pytest.raises(ShapeError, match="x has d_in 5 but this SAE reads d_in 4"):
        train(relu(), [draw(B, 5)])


def test_batches_are_cast_to_the_type_of_the_weights():
    one, two = relu(), relu()
    train(one, (x.double() for x in stream()))
    train(two)
    assert same(state(one.sae), state(two.sae))


# ---------------------------------------------------------------- divergence


def spoiled(at: int, member: int | None, value: float) -> Iterator[Tensor]:
    for step, x in enumerate(stream(3, B, D) if member is not None else stream()):
        if step == at:
            x[(slice(None) if member is None else member), ..., 2] = value
        yield x


def trio(lr: object = (1e-2, 2e-2, 3e-2)) -> Recipe:
    return recipes.batchtopk(d_in=D, width=W, k=2, seeds=(0, 1, 2), lr=lr, dead_after=B)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("log_every", [1, 5])
def test_bad_input_of_one_member(value, log_every, tmp_path):
    recipe = trio()
    message = (
        r"the input at step 7 holds NaN or infinity \(member 1 of 3\); expected finite "
        r"activations\. Likely cause: .*The last good state is saved in '"
    )
    with pytest.raises(TrainingDiverged, match=message):
        train(recipe, spoiled(7, 1, value), folder=tmp_path, log_every=log_every)
    # the member stands where it stood before the bad batch; the others went on
    before, after = trio(), trio()
    train(before, stream(3, B, D), steps=7)
    train(after, stream(3, B, D), steps=8 if log_every == 1 else 10)
    now = state(recipe.sae)
    assert all(bool(each.isfinite().all()) for each in now.values())
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        torch.testing.assert_close(now[name][1], state(before.sae)[name][1], rtol=1e-6, atol=0)
        for other in (0, 2):
            assert torch.equal(now[name][other], state(after.sae)[name][other])
    tensors, _ = checkpoint.load(tmp_path)
    assert same(now, {name: tensors[f"sae.{name}"] for name in now})
    assert not recipe.sae.training


def test_bad_input_of_all_members():
    recipe = trio()
    with pytest.raises(TrainingDiverged, match=r"input at step 3 holds NaN .*\(every member\)"):
        train(recipe, spoiled(3, None, math.nan))
    before = trio()
    train(before, steps=3)
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        now, then = state(recipe.sae)[name], state(before.sae)[name]
        torch.testing.assert_close(now, then, rtol=1e-6, atol=0)


def test_bad_input_of_the_only_member():
    with pytest.raises(TrainingDiverged, match=r"\(the only member\)"):
        train(relu(), spoiled(3, None, math.inf))


def test_huge_but_finite_input_is_no_divergence():
    train(relu(dtype=torch.float64), (1e30 * x.double() for x in stream()))


@pytest.mark.parametrize("lr", [(1e-3, 1e30, 1e-3), (1e-3, 2e-3, 1e30)])
def test_a_learning_rate_that_is_too_high(lr, tmp_path):
    recipe = trio(lr)
    wild = lr.index(1e30)
    message = (
        rf"loss or gradient at step 1 was not finite \(member {wild} of 3\) although the input "
        r"was\. Likely cause: the learning rate \(1e\+30\) is too high"
    )
    with pytest.raises(TrainingDiverged, match=message):
        train(recipe, folder=tmp_path, log_every=2)
    assert all(bool(each.isfinite().all()) for each in state(recipe.sae).values())
    assert checkpoint.exists(tmp_path)


def test_divergence_is_noticed_before_a_checkpoint_replaces_a_good_one(tmp_path):
    recipe = trio()
    with pytest.raises(TrainingDiverged, match="step 7"):
        train(
            recipe,
            spoiled(7, 1, math.nan),
            folder=tmp_path,
            log_every=100,
            checkpoint_every=4,
            steps=20,
        )
    _, kept = checkpoint.load(tmp_path)
    assert kept["step"] == 8


def test_the_log_of_a_diverged_run_is_strict_json(tmp_path):
    with pytest.raises(TrainingDiverged):
        train(trio(), spoiled(0, 1, math.nan), folder=tmp_path, log_every=1)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    record = json.loads(line, parse_constant=refuse)
    assert record["fvu"][1] == "nan"
    assert isinstance(record["fvu"][0], float)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


# ---------------------------------------------------------------- resume


CHANGES = [
    ({"lr": 2e-2}, {}, r"`config\.lr` was 0\.01, now 0\.02"),
    ({"steps": 20}, {}, r"`config\.steps` was 10, now 20"),
    ({"clip": (1.0, math.inf)}, {}, r"`config\.clip` was 1\.0, now \[1\.0, 'inf'\]"),
    ({"betas": (0.5, 0.5)}, {}, r"`config\.betas` was \[0\.9, 0\.999\], now \[0\.5, 0\.5\]"),
    ({}, {"seeds": (0, 1, 2)}, r"`sae\.members` was 2, now 3 \(and 1 more differ\)"),
    ({}, {"width": (W, 3)}, r"`sae\.widths` was \[6, 6\], now \[6, 3\]"),
    ({}, {"dtype": torch.float64}, r"`sae\.dtype` was torch\.float32, now torch\.float64"),
    ({}, {"l1": 0.5}, r"`objective\.1\.coefficient` was \[0\.001\], now \[0\.5\]"),
    ({}, {"p": 0.5}, r"`objective\.1\.p` was 1\.0, now 0\.5"),
    (
        {},
        {"sparsity_warm_up_steps": 5},
        r"`objective\.1\.ramp\.length` was 0, now 5\. Choose another folder, the old settings",
    ),
]


@pytest.mark.parametrize(("config", "arguments", "message"), CHANGES)
def test_other_settings_are_named(config, arguments, message, tmp_path):
    train(relu(seeds=(0, 1)), folder=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=message):
        train(relu(**{"seeds": (0, 1), **arguments}), folder=tmp_path, **config)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "one", "two", "message"),
    [
        (
            "matryoshka",
            {"levels": (2, W)},
            {"levels": (3, W)},
            r"objective\.0\.levels` was \[2, 6\]",
        ),
        ("matryoshka", {"levels": (2, W)}, {"levels": (2, W), "detached": True}, r"\.0\.detached"),
        (
            "matryoshka",
            {"levels": (2, W)},
            {"levels": (2, W), "l1": 1.0},
            r"objective\.2\.coefficient` was \[0\.001\]",
        ),
        ("topk", {"k": 2}, {"k": 3}, r"sae\.k` was \[2\], now \[3\]"),
        ("topk", {"k": 2}, {"k": 2, "k_aux": 1}, r"objective\.1\.k` was 2, now 1"),
        ("topk", {"k": 2}, {"k": 2, "dead_after": 5}, r"config\.dead_after` was 10000000, now 5"),
        (
            "wsae",
            {"k": 2, "gamma": torch.ones(D)},
            {"k": 2, "gamma": torch.arange(1.0, D + 1)},
            r"objective\.0\.gamma` was \[1\.0, 1\.0, 1\.0, 1\.0\], now \[0\.365.* …",
        ),
    ],
)
def test_other_terms_are_named(name, one, two, message, tmp_path):
    make = recipes.RECIPES[name]
    train(make(d_in=D, width=W, lr=1e-2, **one), folder=tmp_path)
    with pytest.raises(ConfigError, match=message):
        train(make(d_in=D, width=W, lr=1e-2, **two), folder=tmp_path)


def test_other_frozen_parameters_are_named(tmp_path):
    recipe = relu()
    train(recipe, folder=tmp_path)
    sae = SAE(draw(1, W, D), draw(1, W, D), sparsifier=recipe.sae.sparsifier, frozen=("b_enc",))
    with pytest.raises(ConfigError, match=r"`sae\.frozen` was \[\], now \['b_enc'\]"):
        train(recipe._replace(sae=sae), folder=tmp_path)


def test_how_often_to_look_may_change(tmp_path):
    train(relu(), folder=tmp_path)
    history = train(relu(), folder=tmp_path, log_every=1, checkpoint_every=3)
    assert history.steps.tolist() == [5, 10]


def test_a_finished_run_is_not_run_again(tmp_path):
    first = relu()
    one = train(first, folder=tmp_path)
    again = relu()
    two = train(again, [], folder=tmp_path)
    assert same(state(first.sae), state(again.sae))
    assert one.records == two.records


def test_history_with_nan_comes_back_as_numbers(tmp_path):
    """A constant batch has no spread: fvu is infinite."""
    recipe = recipes.linear(d_in=D, width=W)
    one = train(recipe, [torch.ones(B, D)] * 10, folder=tmp_path, log_every=1)
    assert math.isinf(one["fvu"][0, 0])
    two = train(recipes.linear(d_in=D, width=W), [], folder=tmp_path, log_every=1)
    assert one.records == two.records


def test_starting_anew(tmp_path):
    train(relu(seeds=0), folder=tmp_path)
    fresh, alone = relu(seeds=1), relu(seeds=1)
    history = train(fresh, folder=tmp_path, resume=False, log_every=2)
    train(alone)
    assert same(state(fresh.sae), state(alone.sae))
    assert history.steps.tolist() == [2, 4, 6, 8, 10]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6, 8, 10]


def test_starting_anew_leaves_nothing_to_resume_from(tmp_path):
    """Killed before its first checkpoint, the new run must not be continued with old weights."""
    train(relu(seeds=0), folder=tmp_path)
    with pytest.raises(DataError, match="ran out after 3 steps"):
        train(relu(seeds=1), [draw(B, D)] * 3, folder=tmp_path, resume=False)
    assert not checkpoint.exists(tmp_path)
    again, alone = relu(seeds=1), relu(seeds=1)
    train(again, folder=tmp_path)
    train(alone)
    assert same(state(again.sae), state(alone.sae))


def test_killed_between_the_two_renames_of_a_checkpoint(tmp_path):
    first = relu()
    train(first, folder=tmp_path)
    aside = tmp_path / ".checkpoint.1-ab.old"
    aside.mkdir()
    (tmp_path / "checkpoint").rename(aside / "checkpoint")
    (tmp_path / ".checkpoint.1-ab.part").mkdir()
    again = relu()
    train(again, [], folder=tmp_path)
    assert same(state(first.sae), state(again.sae))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "log.jsonl"}


def remove(name: str):
    return lambda place: (place / name).unlink()


def cut(name: str):
    def act(place: Path) -> None:
        content = (place / name).read_bytes()
        (place / name).write_bytes(content[: len(content) // 2])

    return act


def change_state(**values: object):
    def act(place: Path) -> None:
        found = json.loads((place / "state.json").read_text())
        (place / "state.json").write_text(json.dumps(found | values))

    return act


def change_tensors(change):
    def act(place: Path) -> None:
        tensors = load_file(place / "state.safetensors")
        change(tensors)
        save_file(tensors, place / "state.safetensors")

    return act


DAMAGE = {
    "no state": (remove("state.json"), "cannot be read"),
    "no tensors": (remove("state.safetensors"), "cannot be read"),
    "half a state": (cut("state.json"), "cannot be read"),
    "half the tensors": (cut("state.safetensors"), "cannot be read"),
    "a list": (lambda place: (place / "state.json").write_text("[1]"), "cannot be read"),
    "not text": (lambda place: (place / "state.json").write_bytes(b"\xff\xfe"), "cannot be read"),
    "step is a word": (change_state(step="ten"), "has no valid step; remove the folder"),
    "no history": (change_state(history=None), "has no valid history"),
    "no place in the stream": (change_state(batches=3), "has no valid batches"),
    "odd history": (change_state(history=[3]), "cannot be read"),
    "history of words": (change_state(history=[{"loss": ["x"]}]), "cannot be read"),
    "no bias": (change_tensors(lambda t: t.pop("sae.b_enc")), "were expected; it is damaged or"),
    "no moment": (change_tensors(lambda t: t.pop("adam.first.W_enc")), "were expected"),
    "no counts": (change_tensors(lambda t: t.pop("run.since_fired")), "were expected"),
    "no objective": (
        change_tensors(lambda t: t.pop("objective.terms.0.coefficient")),
        "were expect",
    ),
    "other shape": (
        change_tensors(lambda t: t.update({"adam.second.b_dec": torch.zeros(1, 1)})),
        r"`second\.b_dec` in the checkpoint .* has shape \[1, 1\], expected \[1, 4\]",
    ),
}


@pytest.mark.parametrize("what", sorted(DAMAGE))
def test_damaged_checkpoints(what, tmp_path):
    train(relu(), folder=tmp_path)
    damage, message = DAMAGE[what]
    damage(tmp_path / "checkpoint")
    with pytest.raises(FormatError, match=message):
        train(relu(), folder=tmp_path)
    train(relu(), folder=tmp_path, resume=False)


class Numbers:
    """A stream that says where it is, in a tensor and in plain values."""

    def __init__(self) -> None:
        self.count = 0

    def __iter__(self) -> "Numbers":
        return self

    def __next__(self) -> Tensor:
        self.count += 1
        return draw(B, D, seed=self.count)

    def state_dict(self) -> dict[str, object]:
        return {"tensor": torch.tensor(self.count), "number": self.count, "name": "numbers"}

    def load_state_dict(self, state: dict) -> None:
        assert state["name"] == "numbers"
        assert int(state["tensor"]) == state["number"]
        self.count = state["number"]


class SevenNumbers(Numbers):
    def __next__(self) -> Tensor:
        if self.count == 7:
            raise StopIteration
        return super().__next__()


def test_the_place_in_a_stream_may_hold_tensors_and_plain_values(tmp_path):
    whole, part, again = relu(), relu(), relu()
    train(whole, Numbers())
    with pytest.raises(DataError, match="ran out after 7 steps"):
        train(part, SevenNumbers(), folder=tmp_path, checkpoint_every=4)
    rest = Numbers()
    train(again, rest, folder=tmp_path, checkpoint_every=4)
    assert rest.count == 10
    assert same(state(whole.sae), state(again.sae))


def test_a_checkpoint_that_cannot_be_written(tmp_path, monkeypatch):
    """The disk fills up during training: the last checkpoint stays, and the message says so."""
    calls = []
    save = checkpoint.write_tensors

    def full(*arguments: object) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(StorageError, match=r"No space left on device\. What was there before is"):
        train(relu(), folder=tmp_path, checkpoint_every=3)
    monkeypatch.undo()
    assert checkpoint.load(tmp_path)[1]["step"] == 6
    again, whole = relu(), relu()
    train(again, folder=tmp_path, checkpoint_every=3)
    train(whole)
    assert same(state(again.sae), state(whole.sae))


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "run").write_text("keep me")
    with pytest.raises(StorageError, match="could not write"):
        train(relu(), folder=tmp_path / "run")
    assert (tmp_path / "run").read_text() == "keep me"


# ---------------------------------------------------------------- Ctrl-C


def interrupting(at: int, times: int = 1) -> Iterator[Tensor]:
    for step, x in enumerate(stream()):
        if step == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        yield x


def test_ctrl_c_keeps_everything(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    recipe, alone = relu(), relu()
    history = train(recipe, interrupting(6), folder=tmp_path, log_every=2)
    assert history.interrupted
    assert history.steps.tolist() == [2, 4, 6]
    train(alone, steps=7)
    assert same(state(recipe.sae), state(alone.sae))  # the step that was running was ended
    assert not recipe.sae.training
    assert signal.getsignal(signal.SIGINT) is before
    assert checkpoint.load(tmp_path)[1]["step"] == 7
    again, whole = relu(), relu()
    rest = train(again, folder=tmp_path, log_every=2)
    assert not rest.interrupted
    assert rest.steps.tolist() == [2, 4, 6, 8, 10]
    train(whole)
    assert same(state(again.sae), state(whole.sae))


def test_ctrl_c_without_a_folder():
    history = train(relu(), interrupting(6))
    assert history.interrupted
    assert history.steps.tolist() == [5]


def test_ctrl_c_in_the_last_step_interrupts_nothing():
    assert not train(relu(), interrupting(9)).interrupted


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    recipe = relu()
    with pytest.raises(KeyboardInterrupt):
        train(recipe, interrupting(6, times=2), folder=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert not recipe.sae.training


def test_training_in_another_thread():
    """Only the main thread may handle signals; others train all the same."""
    done: list[History] = []
    worker = threading.Thread(target=lambda: done.append(train(relu())))
    worker.start()
    worker.join(timeout=60)
    assert done[0].steps.tolist() == [5, 10]


# ---------------------------------------------------------------- trackers, progress


class Recorder:
    def __init__(self) -> None:
        self.records: list[dict] = []
        self.closed = 0

    def write(self, record: dict) -> None:
        assert not self.closed
        self.records.append(record)

    def close(self) -> None:
        self.closed += 1


def test_trackers_receive_every_record(tmp_path):
    one, two = Recorder(), Recorder()
    history = train(relu(seeds=(0, 1)), trackers=(one, two), folder=tmp_path, log_every=3)
    assert one.records == two.records == history.records
    assert [record["step"] for record in one.records] == [3, 6, 9, 10]
    assert len(one.records[0]["loss"]) == 2
    assert (one.closed, two.closed) == (1, 1)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == history.records


def test_trackers_are_closed_after_an_error():
    recorder = Recorder()
    with pytest.raises(DataError):
        train(relu(), [], trackers=(recorder,))
    assert recorder.closed == 1


def test_the_bar_shows_where_training_is(capsys):
    recipe = relu()
    config = dataclasses.replace(recipe.config, steps=4, log_every=2)
    fit(recipe.sae, recipe.objective, stream(), config, progress=True)
    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "L0=" in shown
    train(relu())
    assert capsys.readouterr() == ("", "")
