import importlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from latent_assay.activations import ActivationStore, LanguageModel, harvest
from latent_assay.activations.contexts import contexts
from latent_assay.activations.reading import read_contexts
from latent_assay.errors import ConfigError, DataError, HookError, StorageError
from tests.activations import tiny_models

HOOK = "blocks.1.hook_resid_post"
SETTINGS = {"context_size": 20, "shard_tokens": 128, "progress": False}


@pytest.fixture
def model(tiny):
    return tiny("gpt2")


def test_minilm_rows_are_its_hidden_states(minilm, tmp_path):
    """The whole way, against transformers alone: one document at a time, no padding, no shards."""
    documents = tiny_models.text(6)
    name = "blocks.2.hook_resid_post"
    store = harvest(
        minilm, documents, hook_points=name, folder=tmp_path / "h", context_size=512, progress=False
    )[name]
    row = 0
    for index, document in enumerate(documents):
        encoded = minilm.tokenizer(document, return_tensors="pt")
        hidden = minilm.model(**encoded, output_hidden_states=True).hidden_states[3][0, 1:-1]
        found = store.rows(row, row + len(hidden))
        torch.testing.assert_close(found, hidden, rtol=1e-4, atol=1e-4)
        assert store.context(index).tolist() == encoded["input_ids"][0].tolist()
        row += len(hidden)
    assert row == store.n_rows


def test_order_of_rows_does_not_show_the_batches(model, tmp_path):
    documents = tiny_models.text(15)
    stores = [
        harvest(
            model, documents, hook_points=HOOK, folder=tmp_path / str(size), batch_size=size,
            **SETTINGS,
        )[HOOK]
        for size in (1, 4, 100)
    ]  # fmt: skip
    for store in stores[1:]:
        for (x, *where), (y, *there) in zip(
            store.in_order(200), stores[0].in_order(200), strict=True
        ):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
            assert all(torch.equal(a, b) for a, b in zip(where, there, strict=True))


def test_special_tokens_are_left_out_unless_wanted(minilm, tmp_path):
    documents = ["Hello world.", "One more."]
    name = "encoder.layer.0"
    store = harvest(
        minilm, documents, hook_points=name, folder=tmp_path / "a", progress=False
    )[name]  # fmt: skip
    ((_, context, position),) = store.in_order(100)
    tokens = [int(store.context(c)[p]) for c, p in zip(context.tolist(), position, strict=True)]
    assert minilm.tokenizer.decode(tokens) == "hello world. one more."
    assert store.manifest["special_tokens"] == {"left_out": True, "n_special": 4}
    with_special = harvest(
        minilm,
        documents,
        hook_points=name,
        folder=tmp_path / "b",
        skip_special_tokens=False,
        progress=False,
    )[name]
    assert with_special.n_rows == store.n_rows + 4
    assert with_special.manifest["special_tokens"]["left_out"] is False


def test_outliers_are_left_out_and_counted(tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "m", "gpt2"))
    weights = model.module("transformer.wpe").weight
    with torch.no_grad():
        weights[0] += 500.0  # every text's first token becomes a sink
    settings = {"hook_points": HOOK, **SETTINGS}
    documents = tiny_models.text(12)
    store = harvest(model, documents, folder=tmp_path / "a", **settings)[HOOK]
    everything = harvest(
        model, documents, folder=tmp_path / "b", skip_norm_outliers=False, **settings
    )[HOOK]
    notes = store.manifest["norm_outliers"]
    assert notes["n_outliers"] == store.n_contexts == everything.n_rows - store.n_rows
    assert notes["threshold"] == pytest.approx(10 * notes["median_norm"])
    assert everything.manifest["norm_outliers"] == {
        "left_out": False,
        "n_outliers": 0,
        "median_norm": pytest.approx(notes["median_norm"]),
        "threshold": None,
    }
    positions = torch.cat([p for _, _, p in store.in_order(500)])
    assert positions.min() == 1
    assert store.rows(0, store.n_rows).norm(dim=1).max() < notes["threshold"]
    assert everything.rows(0, everything.n_rows).norm(dim=1).max() > notes["threshold"]
    gentle = harvest(model, documents, folder=tmp_path / "c", outlier_ratio=1e6, **settings)[HOOK]
    assert gentle.n_rows == everything.n_rows


def test_several_hook_points_equal_one_by_one(model, tmp_path):
    names = [HOOK, "blocks.0.hook_mlp_out", "transformer.h.1.mlp:input"]
    documents = tiny_models.text(8)
    together = harvest(model, documents, hook_points=names, folder=tmp_path / "all", **SETTINGS)
    for i, name in enumerate(names):
        alone = harvest(
            model, documents, hook_points=name, folder=tmp_path / str(i), **SETTINGS
        )[name]  # fmt: skip
        assert torch.equal(alone.rows(0, alone.n_rows), together[name].rows(0, alone.n_rows))
        assert ActivationStore.open(tmp_path / "all", name).n_rows == alone.n_rows


def test_manifest_tells_everything(model, tmp_path):
    store = harvest(
        model, tiny_models.text(8), hook_points=HOOK, folder=tmp_path / "h", n_tokens=150,
        dtype=torch.float16, **SETTINGS,
    )[HOOK]  # fmt: skip
    manifest = json.loads((tmp_path / "h" / HOOK / "manifest.json").read_text())
    assert manifest == store.manifest
    assert manifest["request"]["model"] == {"name": "gpt2", "fingerprint": model.fingerprint}
    assert manifest["request"]["text"]["kind"] == "python"
    assert len(manifest["request"]["text"]["hash"]) == 32
    assert manifest["n_tokens"] == 150
    assert manifest["reads"] == "the output of transformer.h.1"
    assert manifest["verification"]["compared_with"] == "hidden_states[2]"
    assert manifest["verification"]["max_abs_difference"] == 0.0
    assert manifest["dtype"] == "float16"
    assert {"python", "torch", "transformers"} <= set(manifest["libraries"])
    assert manifest["mean_norm"] == pytest.approx(store.mean_norm)
    assert store.dtype == torch.float16
    assert store.stream(4, 0).__next__().dtype == torch.float32
    assert str(tmp_path) not in json.dumps(manifest)


class Killed(BaseException):
    """As Ctrl-C or a signal would: nothing catches it."""


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_interrupted_harvest_ends_as_if_it_had_not(model, tmp_path, monkeypatch, after):
    names = [HOOK, "blocks.2.hook_resid_pre"]
    documents = tiny_models.text(15)
    settings = {"hook_points": names, "batch_size": 3, **SETTINGS}
    whole = harvest(model, documents, folder=tmp_path / "whole", **settings)

    calls = 0
    capture = LanguageModel.capture
    plan = importlib.import_module("latent_assay.activations.plan")
    monkeypatch.setattr(plan, "_WARM_UP", 0.0)
    n_measured = 1  # pass for the plan

    def dying(self, token_ids, mask, hook_points):
        nonlocal calls
        calls += len(token_ids) > 1 and tuple(hook_points) == tuple(names)
        if calls > after + n_measured:
            raise Killed
        return capture(self, token_ids, mask, hook_points)

    with monkeypatch.context() as patched:
        patched.setattr(LanguageModel, "capture", dying)
        with pytest.raises(Killed):
            harvest(model, documents, folder=tmp_path / "killed", **settings)
    n_done = len(list((tmp_path / "killed").glob("contexts-*")))
    assert n_done == {0: 0, 1: 0, 5: 2, 9: 4}[after]
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "killed").rglob("shard-*.safetensors")}

    again = harvest(model, documents, folder=tmp_path / "killed", **settings)
    for path, time in kept.items():
        assert path.stat().st_mtime_ns == time  # what was complete was not computed anew
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file():
            other = tmp_path / "killed" / path.relative_to(tmp_path / "whole")
            assert path.read_bytes() == other.read_bytes(), path.name
    assert again[HOOK].n_rows == whole[HOOK].n_rows


def test_crash_between_the_files_of_one_shard(model, tmp_path, monkeypatch):
    module = importlib.import_module("latent_assay.activations.harvest_job")
    names = [HOOK, "blocks.2.hook_resid_pre"]
    settings = {"hook_points": names, **SETTINGS}
    documents = tiny_models.text(8)
    whole = harvest(model, documents, folder=tmp_path / "whole", **settings)
    write = module.write_tensors

    def dying(path, *rest):
        if path.parent.name == names[1] and path.name == "shard-00001.safetensors":
            raise Killed
        write(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_tensors", dying)
        with pytest.raises(Killed):
            harvest(model, documents, folder=tmp_path / "killed", **settings)
    assert (tmp_path / "killed" / HOOK / "shard-00001.safetensors").exists()
    again = harvest(model, documents, folder=tmp_path / "killed", **settings)
    for name in names:
        n = whole[name].n_rows
        assert torch.equal(again[name].rows(0, n), whole[name].rows(0, n))


def test_finished_harvest_is_opened_at_once(model, tmp_path, monkeypatch):
    documents = tiny_models.text(8)
    settings = {"hook_points": HOOK, "folder": tmp_path / "h", **SETTINGS}
    first = harvest(model, documents, **settings)[HOOK]

    def never(*_, **__):
        raise AssertionError("the model was run")

    model.d_in(HOOK)
    monkeypatch.setattr(LanguageModel, "_forward", never)
    again = harvest(model, documents, **settings)[HOOK]
    assert torch.equal(again.rows(0, again.n_rows), first.rows(0, first.n_rows))
    with pytest.raises(DataError, match=r"text hash is '.*', asked for was"):
        harvest(model, documents[1:], **settings)


@pytest.mark.parametrize("damage", ["shard", "missing shard", "contexts", "pieces"])
def test_what_is_damaged_is_made_again(model, tmp_path, damage):
    documents = tiny_models.text(8)
    settings = {"hook_points": HOOK, "folder": tmp_path / "h", **SETTINGS}
    harvest(model, documents, **settings)
    path = {
        "shard": tmp_path / "h" / HOOK / "shard-00001.safetensors",
        "missing shard": tmp_path / "h" / HOOK / "shard-00000.safetensors",
        "contexts": tmp_path / "h/contexts-00001.safetensors",
        "pieces": tmp_path / "h/pieces.json",
    }[damage]
    before = path.read_bytes()
    if damage in ("shard", "contexts"):
        path.write_bytes(before[:50])
    else:
        path.unlink()
    store = harvest(model, documents, **settings)[HOOK]
    assert path.read_bytes() == before
    store.check()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"context_size": 21}, "context_size is 20, asked for was 21"),
        (
            {"hook_points": "blocks.0.hook_resid_pre"},
            r"hook_points is \['blocks.1.hook_resid_post'",
        ),
        ({"dtype": torch.float16}, "dtype is 'float32', asked for was 'float16'"),
        ({"n_tokens": 99}, "n_tokens is None, asked for was 99"),
        ({"skip_special_tokens": False}, "skip_special_tokens is True"),
        ({"skip_norm_outliers": False}, "skip_norm_outliers is True"),
        ({"outlier_ratio": 5.0}, "outlier_ratio is 10.0, asked for was 5.0"),
        ({"shard_tokens": 64}, "shard_tokens is 128"),
        ({"pack": True}, "pack is False, asked for was True"),
    ],
)
def test_another_harvest_is_never_taken_for_this_one(model, tmp_path, change, field):
    settings = {"hook_points": HOOK, "folder": tmp_path / "h", **SETTINGS}
    harvest(model, tiny_models.text(2), **settings)
    with pytest.raises(DataError, match=f"holds another harvest: its {field}"):
        harvest(model, tiny_models.text(2), **(settings | change))


def test_another_model_or_text_is_never_taken_for_this_one(model, tiny, tmp_path):
    settings = {"hook_points": HOOK, "folder": tmp_path / "h", **SETTINGS}
    harvest(model, iter(tiny_models.text(8)), **settings)
    with pytest.raises(DataError, match=r"its model fingerprint is"):
        harvest(tiny("neox"), iter(tiny_models.text(8)), **settings)
    harvest(model, iter(tiny_models.text(8)), **settings)
    # an iterator has no hash, so the contexts themselves are compared
    with pytest.raises(DataError, match=r"the text has changed"):
        harvest(model, iter(tiny_models.text(8)[1:]), **settings)
    manifest = json.loads((tmp_path / "h/manifest.json").read_text())
    (tmp_path / "h/manifest.json").write_text(json.dumps(manifest | {"complete": False}))
    with pytest.raises(DataError, match=r"the text has changed.*contexts-00005"):
        harvest(model, iter([*tiny_models.text(8)[:5], "other"]), **settings)


def test_the_place_of_model_and_text_does_not_count(tmp_path):
    settings = {"hook_points": HOOK, "folder": tmp_path / "h", **SETTINGS}
    for place in ("here", "there"):
        folder = tiny_models.save(tmp_path / place / place, "gpt2")
        (tmp_path / place / f"{place}.txt").write_text("\n".join(tiny_models.SENTENCES))
        store = harvest(LanguageModel.load(folder), tmp_path / place / f"{place}.txt", **settings)
    assert store[HOOK].manifest["request"]["model"]["name"] == "here"


def test_number_of_tokens(model, tmp_path, capsys):
    for n_tokens in (1, 130, 200):
        store = harvest(
            model, tiny_models.text(15), hook_points=HOOK, folder=tmp_path / str(n_tokens),
            n_tokens=n_tokens, skip_norm_outliers=False, **SETTINGS,
        )[HOOK]  # fmt: skip
        assert store.n_rows == n_tokens
    store = harvest(
        model, tiny_models.text(2), hook_points=HOOK, folder=tmp_path / "all",
        n_tokens=10**4, context_size=20,
    )[HOOK]  # fmt: skip
    shown = capsys.readouterr().err
    assert f"the text ended after {store.manifest['n_tokens']} of 10,000 tokens" in shown
    assert "token/s" in shown


def test_shuffled_shards_hold_the_same_rows(model, tmp_path):
    settings = {"hook_points": HOOK, "dtype": torch.bfloat16, **SETTINGS}
    documents = tiny_models.text(15)
    plain = harvest(model, documents, folder=tmp_path / "a", **settings)[HOOK]
    mixed = harvest(model, documents, folder=tmp_path / "b", shuffle_seed=5, **settings)[HOOK]
    assert mixed.dtype == torch.bfloat16
    assert mixed.n_rows == plain.n_rows
    ((x, *place),) = plain.in_order(10**4)
    ((y, *there),) = mixed.in_order(10**4)
    key, other = (100 * context + position for context, position in (place, there))
    assert not torch.equal(key, other)
    order = other.argsort()
    assert torch.equal(other[order], key)
    assert torch.equal(y[order], x)
    assert mixed.mean_norm == pytest.approx(plain.mean_norm)
    first = mixed.manifest["shards"][0]["n_rows"]
    assert sorted(other[:first].tolist()) == key[:first].tolist()  # shuffled within each shard
    again = harvest(model, documents, folder=tmp_path / "c", shuffle_seed=5, **settings)[HOOK]
    for path in (tmp_path / "b").rglob("*.safetensors"):
        twin = tmp_path / "c" / path.relative_to(tmp_path / "b")
        assert path.read_bytes() == twin.read_bytes()
    train, rest = again.split(0.3)
    contexts_of = [
        {int(c) for _, context, _ in part.in_order(99) for c in context} for part in (train, rest)
    ]
    assert not contexts_of[0] & contexts_of[1]
    assert train.n_rows + rest.n_rows == again.n_rows
    with pytest.raises(ConfigError, match=r"without a whole shard. Harvest more text, in smaller"):
        again.part(0, first).split(0.3)
    with pytest.raises(ConfigError, match=r"shuffle_seed is -1"):
        harvest(model, documents, folder=tmp_path / "d", shuffle_seed=-1, **settings)


def test_outliers_are_named_in_the_shards(tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "m", "gpt2"))
    with torch.no_grad():
        model.module("transformer.wpe").weight[0] += 500.0
    harvest(model, tiny_models.text(6), hook_points=HOOK, folder=tmp_path / "h", **SETTINGS)
    tensors = load_file(tmp_path / "h" / HOOK / "shard-00000.safetensors")
    assert tensors["outlier_position"].tolist() == [0] * len(tensors["outlier_context"])
    assert tensors["outlier_context"].tolist() == sorted(set(tensors["context"].tolist()))


def test_a_foreign_shard_is_made_again(model, tmp_path):
    settings = {"hook_points": HOOK, **SETTINGS}
    harvest(model, tiny_models.text(8), folder=tmp_path / "h", **settings)
    harvest(model, tiny_models.text(8), folder=tmp_path / "x", dtype=torch.float16, **settings)
    name = f"{HOOK}/shard-00001.safetensors"
    before = (tmp_path / "h" / name).read_bytes()
    shutil.copy(tmp_path / "x" / name, tmp_path / "h" / name)
    harvest(model, tiny_models.text(8), folder=tmp_path / "h", **settings)
    assert (tmp_path / "h" / name).read_bytes() == before


def test_packed_contexts_are_full(model, tmp_path):
    store = harvest(
        model, tiny_models.text(8), hook_points=HOOK, folder=tmp_path / "h", pack=True, **SETTINGS
    )[HOOK]
    lengths = [len(store.context(i)) for i in range(store.n_contexts)]
    assert set(lengths[:-1]) == {20}


def test_numbers_that_are_not_finite(tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "m", "gpt2"))
    with torch.no_grad():
        model.module("transformer.wte").weight[5:] *= 1e5
    harvest(model, tiny_models.text(2), hook_points=HOOK, folder=tmp_path / "a", **SETTINGS)
    with pytest.raises(DataError, match=r"not finite in float16. Keep the activations in float32"):
        harvest(
            model, tiny_models.text(2), hook_points=HOOK, folder=tmp_path / "b",
            dtype=torch.float16, **SETTINGS,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"hook_points": []}, ConfigError, "expected one or more names"),
        ({"hook_points": [HOOK, HOOK]}, ConfigError, "each once"),
        ({"hook_points": "nowhere"}, HookError, "has no hook point `nowhere`"),
        ({"context_size": 65}, ConfigError, "context_size is 65, but gpt2 reads at most 64"),
        ({"batch_size": 0}, ConfigError, "batch_size is 0"),
        ({"shard_tokens": 0}, ConfigError, "shard_tokens is 0"),
        ({"outlier_ratio": 1.0}, ConfigError, "outlier_ratio is 1.0"),
        ({"dtype": torch.int8}, ConfigError, "dtype is torch.int8"),
        ({"n_tokens": 0}, ConfigError, "n_tokens is 0"),
    ],
)
def test_impossible_settings(model, tmp_path, change, error, message):
    settings = {"hook_points": HOOK, "folder": tmp_path / "h", **SETTINGS} | change
    with pytest.raises(error, match=message):
        harvest(model, ["text"], **settings)


def test_encoders_are_not_packed(minilm, tmp_path):
    with pytest.raises(ConfigError, match=r"BertModel looks in both directions.*Leave `pack` off"):
        harvest(minilm, ["a"], hook_points="encoder.layer.0", folder=tmp_path / "h", pack=True)


def test_places_that_cannot_be_used(model, tmp_path, monkeypatch):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("do not touch")
    with pytest.raises(DataError, match=r"holds other files and no harvest"):
        harvest(model, ["a"], hook_points=HOOK, folder=tmp_path / "notes", **SETTINGS)
    assert (tmp_path / "notes/mine.txt").read_text() == "do not touch"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(StorageError, match=r"needs about .* GB free|Harvest fewer tokens"):
        harvest(
            model, ["a"], hook_points=HOOK, folder=tmp_path / "full", n_tokens=10**6, **SETTINGS
        )


def test_a_misread_hook_point_stops_the_harvest(tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "m", "gpt2"))
    model.module("transformer.h.1").register_forward_hook(lambda _, __, output: output * 2)
    with pytest.raises(HookError, match=r"`blocks.1.hook_mlp_out` does not read"):
        harvest(
            model, ["a"], hook_points="blocks.1.hook_mlp_out", folder=tmp_path / "h", **SETTINGS
        )
    assert not (tmp_path / "h").exists()


def test_reading_contexts_in_memory(model):
    group = list(contexts(model.tokenizer, tiny_models.text(5), context_size=16))
    rows, context, position = read_contexts(model, group, [HOOK], batch_size=2)
    assert len(rows[HOOK]) == len(context) == len(position)
    assert len(context) == sum(piece.n_text_tokens for piece in group)
    token_ids = torch.tensor(group[3].token_ids)[None]
    alone = model.capture(token_ids, torch.ones_like(token_ids), [HOOK])[HOOK][0]
    torch.testing.assert_close(rows[HOOK][context == 3], alone, rtol=1e-4, atol=1e-4)
    assert position[context == 3].tolist() == list(range(len(alone)))
