import functools

import pytest
import torch
from torch.nn.functional import cross_entropy

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.activations.contexts import contexts
from latent_assay.errors import ConfigError, DataError, HookError, ShapeError
from latent_assay.evals.loss_recovered import LossRecovered, loss_recovered
from tests.activations import tiny_models

FAMILIES = ["gpt2", "neox", "llama"]
HOOK = "blocks.1.hook_resid_post"
DOCUMENTS = tiny_models.text(9)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    @functools.cache
    def load(family):
        folder = tiny_models.save(tmp_path_factory.mktemp("models") / family, family)
        return LanguageModel.load(folder)

    return load


def measured(model, reconstruct, documents=DOCUMENTS, **settings):
    return loss_recovered(model, documents, HOOK, reconstruct, **({"context_size": 32} | settings))


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_recovers_everything_and_zeros_nothing(tiny, family):
    model = tiny(family)
    perfect = measured(model, lambda x: x)
    assert perfect.loss_recovered == 1.0
    assert perfect.kl_spliced == 0.0
    assert perfect.ce_spliced == perfect.ce_clean
    assert perfect.loss_recovered_se == pytest.approx(0.0, abs=1e-12)
    nothing = measured(model, torch.zeros_like)
    assert nothing.loss_recovered == 0.0
    assert nothing.kl_spliced == nothing.kl_zero_ablated > 0
    assert nothing.ce_spliced == nothing.ce_zero_ablated == perfect.ce_zero_ablated
    assert perfect.ce_clean != perfect.ce_zero_ablated


@pytest.mark.parametrize("family", FAMILIES)
def test_cross_entropy_is_that_of_transformers(tiny, family):
    """Against the model alone, one context at a time, with no padding and no hooks."""
    model = tiny(family)
    total, count = 0.0, 0
    for context in contexts(model.tokenizer, DOCUMENTS, context_size=32):
        token_ids = torch.tensor(context.token_ids)[None]
        with torch.no_grad():
            logits = model.model(input_ids=token_ids).logits[0, :-1]
        total += cross_entropy(logits, token_ids[0, 1:], reduction="sum").item()
        count += token_ids.shape[1] - 1
    found = measured(model, lambda x: x)
    assert found.n_tokens == count
    assert found.ce_clean == pytest.approx(total / count, rel=1e-5)


def test_splicing_is_the_module_with_its_output_changed(tiny):
    """Against a forward hook written by hand, on one batch without special tokens."""
    model = tiny("gpt2")
    token_ids = torch.randint(3, 320, (4, 20), generator=torch.Generator().manual_seed(1))
    found = measured(model, lambda x: 0.5 * x + 1.0, [token_ids], mean=torch.full((16,), 0.3))

    def loss(change):
        handle = model.module("transformer.h.1").register_forward_hook(
            lambda _, __, output: change(output)
        )
        with torch.no_grad():
            logits = model.model(input_ids=token_ids).logits[:, :-1]
        handle.remove()
        return logits, cross_entropy(logits.flatten(0, 1), token_ids[:, 1:].flatten()).item()

    clean, ce_clean = loss(lambda x: x)
    spliced, ce_spliced = loss(lambda x: 0.5 * x + 1.0)
    _, ce_zero = loss(torch.zeros_like)
    _, ce_mean = loss(lambda x: torch.full_like(x, 0.3))
    assert found.ce_clean == pytest.approx(ce_clean, rel=1e-5)
    assert found.ce_spliced == pytest.approx(ce_spliced, rel=1e-5)
    assert found.ce_zero_ablated == pytest.approx(ce_zero, rel=1e-5)
    assert found.ce_mean_ablated == pytest.approx(ce_mean, rel=1e-5)
    assert found.loss_recovered == pytest.approx(
        (ce_zero - ce_spliced) / (ce_zero - ce_clean), rel=1e-4
    )
    p, q = clean.double().log_softmax(-1), spliced.double().log_softmax(-1)
    assert found.kl_spliced == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-4)
    assert found.n_tokens == 4 * 19
    assert found.n_replaced == 4 * 20
    assert found.n_contexts == 4


def test_batch_size_changes_nothing(tiny):
    found = [measured(tiny("llama"), lambda x: 0.9 * x, batch_size=size) for size in (1, 3, 100)]
    for other in found[1:]:
        assert other.n_tokens == found[0].n_tokens
        assert other.n_replaced == found[0].n_replaced
        for field in ("ce_clean", "ce_spliced", "kl_spliced", "loss_recovered_se"):
            assert getattr(other, field) == pytest.approx(getattr(found[0], field), rel=1e-3)


def test_special_tokens_are_left_alone_unless_wanted(tiny):
    model = tiny("llama")  # its tokenizer puts a BOS before every context
    rows = []

    def count(x):
        rows.append(len(x))
        return x

    left = measured(model, count)
    pieces = list(contexts(model.tokenizer, DOCUMENTS, context_size=32))
    assert sum(rows) == left.n_replaced == sum(piece.n_text_tokens for piece in pieces)
    assert left.special_tokens_replaced is False
    assert left.n_contexts == len(pieces)
    replaced = measured(model, count, replace_special_tokens=True)
    assert replaced.n_replaced == left.n_replaced + len(pieces)
    assert replaced.special_tokens_replaced is True
    assert replaced.ce_zero_ablated != left.ce_zero_ablated
    batches = [torch.tensor(piece.token_ids)[None] for piece in pieces]
    assert measured(model, count, batches).n_replaced == left.n_replaced


def test_predictions_of_special_tokens_are_not_scored(tiny):
    model = tiny("gpt2")
    separated = measured(model, lambda x: x, ["water boils<|endoftext|>she sells"])
    assert separated.n_tokens == len(model.tokenizer("water boils")["input_ids"]) - 1 + len(
        model.tokenizer("she sells")["input_ids"]
    )


def test_outliers_are_left_alone(tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "m", "gpt2"))
    with torch.no_grad():
        model.module("transformer.wpe").weight[0] += 500.0
    longest = 0.0

    def watch(x):
        nonlocal longest
        longest = max(longest, x.norm(dim=1).max().item())
        return x

    bounded = measured(model, watch, max_norm=400.0)
    assert longest <= 400.0
    free = measured(model, watch)
    assert longest > 400.0
    assert free.n_replaced == bounded.n_replaced + free.n_contexts
    assert (bounded.max_norm, free.max_norm) == (400.0, None)


def sampled(model, n_contexts=6, n_tokens=24):
    """Text that the model itself wrote, which it therefore predicts better than chance."""
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(3, 320, (n_contexts, 1), generator=generator)
    for _ in range(n_tokens - 1):
        logits = model.logits(token_ids, torch.ones_like(token_ids))[:, -1]
        logits[:, :3] = -torch.inf  # no special tokens
        token = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        token_ids = torch.cat([token_ids, token], dim=1)
    return token_ids


def test_worse_reconstructions_recover_less(tiny):
    model = tiny("llama")
    text = [sampled(model)]
    noise = torch.randn(16, generator=torch.Generator().manual_seed(0))
    found = [measured(model, lambda x, s=s: x + s * noise, text) for s in (0.0, 0.3, 1.0, 30.0)]
    assert found[0].ce_clean < found[0].ce_zero_ablated
    recovered = [each.loss_recovered for each in found]
    assert recovered == sorted(recovered, reverse=True)
    assert recovered[0] == 1.0
    assert recovered[-1] < 0.0  # worse than zeros
    assert [each.kl_spliced for each in found] == sorted(each.kl_spliced for each in found)
    assert {each.ce_clean for each in found} == {found[0].ce_clean}


def test_standard_error_agrees_with_resampling(tiny):
    model = tiny("neox")
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(3, 320, (60, 12), generator=generator)
    noise = torch.randn(16, generator=generator)

    def reconstruct(x):
        return x + 0.7 * noise

    whole = measured(model, reconstruct, [token_ids])
    assert whole.loss_recovered_se > 0
    again = []
    for _ in range(30):
        chosen = torch.randint(60, (60,), generator=generator)
        again.append(measured(model, reconstruct, [token_ids[chosen]]).loss_recovered)
    spread = torch.tensor(again).std().item()
    assert whole.loss_recovered_se == pytest.approx(spread, rel=0.5)


def test_where_zeros_cost_nothing_nothing_can_be_recovered(tiny):
    found = loss_recovered(
        tiny("gpt2"), DOCUMENTS[:2], "lm_head:input", lambda x: x, context_size=32
    )  # fmt: skip
    assert isinstance(found, LossRecovered)
    assert found.loss_recovered == 1.0
    model = tiny("llama")
    with model.replace("blocks.2.hook_resid_post", torch.ones_like):
        found = measured(model, lambda x: 0.1 * x)
    assert found.ce_zero_ablated == found.ce_clean
    assert found.loss_recovered is None
    assert found.loss_recovered_se is None


def test_number_of_tokens(tiny):
    model = tiny("gpt2")
    found = measured(model, lambda x: x, n_tokens=50)
    assert found.n_replaced == 50
    assert found.n_tokens == 50 - found.n_contexts  # a first token is predicted from nothing
    one = measured(model, lambda x: x, ["She sells sea shells"])
    assert one.n_contexts == 1
    assert one.loss_recovered_se is None


def test_errors(tiny):
    model = tiny("gpt2")
    with pytest.raises(HookError, match=r"no hook point `nowhere`"):
        loss_recovered(model, DOCUMENTS, "nowhere", lambda x: x)
    with pytest.raises(ShapeError, match=r"turned \[\d+, 16\] into \[\d+, 3\].*another hook point"):
        measured(model, lambda x: x[:, :3])
    with pytest.raises(DataError, match=r"`reconstruct` gave numbers that are not finite"):
        measured(model, lambda x: x / 0)
    with pytest.raises(ShapeError, match=r"`mean` has shape \[3\]; expected \[16\]"):
        measured(model, lambda x: x, mean=torch.zeros(3))
    with pytest.raises(ConfigError, match=r"batch_size is 0"):
        measured(model, lambda x: x, batch_size=0)
    with pytest.raises(ConfigError, match=r"context_size is 65, but gpt2 reads at most 64"):
        measured(model, lambda x: x, context_size=65)
    with pytest.raises(DataError, match=r"no prediction to score"):
        measured(model, lambda x: x, n_tokens=1)
    with pytest.raises(DataError, match=r"holds no text"):
        measured(model, lambda x: x, [""])


def test_encoders_have_no_loss_to_recover():
    model = LanguageModel.load(bundled_minilm())
    with pytest.raises(ConfigError, match=r"BertModel predicts no next token"):
        loss_recovered(model, ["text"], "encoder.layer.1", lambda x: x)
