import gc
import json
import threading

import pytest
import torch

from latent_assay.activations import LanguageModel, LiveConfig, LiveStream, harvest, mixing
from latent_assay.activations.ahead import Ahead
from latent_assay.activations.ring import WINDOW, Ring
from latent_assay.errors import ConfigError, DataError, HookError
from tests.activations import tiny_models

HOOKS = ("blocks.1.hook_resid_post", "blocks.2.hook_mlp_out")
DOCUMENTS = tiny_models.text(120)
SETTINGS = {"hook_points": HOOKS, "batch_size": 64, "buffer_rows": 1500, "context_size": 24}


def live(model, documents=DOCUMENTS, **change):
    return LiveStream(model, documents, LiveConfig(**(SETTINGS | change)))


def take(stream, n):
    return [next(stream) for _ in range(n)]


def equal(one, other):
    return all(torch.equal(a[name], b[name]) for a, b in zip(one, other, strict=True) for name in a)


@pytest.fixture
def model(tiny):
    return tiny("neox")


def test_an_epoch_gives_the_rows_of_a_harvest_once_each(model, tmp_path):
    stores = harvest(
        model, DOCUMENTS[:40], hook_points=HOOKS, folder=tmp_path / "h", context_size=24,
        progress=False, skip_norm_outliers=False,
    )  # fmt: skip
    for epochs in (1, 2):
        stream = live(model, DOCUMENTS[:40], epochs=epochs, skip_norm_outliers=False)
        batches, origins = [], []
        while True:
            try:
                batch, origin = stream.next_with_origin()
            except StopIteration:
                break
            batches.append(batch)
            origins.append(origin)
        assert all(len(origin) == 64 for origin in origins[:-1])
        context, row = torch.cat(origins).unbind(dim=1)
        n = stores[HOOKS[0]].n_rows
        assert torch.equal(row.sort().values, torch.arange(epochs * n))
        for name, store in stores.items():  # aligned: one origin serves all hook points
            x = torch.cat([batch[name] for batch in batches])
            torch.testing.assert_close(x, store.rows(0, n)[row % n], rtol=1e-4, atol=1e-4)
        ((_, expected, _),) = stores[HOOKS[0]].in_order(10**5)
        assert torch.equal(context[row < n], expected[row[row < n]])


def test_the_thread_changes_nothing(model):
    assert equal(take(live(model), 80), take(live(model, background=False), 80))


@pytest.mark.parametrize("change", [{}, {"pack": True}, {"n_tokens": 900}, {"epochs": 1}])
@pytest.mark.parametrize("taken", [0, 1, 23, 60])
def test_resumed_stream_goes_on_bit_for_bit(model, taken, change):
    change = {"normalise": True, "buffer_dtype": torch.bfloat16, **change}
    n = 20
    one = live(model, **change)
    take(one, taken)
    state = json.loads(json.dumps(one.state_dict()))
    expected = take(one, n)
    other = live(model, **change, background=False)
    other.load_state_dict(state)
    assert equal(take(other, n), expected)
    assert other.state_dict() == one.state_dict()
    one.load_state_dict(state)  # a stream can go back
    assert equal(take(one, n), expected)


def test_resuming_reads_only_what_the_ring_held(model, monkeypatch):
    stream = live(model)
    take(stream, 200)
    state = stream.state_dict()
    assert state["chunk"] > 100
    stream.close()
    read = 0
    forward = LanguageModel._forward

    def counting(self, token_ids, mask, **options):
        nonlocal read
        read += int(mask.sum())
        return forward(self, token_ids, mask, **options)

    again = live(model, background=False)
    again.load_state_dict(state)
    monkeypatch.setattr(LanguageModel, "_forward", counting)
    next(again)
    assert read <= (WINDOW + 1) * again.reader.chunk_rows


def test_views(model):
    whole = live(model)
    one = live(model).at(HOOKS[1])
    both = live(model).at(*HOOKS, HOOKS[0])
    for _ in range(5):
        batch = next(whole)
        assert torch.equal(next(one), batch[HOOKS[1]])
        stacked = next(both)
        assert stacked.shape == (3, 64, 16)
        assert torch.equal(stacked[0], batch[HOOKS[0]])
        assert torch.equal(stacked[2], batch[HOOKS[0]])
    state = both.state_dict()
    assert state == whole.state_dict()
    expected = next(one)
    one.load_state_dict(state)
    assert torch.equal(next(one), expected)
    with pytest.raises(ConfigError, match=r"`blocks.0.hook_mlp_out` is not streamed, only blocks"):
        whole.at("blocks.0.hook_mlp_out")
    wide = live(model, hook_points=(HOOKS[0], "blocks.0.mlp.hook_post"))
    with pytest.raises(ConfigError, match=r"lengths .*16.*32.*expected one or more of equal"):
        wide.at(*wide.widths)


def test_calibration_and_scale(model):
    stream = live(model, normalise=True)
    found = stream.calibration[HOOKS[0]]
    assert found.threshold == pytest.approx(10 * found.median_norm)
    x = torch.cat([batch[HOOKS[0]] for batch in take(stream, 100)])
    assert x.norm(dim=1).mean().item() == pytest.approx(4.0, rel=0.05)  # the root of 16
    raw = torch.cat([batch[HOOKS[0]] for batch in take(live(model), 100)])
    assert torch.equal(raw * stream.scale(HOOKS[0]), x)
    torch.testing.assert_close(found.mean, raw.mean(dim=0), atol=0.1, rtol=0.1)
    assert live(model).scale(HOOKS[0]) == 1.0


def test_outliers_are_left_out_at_every_hook_point(tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "m", "gpt2"))
    with torch.no_grad():
        model.module("transformer.wpe").weight[0] += 500.0
    stream = live(model, DOCUMENTS[:40], epochs=1)
    threshold = stream.calibration[HOOKS[0]].threshold
    rows, lengths = [], []
    while (batch := next(stream, None)) is not None:
        rows.append(len(batch[HOOKS[1]]))
        lengths.append(batch[HOOKS[0]].norm(dim=1).max())
    everything = live(model, DOCUMENTS[:40], epochs=1, skip_norm_outliers=False)
    total = sum(len(batch[HOOKS[0]]) for batch in everything)
    n_contexts = len(stream.reader.first_contexts(10**6))
    assert sum(rows) == total - n_contexts
    assert max(lengths) <= threshold


def test_shuffle_is_as_good_as_the_ring_allows():
    """Company is (T - 1) B / (1.94 R), what a reservoir of R rows would give."""
    n_chunk, n_context, n_batch = 31 * 64, 62, 256
    ring = Ring({"a": 1}, chunk_rows=n_chunk, seed=0, dtype=torch.float32)
    given = []
    for chunk in range(120):
        row = torch.arange(chunk * n_chunk, (chunk + 1) * n_chunk)
        origin = torch.stack([row // n_context, row], dim=1)
        ring.add(chunk, {"a": row[:, None].float()}, origin)
        if chunk >= 15:
            given.append(ring.origin(ring.order()))
            ring.next_turn()
    batches = torch.cat(given).split(n_batch)
    expected = (n_context - 1) * n_batch / (WINDOW / 16 * ring.n_slots)
    settled = mixing(batches[40 * n_chunk // n_batch : -1])
    assert settled.company == pytest.approx(expected, rel=0.05)
    assert abs(settled.order) < 0.005
    # first batches are drawn at random from 16 chunks, later ones from 31
    first = mixing(batches[:8])
    assert first.company == pytest.approx(expected * WINDOW / 16, rel=0.15)
    assert abs(first.order) < 0.02


def test_a_stream_is_as_well_mixed_as_its_ring(model):
    documents = [" ".join(tiny_models.SENTENCES * 20)] * 8
    stream = live(model, documents, context_size=32, buffer_rows=4000, batch_size=128)
    origins = [stream.next_with_origin()[1] for _ in range(150)]
    later = mixing(origins[60:])
    # dealt out in equal shares, few rows of a chunk meet even less often than random ones
    assert 0.7 < later.company / (31 * 128 / (WINDOW / 16 * 4000)) < 1.2
    assert abs(later.order) < 0.02
    unshuffled = torch.cat(origins)
    unshuffled = unshuffled[unshuffled[:, 1].argsort()].split(128)
    assert mixing(unshuffled).company > 20 * later.company
    assert mixing(unshuffled).order > 0.9


def test_ring_never_grows_and_gives_each_row_once():
    ring = Ring({"a": 1}, chunk_rows=62, seed=0, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    given, n_rows, held = [], 0, []
    for chunk in range(120):
        n = int(torch.randint(40, 63, (), generator=generator))
        numbers = torch.arange(n_rows, n_rows + n)
        ring.add(chunk, {"a": numbers[:, None].float()}, torch.stack([numbers, numbers], dim=1))
        n_rows += n
        held.append(ring.n_rows)
        if chunk >= 15:
            slots = ring.order()
            assert torch.equal(ring.read("a", slots)[:, 0].long(), ring.origin(slots)[:, 0])
            given.append(ring.origin(slots)[:, 0])
            ring.next_turn()
    while ring.n_rows:
        given.append(ring.origin(ring.order())[:, 0])
        ring.next_turn()
    assert torch.equal(torch.cat(given).sort().values, torch.arange(n_rows))
    assert max(held) <= ring.n_slots == 16 * 62


def test_errors_of_the_thread_arrive(tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "m", "gpt2"))
    stream = live(model, [*tiny_models.text(5), "zzz"], skip_norm_outliers=False)
    with torch.no_grad():
        model.module("transformer.wte").weight[model.tokenizer("z")["input_ids"][0]] = torch.nan
    with pytest.raises(DataError, match=r"gave numbers that are not finite"):
        take(stream, 100)


def test_threads_end_with_their_streams(model):
    def running():
        return sum(thread.name == "activations" for thread in threading.enumerate())

    gc.collect()
    before = running()
    stream = live(model)
    next(stream)
    assert running() == before + 1
    stream.close()
    assert running() == before
    expected = next(live(model, background=False))
    assert equal([next(live(model))], [expected])
    gc.collect()
    assert running() == before
    items = Ahead(lambda: iter(range(3)))
    assert [*items, next(items, None)] == [0, 1, 2, None]


def test_a_replacement_in_another_thread_is_not_read(model):
    """Evaluation with an SAE spliced in must not leak into what is being trained on."""
    expected = take(live(model, background=False), 40)
    stream = live(model)
    found = []
    for _ in range(40):
        with model.replace(HOOKS[0], torch.zeros_like):
            model.hidden_states(torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4).bool())
        found.append(next(stream))
    assert equal(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hook_points": ()}, "expected one or more names"),
        ({"hook_points": (HOOKS[0], HOOKS[0])}, "each once"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"outlier_ratio": 1.0}, "outlier_ratio is 1.0"),
        ({"buffer_dtype": torch.int8}, "dtype is torch.int8"),
        ({"context_size": 65}, "context_size is 65, but neox reads at most 64"),
        ({"buffer_rows": 495}, "buffer_rows is 495; expected at least 496, so that 16 contexts"),
    ],
)
def test_impossible_settings(model, change, message):
    with pytest.raises(ConfigError, match=message):
        live(model, **change)


def test_what_cannot_be_streamed(model, minilm):
    with pytest.raises(DataError, match=r"a generator can be read only once"):
        live(model, iter(DOCUMENTS))
    with pytest.raises(HookError, match=r"no hook point `nowhere`"):
        live(model, hook_points=("nowhere",))
    with pytest.raises(ConfigError, match=r"BertModel looks in both directions"):
        live(minilm, hook_points=("encoder.layer.0",), pack=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "has seed 1 but the saved state has 0"),
        ({"batch_size": 32}, "has batch_size 32"),
        ({"buffer_rows": 3000}, "has chunk_rows"),
        ({"hook_points": HOOKS[:1]}, "has hook_points"),
        ({"model_batch_size": 8}, "has model_batch_size 8"),
    ],
)
def test_state_of_another_stream_is_refused(model, change, message):
    state = live(model).state_dict()
    with pytest.raises(ConfigError, match=message):
        live(model, **change).load_state_dict(state)


def test_state_of_another_model_or_text_is_refused(model, tiny):
    state = live(model).state_dict()
    with pytest.raises(ConfigError, match=r"has model \w+ but"):
        live(tiny("llama")).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"has text "):
        live(model, DOCUMENTS[1:]).load_state_dict(state)
