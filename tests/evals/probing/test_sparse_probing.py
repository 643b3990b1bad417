"""On the real MiniLM, with real text, small."""

import csv
import io
import sys
import types

import pytest
import torch

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.baselines import random_dictionary
from latent_assay.errors import ConfigError, DataError, HookError, MissingExtra, ShapeError
from latent_assay.evals.probing import (
    ProbingConfig,
    binary_sets,
    read_binary_set,
    sae_probes,
    sparse_probing,
)
from latent_assay.evals.reading import pooled, token_activations
from latent_assay.evals.texts import LabelledTexts, python_passages

HOOK = "blocks.3.hook_resid_post"
SMALL = ProbingConfig(ks=(1, 5), seeds=(0, 1), rules=("standardised",))


@pytest.fixture(scope="module")
def minilm():
    return LanguageModel.load(bundled_minilm())


@pytest.fixture(scope="module")
def passages():
    return python_passages(("json", "email"), max_passages=50)


@pytest.fixture(scope="module")
def sae(minilm, passages):
    x = token_activations(minilm, passages.texts[:20], HOOK, context_size=24)
    return random_dictionary(x, width=64, l0=8.0, seeds=[1])


def test_passages_are_distinct_and_do_not_name_their_label(passages):
    assert passages.classes == ["email", "json"]
    assert len(set(passages.texts)) == len(passages.texts) == 100
    assert not any(text.startswith(("email.", "json.")) for text in passages.texts)
    again = python_passages(("json", "email"), max_passages=50)
    assert again == passages


def test_minilm_tells_packages_apart(minilm, sae, passages):
    result = sparse_probing(minilm, sae, HOOK, passages, config=SMALL, context_size=24)
    assert result.not_measurable is None
    dense = result.baselines["dense probe"]["auc"]
    assert dense.mean > 0.8  # what the model knows
    assert result.metrics["auc@5"].mean > result.baselines["shuffled labels"]["auc@5"].mean
    assert result.config["data"].startswith("documentation of Python 3.")
    assert set(result.details["by_task"]) == {"email", "json"}


def test_pooling_does_not_depend_on_batches(minilm, passages):
    texts = passages.texts[:7]
    functions = {"x": [lambda x: x]}
    for pooling in ("mean", "last"):
        one = pooled(minilm, texts, HOOK, functions, pooling=pooling, batch_size=1)["x"][0]
        all_ = pooled(minilm, texts, HOOK, functions, pooling=pooling, batch_size=7)["x"][0]
        torch.testing.assert_close(one, all_, atol=1e-5, rtol=1e-4)


def test_the_last_token_is_of_the_text(minilm):
    """Not the [SEP] behind it; a long text keeps its end."""
    functions = {"x": [lambda x: x]}
    row = pooled(minilm, ["a short text"], HOOK, functions, pooling="last")["x"][0]
    x = token_activations(minilm, ["a short text"], HOOK)
    torch.testing.assert_close(row[0], x[-1])
    long = "word " * 50 + "a short text"
    ends = pooled(minilm, [long, "a short text"], HOOK, functions, pooling="last", context_size=5)
    torch.testing.assert_close(ends["x"][0][0], ends["x"][0][1])


def test_too_few_texts_is_not_measurable(minilm, sae):
    texts = LabelledTexts(texts=("one text", "another"), labels=("a", "b"), name="two")
    result = sparse_probing(minilm, sae, HOOK, texts, config=SMALL)
    assert "only 1 positive samples; expected at least 10" in result.not_measurable


def test_bad_input(minilm, sae):
    with pytest.raises(DataError, match="every text has the label 'a'"):
        LabelledTexts(texts=("one", "two"), labels=("a", "a"), name="constant")
    with pytest.raises(DataError, match="got 2 texts and 1 labels"):
        LabelledTexts(texts=("one", "two"), labels=("a",), name="short")
    with pytest.raises(ConfigError, match="at least two to tell apart"):
        python_passages(("email",))
    with pytest.raises(DataError, match="documents no package `nothing_of_this_name`"):
        python_passages(("email", "nothing_of_this_name"), max_passages=1)
    passages = LabelledTexts(texts=("a", "b") * 12, labels=("a", "b") * 12, name="letters")
    with pytest.raises(ConfigError, match="reads at most 512 tokens"):
        sparse_probing(minilm, sae, HOOK, passages, config=SMALL, context_size=1000)
    with pytest.raises(HookError, match=r"no hook point `blocks\.9"):
        sparse_probing(minilm, sae, "blocks.9.hook_resid_post", passages, config=SMALL)
    with pytest.raises(ShapeError, match="d_in 1536 but this SAE reads d_in 384"):
        sparse_probing(minilm, sae, "blocks.3.mlp.hook_post", passages, config=SMALL)


def test_labelled_texts_from_files(tmp_path):
    table = tmp_path / "mails.csv"
    table.write_text('body,kind\n"a, b",spam\nc,ham\n')
    texts = LabelledTexts.read(table, text="body", label="kind")
    assert (texts.texts, texts.labels, texts.name) == (("a, b", "c"), ("spam", "ham"), "mails")
    lines = tmp_path / "mails.jsonl"
    lines.write_text('{"text": "a", "label": 1}\n\n{"text": "b", "label": 0}\n')
    assert LabelledTexts.read(lines).classes == ["0", "1"]
    with pytest.raises(DataError, match="no column `text`; its columns are body, kind"):
        LabelledTexts.read(table)
    with pytest.raises(DataError, match="there is no file"):
        LabelledTexts.read(tmp_path / "none.csv")
    lines.write_text("{broken")
    with pytest.raises(DataError, match="cannot be read: Expecting property name"):
        LabelledTexts.read(lines)
    other = tmp_path / "mails.xml"
    other.write_text("<a/>")
    with pytest.raises(DataError, match=r"ends in \.xml; expected \.csv or \.jsonl"):
        LabelledTexts.read(other)


def make_folder(folder, n=140):
    """A folder in the layout of SAE-Probes."""
    (folder / "cleaned_data").mkdir(parents=True)
    sets = {"1_length": ["0", "1"], "2_colour": ["red", "blue"], "3_few": ["a", "b"]}
    with (folder / "probing_datasets_MASTER.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Source", "Data type", "Dataset save name"])
        for name in sets:
            table.writerow(["", "Binary Classification", f"cleaned_data/{name}.csv"])
        table.writerow(["", "Continuous Data", "cleaned_data/4_year.csv"])
    for name, targets in sets.items():
        with (folder / "cleaned_data" / f"{name}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["prompt", "prompt_len", "target"])
            for i in range(n if name != "3_few" else 30):
                rows.writerow([f"a {['cat', 'house'][i % 2]} number {i}", 3, targets[i % 2]])
    return folder


def test_binary_sets_as_files(tmp_path):
    folder = make_folder(tmp_path / "data")
    assert binary_sets(folder) == ["1_length", "2_colour", "3_few"]
    colour = read_binary_set("2_colour", folder)
    assert colour.targets == ("blue", "red")
    assert colour.positive[:2] == (True, False)
    with pytest.raises(ConfigError, match=r"no data set `2_color`.*Did you mean `2_colour`"):
        read_binary_set("2_color", folder)
    (folder / "cleaned_data" / "2_colour.csv").unlink()
    with pytest.raises(DataError, match=r"is not there, nor '2_colour.csv.zst'"):
        read_binary_set("2_colour", folder)
    (folder / "cleaned_data" / "1_length.csv").write_text("text,target\na,b\n")
    with pytest.raises(DataError, match="no column `prompt`; its columns are text, target"):
        read_binary_set("1_length", folder)


def test_a_folder_of_another_layout(tmp_path):
    with pytest.raises(DataError, match=r"is no folder of SAE-Probes: expected probing_datasets"):
        binary_sets(tmp_path)
    (tmp_path / "probing_datasets_MASTER.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="lists no data sets; expected a table"):
        binary_sets(tmp_path)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads zstd by itself")
def test_compressed_sets(tmp_path, monkeypatch):
    """The layout of the package `sae-probes`: every file as .zst."""
    folder = make_folder(tmp_path / "data")
    for path in list(folder.rglob("*.csv")):
        path.with_name(path.name + ".zst").write_bytes(path.read_bytes()[::-1])
        path.unlink()
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtra, match=r"zstandard.*pip install 'latent-assay\[evals\]'"):
        binary_sets(folder)

    class ZstdError(Exception):
        pass

    class Backwards:
        """Stands for a decompressor."""

        def stream_reader(self, file):
            content = file.read()
            if not content:
                raise ZstdError("no frame")
            return io.BytesIO(content[::-1])

    module = types.ModuleType("zstandard")
    module.ZstdDecompressor, module.ZstdError = Backwards, ZstdError
    monkeypatch.setitem(sys.modules, "zstandard", module)
    assert read_binary_set("1_length", folder).targets == ("0", "1")
    (folder / "cleaned_data" / "1_length.csv.zst").write_bytes(b"")
    with pytest.raises(DataError, match="is damaged: no frame"):
        read_binary_set("1_length", folder)


def test_sae_probes_protocol(minilm, sae, tmp_path):
    folder = make_folder(tmp_path / "data")
    result = sae_probes(
        minilm, sae, HOOK, folder, ks=(1, 2), seeds=(0,), context_size=12,
    )  # fmt: skip
    assert result.details["datasets"] == 2
    assert set(result.details["left_out"]) == {"3_few"}
    assert "30 prompts; expected at least 120" in result.details["left_out"]["3_few"]
    # the last token is the number, whose parity an encoder can read from the other words
    assert result.baselines["dense probe"]["auc"].mean > 0.9
    few = sae_probes(minilm, sae, HOOK, folder, datasets=["3_few"], seeds=(0,))
    assert "no data set could be probed" in few.not_measurable


def test_sae_probes_without_data(minilm, sae):
    with pytest.raises(DataError, match="the package `sae-probes`"):
        sae_probes(minilm, sae, HOOK)
