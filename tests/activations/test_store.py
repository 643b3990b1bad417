import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from latent_assay.activations import ActivationStore, LanguageModel, harvest
from latent_assay.errors import ConfigError, DataError, FormatError, ShapeError
from tests.activations import tiny_models

HOOK = "blocks.1.hook_resid_post"
DOCUMENTS = tiny_models.text(12)
SETTINGS = {"context_size": 20, "shard_tokens": 128, "progress": False}


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """A harvest of about 600 rows in several shards, not to be changed."""
    folder = tmp_path_factory.mktemp("harvest") / "h"
    harvest(
        tiny("llama"),
        DOCUMENTS,
        hook_points=[HOOK, "blocks.2.hook_mlp_out"],
        folder=folder,
        **SETTINGS,
    )
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """The same, free to be damaged."""
    return shutil.copytree(made, tmp_path / "copy")


def test_open(made, tiny):
    store = ActivationStore.open(made, HOOK)
    assert store.d_in == 16
    assert store.dtype == torch.float32
    assert store.n_rows == store.manifest["n_rows"] > 500
    assert len(store.manifest["shards"]) >= 4
    assert store.hook_point == HOOK
    x = store.rows(0, store.n_rows)
    assert x.shape == (store.n_rows, 16)
    store.check()


def test_statistics_are_those_of_all_rows(made):
    store = ActivationStore.open(made, HOOK)
    x = store.rows(0, store.n_rows).double()
    assert store.mean_norm == pytest.approx(x.norm(dim=1).mean().item(), rel=1e-9)
    torch.testing.assert_close(store.mean.double(), x.mean(dim=0), rtol=1e-5, atol=1e-6)
    assert store.normalising_scale == pytest.approx(math.sqrt(16) / store.mean_norm)
    part = store.part(100, 300)
    assert part.mean_norm == pytest.approx(x[100:300].norm(dim=1).mean().item(), rel=1e-9)
    torch.testing.assert_close(part.mean.double(), x[100:300].mean(dim=0), rtol=1e-5, atol=1e-6)
    scaled = torch.cat(list(store.stream(64, 0, epochs=1, scale=store.normalising_scale)))
    assert scaled.norm(dim=1).mean().item() == pytest.approx(4.0, rel=1e-4)


def test_rows_belong_to_their_tokens(made, tiny):
    """Every row, recomputed from the context and position that it says it comes from."""
    model = tiny("llama")
    store = ActivationStore.open(made, HOOK)
    seen = 0
    for x, context, position in store.in_order(100):
        for row, c, p in zip(x, context.tolist(), position.tolist(), strict=True):
            token_ids = store.context(c)
            if p == 1 and c % 5 == 0:
                mask = torch.ones(1, len(token_ids), dtype=torch.bool)
                again = model.capture(token_ids[None], mask, [HOOK])[HOOK][0, p]
                torch.testing.assert_close(row, again, rtol=1e-4, atol=1e-4)
                seen += 1
    assert seen >= 5


def test_in_order_is_the_natural_order(made):
    store = ActivationStore.open(made, HOOK)
    parts = list(store.in_order(77))
    assert [len(x) for x, _, _ in parts[:-1]] == [77] * (len(parts) - 1)
    assert torch.equal(torch.cat([x for x, _, _ in parts]), store.rows(0, store.n_rows))
    context = torch.cat([c for _, c, _ in parts])
    position = torch.cat([p for _, _, p in parts])
    key = context * 1000 + position
    assert (key.diff() > 0).all()
    assert position.min() == 1  # the BOS is left out
    assert context[-1] == store.n_contexts - 1
    part = store.part(50, 60)
    ((x, c, _),) = part.in_order(100)
    assert torch.equal(x, store.rows(50, 60))
    assert torch.equal(c, context[50:60])


def test_text_can_be_read_without_the_model(made):
    store = ActivationStore.open(made, HOOK)
    words = store.tokens_text(store.context(0))
    assert words[0] == "<s>"
    assert tiny_models.text(1)[0].startswith("".join(words[1:]))
    assert len(words) == len(store.context(0)) == 20


def test_split_is_at_a_context(made):
    store = ActivationStore.open(made, HOOK)
    train, held_out = store.split(0.25)
    assert train.n_rows + held_out.n_rows == store.n_rows
    assert abs(held_out.n_rows / store.n_rows - 0.25) < 0.05
    last = next(iter(train.in_order(10_000)))[1][-1]
    first = next(iter(held_out.in_order(10_000)))[1][0]
    assert first == last + 1
    assert torch.equal(held_out.rows(0, 5), store.rows(train.n_rows, train.n_rows + 5))
    with pytest.raises(ConfigError, match=r"held_out is 1.0"):
        store.split(1.0)
    with pytest.raises(ConfigError, match=r"leaves one part without"):
        store.part(0, 5).split(0.5)


def test_stream_of_a_harvest_is_a_permutation(made):
    store = ActivationStore.open(made, HOOK)
    expected = store.rows(0, store.n_rows)
    for shuffle_rows in (None, 300):
        x = torch.cat(list(store.stream(50, 3, epochs=1, shuffle_rows=shuffle_rows)))
        order = torch.cdist(x.double(), expected.double()).argmin(dim=1)
        assert sorted(order.tolist()) != order.tolist()
        assert torch.equal(x.sort(dim=0).values, expected.sort(dim=0).values)


@pytest.mark.parametrize(
    ("start", "stop", "method"), [(0, 10**6, "rows"), (-1, 5, "rows"), (5, 5, "part")]
)
def test_rows_out_of_range(made, start, stop, method):
    store = ActivationStore.open(made, HOOK)
    with pytest.raises(ConfigError, match=rf"{start} to {stop} was|were asked for"):
        getattr(store, method)(start, stop)
    with pytest.raises(DataError, match=f"contexts 0 to {store.n_contexts - 1}"):
        store.context(store.n_contexts)
    with pytest.raises(ConfigError, match=r"batch_size is 0"):
        next(store.in_order(0))


def test_hook_point_must_be_said_if_there_are_several(made):
    with pytest.raises(DataError, match=r"holds several hook points: `blocks.1.hook_resid_post`, "):
        ActivationStore.open(made)
    with pytest.raises(DataError, match=r"Did you mean `blocks.1.hook_resid_post`"):
        ActivationStore.open(made, "blocks.1.hook_resid_pst")


# --- damage ---------------------------------------------------------------------------------------


def shard(folder, number=1):
    return folder / HOOK / f"shard-{number:05d}.safetensors"


def test_truncated_shard(copy):
    content = shard(copy).read_bytes()
    shard(copy).write_bytes(content[:-100])
    with pytest.raises(
        FormatError, match=r"shard-00001.*has .* bytes; expected .*Delete that file"
    ):
        ActivationStore.open(copy, HOOK)
    shard(copy).unlink()
    with pytest.raises(FormatError, match=r"shard-00001.safetensors' is missing"):
        ActivationStore.open(copy, HOOK)


def test_corrupted_shard(copy):
    content = bytearray(shard(copy).read_bytes())
    content[-1000] ^= 0xFF
    shard(copy).write_bytes(content)
    store = ActivationStore.open(copy, HOOK)
    with pytest.raises(FormatError, match=r"the content of the shard .*shard-00001.*has changed"):
        store.check()
    content[:20] = b"\xff" * 20
    shard(copy).write_bytes(content)
    with pytest.raises(FormatError, match=r"shard-00001.* cannot be read as safetensors"):
        ActivationStore.open(copy, HOOK)
    shard(copy).write_bytes(bytes(reversed(content)))
    with pytest.raises(FormatError, match=r"shard-00001.* cannot be read as safetensors"):
        store.rows(0, store.n_rows)  # damaged since it was opened


def put(folder, source):
    """Another harvest's shard 1 in the place of this one's, with the size that is expected."""
    shutil.copy(shard(source), shard(folder))
    manifest = json.loads((folder / HOOK / "manifest.json").read_text())
    manifest["shards"][1]["bytes"] = shard(folder).stat().st_size
    (folder / HOOK / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": torch.float16}, r"its dtype is 'float16', expected 'float32'"),
        ({"context_size": 19}, r"its context_size is 19, expected 20"),
        ({"skip_special_tokens": False}, r"its skip_special_tokens is False, expected True"),
        ({"skip_norm_outliers": False}, r"its skip_norm_outliers is False, expected True"),
        ({"shuffle_seed": 3}, r"its shuffle_seed is 3, expected None"),
        ({"documents": tiny_models.text(19)}, r"its text is '\w+', expected '\w+'"),
        ({"retrained": True}, r"its model is '\w+', expected '\w+'"),
    ],
)
def test_shard_of_another_harvest_is_named_and_refused(copy, tiny, tmp_path, change, message):
    model = tiny("llama")
    settings = {"documents": DOCUMENTS, "hook_points": [HOOK], **SETTINGS} | change
    if settings.pop("retrained", False):
        model = LanguageModel.load(tiny_models.save(tmp_path / "other", "llama"))
        with torch.no_grad():
            model.module("model.embed_tokens").weight.mul_(1.01)
    harvest(model, folder=tmp_path / "theirs", **settings)
    put(copy, tmp_path / "theirs")
    with pytest.raises(FormatError, match=rf"shard-00001.*of another harvest: {message}.*Delete"):
        ActivationStore.open(copy, HOOK)


def test_shard_of_another_hook_point(copy):
    other = copy / "blocks.2.hook_mlp_out" / shard(copy).name
    shutil.copy(other, shard(copy))
    with pytest.raises(FormatError, match=r"shard-00001"):
        ActivationStore.open(copy, HOOK)


def test_shard_of_another_type_or_shape(copy):
    """The facts agree, but not the numbers."""
    tensors = load_file(shard(copy))
    with safe_open(shard(copy), "pt") as file:
        facts = file.metadata()
    n = len(tensors["activations"])
    for x, message in (
        (torch.zeros(n, 8), rf"type F32 and shape \[{n}, 8\]; expected F32 and \[{n}, 16\]"),
        (torch.zeros(n, 16).bfloat16(), r"type BF16 and shape"),
    ):
        save_file(tensors | {"activations": x}, copy / "new", facts)
        shutil.move(copy / "new", shard(copy))
        manifest = json.loads((copy / HOOK / "manifest.json").read_text())
        manifest["shards"][1]["bytes"] = shard(copy).stat().st_size
        (copy / HOOK / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(FormatError, match=rf"shard-00001.*{message}"):
            ActivationStore.open(copy, HOOK)


def test_store_of_another_model_is_refused(made, tiny):
    fingerprint = tiny("llama").fingerprint
    assert ActivationStore.open(made, HOOK, model=fingerprint).n_rows
    with pytest.raises(DataError, match=r"read from another model: from `llama` with fingerprint"):
        ActivationStore.open(made, HOOK, model=tiny("neox").fingerprint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(complete=False), "was not finished. Run the same harvest again"),
        (lambda m: m.update(version=99), "is of format version 99; this release reads 2"),
        (lambda m: m.update(format="other"), "is not the manifest of a harvest"),
        (lambda m: m.pop("folders"), "lacks folders"),
    ],
)
def test_manifest_that_cannot_be_used(copy, change, message):
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match=message):
        ActivationStore.open(copy, HOOK)


def test_files_missing_or_garbled(copy, tmp_path):
    with pytest.raises(FormatError, match=r"is not a harvest: it has no manifest.json"):
        ActivationStore.open(tmp_path / "nowhere")
    store = ActivationStore.open(copy, HOOK)
    (copy / "pieces.json").unlink()
    with pytest.raises(FormatError, match=r"pieces.json' cannot be read"):
        store.tokens_text([1])
    (copy / "contexts-00000.safetensors").unlink()
    with pytest.raises(FormatError, match=r"contexts-00000.safetensors' cannot be read"):
        store.context(0)
    manifest = json.loads((copy / HOOK / "manifest.json").read_text())
    del manifest["d_in"]
    (copy / HOOK / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match=r"lacks or garbles 'd_in'"):
        ActivationStore.open(copy, HOOK)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(FormatError, match=r"manifest.json' cannot be read"):
        ActivationStore.open(copy, HOOK)


# --- activations of one's own ---------------------------------------------------------------------


def test_own_tensor():
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    store = ActivationStore.from_tensor(x, hook_point="vit.layer.3")
    assert (store.n_rows, store.d_in, store.hook_point) == (30, 5, "vit.layer.3")
    assert torch.equal(store.rows(3, 9), x[3:9])
    torch.testing.assert_close(store.mean, x.mean(dim=0))
    ((_, context, position),) = store.in_order(100)
    assert context.tolist() == list(range(30))
    assert position.sum() == 0
    store.check()
    with pytest.raises(DataError, match=r"came without their text"):
        store.context(0)
    with pytest.raises(DataError, match=r"came without their text"):
        store.tokens_text([0])
    train, held_out = store.split(0.1)
    assert (train.n_rows, held_out.n_rows) == (27, 3)


def test_own_files(tmp_path):
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "x.npy", x.numpy())
    save_file({"x": x}, tmp_path / "one.safetensors")
    save_file({"x": x, "y": x + 1}, tmp_path / "two.safetensors")
    for store in (
        ActivationStore.from_file(tmp_path / "x.npy"),
        ActivationStore.from_file(tmp_path / "one.safetensors"),
        ActivationStore.from_file(tmp_path / "two.safetensors", tensor="x"),
    ):
        assert torch.equal(store.rows(0, 30), x)
        assert len(next(store.stream(8, 0))) == 8
    with pytest.raises(DataError, match=r"holds the tensors x, y; say which"):
        ActivationStore.from_file(tmp_path / "two.safetensors")
    with pytest.raises(DataError, match=r"`z` is not among them"):
        ActivationStore.from_file(tmp_path / "two.safetensors", tensor="z")


def test_own_files_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match=r"there is no file"):
        ActivationStore.from_file(tmp_path / "x.npy")
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(FormatError, match=r"neither .npy nor .safetensors"):
        ActivationStore.from_file(tmp_path / "x.csv")
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"cannot be read as .npy"):
        ActivationStore.from_file(tmp_path / "x.npy")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"cannot be read as .npy.*Python objects"):
        ActivationStore.from_file(tmp_path / "pickled.npy")
    np.save(tmp_path / "cube.npy", np.zeros((2, 3, 4), dtype=np.float32))
    with pytest.raises(ShapeError, match=r"has shape \[2, 3, 4\]; expected \[row, d_in\]"):
        ActivationStore.from_file(tmp_path / "cube.npy")
    np.save(tmp_path / "int.npy", np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(FormatError, match=r"holds int64; expected floating-point"):
        ActivationStore.from_file(tmp_path / "int.npy")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"cannot be read as safetensors"):
        ActivationStore.from_file(tmp_path / "x.safetensors")


def test_own_tensor_that_cannot_be_used():
    with pytest.raises(ShapeError, match=r"has shape \[0, 3\]; expected \[row, d_in\] with at"):
        ActivationStore.from_tensor(torch.zeros(0, 3))
    with pytest.raises(DataError, match=r"not finite"):
        ActivationStore.from_tensor(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(DataError, match=r"every activation at `given` is zero"):
        ActivationStore.from_tensor(torch.zeros(2, 3)).normalising_scale  # noqa: B018
