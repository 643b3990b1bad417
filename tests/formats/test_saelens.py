"""Files in the SAELens layout: what is written, what is read, what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from latent_assay import recipes
from latent_assay.errors import ConfigError, FormatError, StorageError
from latent_assay.formats import describe, load, read_config, save
from latent_assay.kernels import Selection
from latent_assay.sae import SAE
from latent_assay.sparsifiers import (
    BatchTopK,
    Identity,
    JumpReLU,
    ReLU,
    Sparsifier,
    TopK,
)

D, W = 4, 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = draw(32, D, seed=9)


def trained(k: object, members: int) -> BatchTopK:
    sparsifier = BatchTopK(k, members)
    sparsifier(draw(members, 8, W))
    return sparsifier


KINDS = {
    "relu": lambda members: ReLU(),
    "identity": lambda members: Identity(),
    "jumprelu": lambda members: JumpReLU(draw(members, W, seed=5).abs(), bandwidth=0.25),
    "topk": lambda members: TopK([2, 3, 1][:members]),
    "batchtopk": lambda members: trained([2, 3, 1.5][:members], members),
}


def make(kind: str = "relu", members: int = 1, tied: bool = False, **changes: object) -> SAE:
    return SAE(
        draw(members, W, D, seed=1),
        None if tied else draw(members, W, D, seed=2),
        b_enc=draw(members, W, seed=3),
        b_dec=draw(members, D, seed=4),
        sparsifier=KINDS[kind](members),
        **changes,
    )


def edit(folder: Path, **values: object) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    for name, value in values.items():
        if value is ...:
            del config[name]
        else:
            config[name] = value
    (folder / "cfg.json").write_text(json.dumps(config))


def edit_tensors(folder: Path, **values: object) -> None:
    tensors = load_file(folder / "sae_weights.safetensors")
    for name, value in values.items():
        if value is ...:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, folder / "sae_weights.safetensors")


@pytest.fixture
def saved(tmp_path) -> Path:
    save(make(), tmp_path / "sae")
    return tmp_path / "sae"


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        ("relu", "standard"),
        ("jumprelu", "jumprelu"),
        ("batchtopk", "jumprelu"),
        ("topk", "topk"),
        ("identity", "abstopk"),
    ],
)
def test_the_layout(kind, architecture, tmp_path):
    sae = make(kind)
    save(sae, tmp_path / "sae", {"model_name": "m", "hook_name": "h"})
    assert {path.name for path in (tmp_path / "sae").iterdir()} == {
        "cfg.json",
        "sae_weights.safetensors",
    }
    config = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    assert config["architecture"] == architecture
    assert (config["d_in"], config["d_sae"], config["dtype"]) == (D, W, "float32")
    assert config["normalize_activations"] == "none"
    assert config["apply_b_dec_to_input"] is True
    assert config["metadata"]["model_name"] == "m"
    k = {"topk": 2, "identity": W}  # of as many as there are, all fire, with their signs
    assert config.get("k") == k.get(kind)
    assert config.get("rescale_acts_by_decoder_norm", False) is False
    tensors = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    thresholds = {"threshold": [W]} if architecture == "jumprelu" else {}
    assert shapes == {"W_enc": [D, W], "W_dec": [W, D], "b_enc": [W], "b_dec": [D]} | thresholds


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_files_mean_what_the_layout_says(kind, tmp_path):
    """Another tool's reader, written out: x → z → x_hat from the files alone."""
    sae = make(kind)
    save(sae, tmp_path / "sae")
    t = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    pre = (X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    z = {
        "relu": lambda: pre.relu(),
        "identity": lambda: pre,
        "jumprelu": lambda: pre.relu() * (pre > t["threshold"]),
        "batchtopk": lambda: pre.relu() * (pre > t["threshold"]),
        "topk": lambda: pre.relu() * (pre >= pre.topk(2).values[:, 1:]),
    }[kind]()
    sae.eval()
    torch.testing.assert_close(sae.encode(X)[0], z)
    torch.testing.assert_close(sae(X)[0], z @ t["W_dec"] + t["b_dec"])


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("tied", [False, True])
def test_round_trip(kind, members, tied, tmp_path):
    sae = make(kind, members, tied, frozen=("b_dec",), decoder_norm="unit", subtract_b_dec=False)
    save(sae, tmp_path / "sae")
    again = load(tmp_path / "sae")
    sae.eval()
    with torch.no_grad():
        assert torch.equal(again.encode(X), sae.encode(X))
        assert torch.equal(again(X), sae(X))
    assert not again.training
    assert (again.tied, again.frozen, again.decoder_norm) == (tied, ("b_dec",), "unit")
    assert again.subtract_b_dec is False
    if kind == "jumprelu":
        assert again.sparsifier.bandwidth == 0.25
    if kind == "topk":
        assert again.sparsifier.k.tolist() == [2, 3, 1][:members]


def test_members_lie_in_folders_of_their_own(tmp_path):
    sae = make("jumprelu", 3, widths=(6, 2, 4))
    save(sae, tmp_path / "sae")
    names = sorted(path.name for path in (tmp_path / "sae").iterdir())
    assert names == ["member_000", "member_001", "member_002"]
    again = load(tmp_path / "sae")
    assert again.widths == (6, 2, 4)
    with torch.no_grad():
        torch.testing.assert_close(again(X), sae(X))
        # each is an SAE that other tools can read
        for member, name in enumerate(names):
            alone = load(tmp_path / "sae" / name)
            assert alone.width == (6, 2, 4)[member]
            torch.testing.assert_close(alone(X)[0], sae(X)[member])
    assert [config["d_sae"] for config in read_config(tmp_path / "sae")] == [6, 2, 4]


def test_the_order_of_a_thousand_members(tmp_path):
    """member_999 comes before member_1000."""
    for number in (2, 1000, 999):
        sae = make()
        with torch.no_grad():
            sae.b_dec.fill_(number)
        save(sae, tmp_path / "sae" / f"member_{number:03d}")
    assert load(tmp_path / "sae").b_dec[:, 0].tolist() == [2.0, 999.0, 1000.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_other_types(dtype, kind, tmp_path):
    sae = make(kind).to(dtype)
    save(sae, tmp_path / "sae")
    tensors = load_file(tmp_path / "sae" / "sae_weights.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    again = load(tmp_path / "sae")
    assert again.W_enc.dtype == dtype
    sae.eval()
    with torch.no_grad():
        assert torch.equal(again.encode(X.to(dtype)), sae.encode(X.to(dtype)))


def test_a_large_k_survives_bfloat16(tmp_path):
    sae = SAE(draw(1, 300, D).bfloat16(), sparsifier=TopK(257))
    save(sae, tmp_path / "sae")
    assert load(tmp_path / "sae").sparsifier.k.tolist() == [257]


def test_saving_replaces_and_changes_nothing_in_memory(tmp_path):
    save(make("topk", 3), tmp_path / "sae")
    sae = make("batchtopk")
    before = {name: each.clone() for name, each in sae.state_dict().items()}
    save(sae, tmp_path / "sae")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "cfg.json",
        "sae_weights.safetensors",
    ]
    assert sae.training
    assert isinstance(sae.sparsifier, BatchTopK)
    assert all(torch.equal(before[name], each) for name, each in sae.state_dict().items())


def test_weights_laid_out_otherwise_in_memory(tmp_path):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(1, 50, 4, generator=generator).mT  # as an oracle's, or an expanded tensor's
    sae = SAE(W, W.flip(1).mT.contiguous().mT, sparsifier=ReLU())
    assert sae.W_enc.is_contiguous()
    assert sae.W_dec.is_contiguous()
    save(sae, tmp_path / "sae")
    assert torch.equal(load(tmp_path / "sae").W_enc, W)


def test_metadata(tmp_path):
    metadata = {"hook_name": "blocks.0", "lr": 1e-3, "seeds": (0, 1), "odd": math.nan, "é": None}
    save(make(), tmp_path / "sae", metadata)
    (config,) = read_config(tmp_path / "sae")
    own = config["metadata"].pop("latent_assay")
    # without a version of its own from 6 on, SAELens would drop all this
    versions = {"sae_lens_version": "6.0.0", "sae_lens_training_version": None}
    assert config["metadata"] == versions | metadata | {"seeds": [0, 1], "odd": "nan"}
    assert own == {"tied": False, "frozen": [], "decoder_norm": "free", "sparsifier": {}}


@pytest.mark.parametrize("metadata", [{"x": draw(2)}, {"x": Path("y")}, {"x": {1, 2}}])
def test_metadata_that_json_cannot_hold(metadata, saved):
    before = (saved / "cfg.json").read_bytes()
    with pytest.raises(ConfigError, match="metadata must be a dictionary of what JSON can hold"):
        save(make(), saved, metadata)
    assert (saved / "cfg.json").read_bytes() == before


# ---------------------------------------------------------------- what is not written


def test_an_untrained_batchtopk_is_not_saved(saved):
    sae = SAE(draw(1, W, D), sparsifier=BatchTopK(2))
    with pytest.raises(ConfigError, match="has no threshold yet"):
        save(sae, saved)
    assert load(saved).width == W


def test_weights_that_diverged_are_not_saved(saved):
    sae = make()
    with torch.no_grad():
        sae.W_dec[0, 0, 0] = math.nan
    with pytest.raises(FormatError, match=r"`W_dec` in .* must hold finite numbers"):
        save(sae, saved)
    assert load(saved).W_dec.isfinite().all()


class Absolute(Sparsifier):
    """Of the user's own making."""

    name = "absolute"

    def forward(self, pre: Tensor, weight: Tensor | None = None) -> Tensor:
        return pre.abs()

    def select(self, pre: Tensor, weight: Tensor | None = None) -> Selection | None:
        return None


class Positive(Absolute):
    def exported(self, width: int) -> Sparsifier:
        return ReLU()


def test_a_sparsifier_that_the_layout_does_not_know(tmp_path):
    with pytest.raises(FormatError, match="no word for the sparsifier Absolute; it knows ReLU"):
        save(SAE(draw(1, W, D), sparsifier=Absolute()), tmp_path / "sae")
    assert not (tmp_path / "sae").exists()
    save(SAE(draw(1, W, D), sparsifier=Positive()), tmp_path / "sae")
    assert isinstance(load(tmp_path / "sae").sparsifier, ReLU)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "sae").write_text("keep me")
    with pytest.raises(StorageError, match="found a file"):
        save(make(), tmp_path / "sae")
    assert (tmp_path / "sae").read_text() == "keep me"


def test_what_does_not_read_back_is_not_kept(saved, monkeypatch):
    """The last line of defence: compare before replacing."""
    from latent_assay.formats.saelens import writer

    before = (saved / "sae_weights.safetensors").read_bytes()
    write = writer.write_tensors

    def wrong(target: Path, tensors: dict[str, Tensor]) -> None:
        write(target, tensors | {"b_enc": tensors["b_enc"] + 1})

    monkeypatch.setattr(writer, "write_tensors", wrong)
    with pytest.raises(
        FormatError, match="does not reproduce the one in memory, so nothing was wr"
    ):
        save(make(), saved)
    assert (saved / "sae_weights.safetensors").read_bytes() == before


# ---------------------------------------------------------------- what others wrote


def write_foreign(folder: Path, config: dict, **tensors: Tensor) -> Path:
    folder.mkdir()
    base = {"d_in": D, "d_sae": W, "dtype": "float32", "device": "cuda"}
    (folder / "cfg.json").write_text(json.dumps(base | config))
    own = {
        "W_enc": draw(D, W, seed=1),
        "W_dec": draw(W, D, seed=2),
        "b_enc": draw(W, seed=3),
        "b_dec": draw(D, seed=4),
    }
    save_file(own | tensors, folder / "sae_weights.safetensors")
    return folder


def test_without_metadata(tmp_path):
    folder = write_foreign(tmp_path / "sae", {"architecture": "standard"})
    sae = load(folder)
    assert not sae.tied
    assert sae.frozen == ()
    t = load_file(folder / "sae_weights.safetensors")
    z = ((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    torch.testing.assert_close(sae(X)[0], z @ t["W_dec"] + t["b_dec"])


@pytest.mark.parametrize("k", [1, 3])
def test_selection_by_length_times_activation(k, tmp_path):
    """rescale_acts_by_decoder_norm, as SAELens computes it, against the folded weights."""
    folder = write_foreign(
        tmp_path / "sae",
        {
            "architecture": "topk",
            "k": k,
            "rescale_acts_by_decoder_norm": True,
            "apply_b_dec_to_input": False,
        },
    )
    t = load_file(folder / "sae_weights.safetensors")
    length = t["W_dec"].norm(dim=-1)
    pre = (X @ t["W_enc"] + t["b_enc"]) * length
    z = pre.relu() * (pre >= pre.topk(k).values[:, -1:])
    x_hat = (z / length) @ t["W_dec"] + t["b_dec"]
    sae = load(folder)
    torch.testing.assert_close(sae.encode(X)[0], z)
    torch.testing.assert_close(sae(X)[0], x_hat)
    torch.testing.assert_close(sae.W_dec[0].detach().norm(dim=-1), torch.ones(W))
    # not the same as without
    edit(folder, rescale_acts_by_decoder_norm=False)
    assert not torch.allclose(load(folder)(X)[0], x_hat)


def test_a_negative_threshold_is_one_of_zero(tmp_path):
    """SAELens takes max(pre, 0) before it looks at the threshold."""
    threshold = draw(W, seed=7)
    folder = write_foreign(tmp_path / "sae", {"architecture": "jumprelu"}, threshold=threshold)
    t = load_file(folder / "sae_weights.safetensors")
    pre = (X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    assert (threshold < 0).any()
    torch.testing.assert_close(load(folder).encode(X)[0], pre.relu() * (pre > threshold))


@pytest.mark.parametrize("word", ["torch.float32", "float32"])
def test_the_type_may_be_spelt_both_ways(word, saved):
    edit(saved, dtype=word)
    assert load(saved).W_enc.dtype == torch.float32


def test_further_tensors_and_keys_do_not_matter(saved):
    edit(saved, seqpos_slice=[None], hook_name="h", metadata=[1], context_size=128)
    edit_tensors(saved, log_sparsity=draw(W))
    assert load(saved).width == W


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "found no such folder"),
        ("file", "found a file"),
        ([], "found an empty folder"),
        (["a.txt", "b.bin"], "found a folder with a.txt, b.bin"),
        ([f"{n}.txt" for n in range(10)], "7.txt …"),
    ],
)
def test_no_sae_there(content, found, tmp_path):
    place = tmp_path / "sae"
    if content == "file":
        place.write_text("x")
    elif content is not None:
        place.mkdir()
        for name in content:
            (place / name).write_text("x")
    for read in (load, read_config, describe):
        with pytest.raises(FormatError, match=r"is no SAE: expected a folder with cfg\.json") as e:
            read(place)
        assert found in str(e.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "crosscoder"},
            "architecture 'crosscoder'; Latent Assay reads standard, ju",
        ),
        ({"architecture": "gated"}, "lacks b_gate, b_mag, r_mag; it has"),
        (
            {"architecture": "matching_pursuit"},
            "architecture 'matching_pursuit'.*cannot be represented: its encoder is a loop",
        ),
        ({"architecture": "temporal"}, "'temporal'.*cannot be represented.*through attention"),
        ({"architecture": "skip_transcoder"}, "cannot be represented: a transcoder reads one"),
        ({"architecture": ...}, "architecture None"),
        ({"architecture": ["topk"]}, r"architecture \['topk'\]"),
        (
            {"normalize_activations": "expected_average_only_in"},
            "normalize_activations = 'expected_average_only_in'; expected 'none', as an SAE must",
        ),
        ({"normalize_activations": "layer_norm"}, "each sample is divided by its own deviation"),
        ({"normalize_activations": "constant_norm_rescale"}, "divided by its own length"),
        ({"normalize_activations": "covariance_whitening"}, "which is not beside it"),
        ({"normalize_activations": [1]}, "no version of SAELens knows it"),
        ({"reshape_activations": "hook_q"}, "reshape_activations = 'hook_q'; expected 'none' or"),
        ({"apply_b_dec_to_input": "yes"}, "apply_b_dec_to_input = 'yes'; expected true or false"),
        ({"activation_fn": "topk"}, "with activation function 'topk'; expected 'relu'"),
        ({"activation_fn_str": "tanh-relu"}, "activation function 'tanh-relu'"),
        ({"d_in": 5}, r"`W_dec` in .* has shape \[6, 4\], but cfg\.json says d_in 5 and d_sae 6"),
        ({"d_sae": ...}, "d_sae None, which asks for"),
        (
            {"dtype": "int8"},
            "has dtype 'int8'; expected one of float16, bfloat16, float32, float64",
        ),
        ({"architecture": "topk"}, "has k = None; expected a whole number from 1 to 6"),
        ({"architecture": "topk", "k": 7}, "has k = 7"),
        ({"architecture": "topk", "k": 10**400}, "has k = 1000"),
        (
            {"architecture": "topk", "k": 2, "rescale_acts_by_decoder_norm": 1},
            "rescale_acts_by_decoder_norm = 1; expected true or false",
        ),
        ({"architecture": "topk", "k": True}, "has k = True"),
        ({"architecture": "jumprelu"}, "lacks threshold; it has"),
        (
            {"metadata": {"latent_assay": {"tied": True}}},
            "says that it is tied, but encoder and decoder differ",
        ),
        ({"metadata": {"latent_assay": {"frozen": ["W"]}}}, "does not describe an SAE: `frozen`"),
        ({"metadata": {"latent_assay": {"frozen": 3}}}, "does not describe an SAE"),
        (
            {"metadata": {"latent_assay": {"decoder_norm": []}}},
            "does not describe an SAE: decoder_",
        ),
    ],
)
def test_configs_that_do_not_fit(changes, message, saved):
    edit(saved, **changes)
    with pytest.raises(FormatError, match=message):
        load(saved)


@pytest.mark.parametrize("bandwidth", [0, -1, "wide", None, 10**400, math.nan])
def test_bandwidths_that_do_not_fit(bandwidth, tmp_path):
    save(make("jumprelu"), tmp_path / "sae")
    edit(tmp_path / "sae", metadata={"latent_assay": {"sparsifier": {"bandwidth": bandwidth}}})
    with pytest.raises(FormatError, match="does not describe an SAE"):
        load(tmp_path / "sae")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "3", '{"a": 1', "\x00"])
def test_configs_that_are_not_json(text, saved):
    (saved / "cfg.json").write_text(text)
    with pytest.raises(
        FormatError, match=r"cfg\.json' (cannot be read as JSON|must hold a JSON ob)"
    ):
        load(saved)
    with pytest.raises(FormatError):
        read_config(saved)


def test_a_config_that_is_not_text_or_too_deep(saved):
    for content in (b"\xff\xfe\x00", b"[" * 100_000):
        (saved / "cfg.json").write_bytes(content)
        with pytest.raises(FormatError, match="cannot be read as JSON"):
            load(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"W_dec": ...}, r"lacks W_dec; it has \['W_enc', 'b_dec', 'b_enc'\]"),
        ({"b_enc": draw(W + 1)}, r"`b_enc` in .* has shape \[7\].* which asks for \[6\]"),
        ({"W_enc": draw(W, D)}, r"`W_enc` in .* has shape \[6, 4\].* which asks for \[4, 6\]"),
        ({"b_dec": torch.full((D,), math.inf)}, "`b_dec` in .* must hold finite numbers"),
        ({"b_dec": torch.zeros(D, dtype=torch.int32)}, "`b_dec` in .* must hold finite numbers"),
        (
            {"b_dec": torch.full((D,), 1e300, dtype=torch.float64)},  # too large for float32
            "`b_dec` in .* must hold finite numbers of type torch.float32",
        ),
    ],
)
def test_weights_that_do_not_fit(changes, message, saved):
    edit_tensors(saved, **changes)
    with pytest.raises(FormatError, match=message):
        load(saved)


def test_weights_in_eight_bits_are_read(saved):
    edit_tensors(saved, b_dec=torch.ones(D).to(torch.float8_e4m3fn))
    assert load(saved).b_dec.tolist() == [[1.0] * D]


@pytest.mark.parametrize("what", ["missing", "empty", "half", "not safetensors", "a folder"])
def test_weights_that_cannot_be_read(what, saved):
    path = saved / "sae_weights.safetensors"
    content = path.read_bytes()
    path.unlink()
    if what == "empty":
        path.write_bytes(b"")
    elif what == "half":
        path.write_bytes(content[: len(content) // 2])
    elif what == "not safetensors":
        path.write_bytes(b"PK\x03\x04" + content)
    elif what == "a folder":
        path.mkdir()
    with pytest.raises(FormatError, match=r"is missing, truncated or corrupted .*Copy it anew"):
        load(saved)


def test_nothing_is_ever_unpickled(saved):
    """A pickle under the name of the weights is refused, not run."""

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    torch.save({"W_enc": Trap()}, saved / "sae_weights.safetensors")
    with pytest.raises(FormatError, match="corrupted"):
        load(saved)


def test_members_that_do_not_belong_together(tmp_path):
    save(make("relu"), tmp_path / "sae" / "member_000")
    save(make("topk"), tmp_path / "sae" / "member_001")
    with pytest.raises(FormatError, match="do not form one ensemble: cannot stack a ReLU SAE with"):
        load(tmp_path / "sae")


# ---------------------------------------------------------------- description


def test_describe(tmp_path):
    sae = recipes.topk(d_in=D, width=(W, 3), k=2).sae
    save(sae, tmp_path / "sae", {"model_name": "m", "text": None})
    found = describe(tmp_path / "sae")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["format"], found["architecture"], found["sparsifier"]) == (
        "SAELens",
        "topk",
        "topk",
    )
    assert (found["model"], found["hook point"]) == ("m", "not named")
    assert (found["normalisation"], found["dtype"], found["dtype in file"]) == (
        "none",
        "float32",
        "float32",
    )
    assert found["golden vectors"] == "none"
    assert (found["d_in"], found["width"], found["members"], found["k"]) == (D, [W, 3], 2, 2)
    assert found["origin"] == {"model_name": "m"}
    # padding is no row
    assert found["decoder row lengths"] == {"min": 1.0, "mean": 1.0, "max": 1.0}
