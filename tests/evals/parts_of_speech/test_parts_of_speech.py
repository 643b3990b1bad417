import dataclasses
import sys
import types

import pytest
import torch

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.baselines import random_dictionary
from latent_assay.errors import ConfigError, DataError, MissingExtra
from latent_assay.evals.parts_of_speech import (
    CATEGORIES,
    Span,
    TaggedText,
    parts_of_speech,
    python_source,
    tagged_activations,
    treebank,
)
from latent_assay.evals.parts_of_speech.evaluation import DEFAULT
from latent_assay.evals.parts_of_speech.python_source import _pieces
from tests.activations import tiny_models

HOOK = "blocks.0.hook_resid_post"
SMALL = dataclasses.replace(DEFAULT, ks=(1,), seeds=(0, 1), n_train=300, n_test=300)


@pytest.fixture(scope="module")
def minilm():
    return LanguageModel.load(bundled_minilm())


def words(text):
    return [(text.text[span.start : span.end], span.tag) for span in text.spans]


def test_lexical_categories_of_source():
    source = 'def area(radius):\n    "doc"\n    return math.pi * float(radius) ** 2  # square\n'
    (piece,) = _pieces("module", source, 12)
    assert words(piece) == [
        ("def", "keyword"), ("area", "defined"), ("(", "operator"), ("radius", "name"),
        (")", "operator"), (":", "operator"), ('"doc"', "string"), ("return", "keyword"),
        ("math", "name"), (".", "operator"), ("pi", "attribute"), ("*", "operator"),
        ("float", "builtin"), ("(", "operator"), ("radius", "name"), (")", "operator"),
        ("**", "operator"), ("2", "number"),
    ]  # fmt: skip


def test_source_of_the_standard_library():
    texts = python_source(("json",), n_texts=20)
    assert 10 <= len(texts) <= 20
    assert {tag for text in texts for _, tag in words(text)} <= set(CATEGORIES)
    assert all(word == word.strip() for text in texts for word, _ in words(text))
    assert len({text.group for text in texts}) > 1
    with pytest.raises(DataError, match="no source of nothing_of_this_name"):
        python_source(("nothing_of_this_name",))


@pytest.mark.parametrize("family", ["minilm", "gpt2"])
def test_a_word_is_read_at_its_last_token(family, minilm, tmp_path):
    model = minilm if family == "minilm" else LanguageModel.load(tiny_models.save(tmp_path, "gpt2"))
    text = "The unfathomableness of dogs"
    places = ((0, 3, "a"), (4, 20, "b"), (24, 28, "a"))
    spans = tuple(Span(start=start, end=end, tag=tag) for start, end, tag in places)
    texts = [TaggedText(text=text, spans=spans)]
    data = tagged_activations(model, texts, HOOK, ["a", "b"], context_size=40)
    encoded = model.tokenizer(text, return_offsets_mapping=True)
    ids = torch.tensor(encoded["input_ids"])[None]
    x = model.capture(ids, torch.ones_like(ids), [HOOK])[HOOK][0]
    last = [
        max(i for i, (_, end) in enumerate(encoded["offset_mapping"]) if end == span.end)
        for span in spans
    ]
    torch.testing.assert_close(data.x, x[last].float(), atol=1e-5, rtol=1e-4)
    assert data.labels.tolist() == [[True, False], [False, True], [True, False]]


def test_words_behind_the_context_are_not_read(minilm):
    texts = python_source(("json",), n_texts=6)
    short = tagged_activations(minilm, texts, HOOK, CATEGORIES, context_size=12)
    long = tagged_activations(minilm, texts, HOOK, CATEGORIES, context_size=200)
    assert len(short.x) < len(long.x) == sum(len(text.spans) for text in texts)
    one_by_one = tagged_activations(minilm, texts, HOOK, CATEGORIES, context_size=200, batch_size=1)
    torch.testing.assert_close(one_by_one.x, long.x, atol=1e-5, rtol=1e-4)
    assert len(tagged_activations(minilm, texts, HOOK, CATEGORIES, max_words=9).x) == 9


def test_minilm_knows_the_categories_of_python(minilm):
    texts = python_source(("json", "concurrent"), n_texts=60)
    x = tagged_activations(minilm, texts[:10], HOOK, CATEGORIES, context_size=64).x
    sae = random_dictionary(x, width=64, l0=8.0, seeds=[1])
    result = parts_of_speech(
        minilm, sae, HOOK, texts, ("keyword", "attribute", "operator", "nonsense"),
        config=SMALL, context_size=64,
    )  # fmt: skip
    assert result.not_measurable is None
    assert result.baselines["dense probe"]["auc"].mean > 0.9
    assert result.metrics["auc@1"].mean > result.baselines["shuffled labels"]["auc@1"].mean
    assert result.details["left_out"] == {"nonsense": "the label is constant"}
    none = parts_of_speech(
        minilm, sae, HOOK, texts, ("nonsense",), config=SMALL, context_size=64, max_words=300
    )
    assert "nonsense: the label is constant" in none.not_measurable


def test_sentences_of_the_treebank(monkeypatch):
    """The corpus is not in this suite; what nltk returns for it stands in its place."""
    sentence = [
        ("``", "``"), ("The", "DT"), ("firm", "NN"), ("'s", "POS"), ("dogs", "NNS"),
        ("-LRB-", "-LRB-"), ("30", "CD"), ("%", "NN"), ("-RRB-", "-RRB-"), ("do", "VBP"),
        ("n't", "RB"), ("*-1", "-NONE-"), ("bark", "VB"), (",", ","), ("''", "''"), ("he", "PRP"),
        ("says", "VBZ"), (".", "."),
    ]  # fmt: skip
    corpus = types.ModuleType("nltk.corpus")
    corpus.treebank = types.SimpleNamespace(tagged_sents=lambda: [sentence] * 3)
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    texts = treebank(2)
    assert len(texts) == 2
    assert texts[0].text == "\"The firm's dogs (30%) don't bark,\" he says."
    assert ("'s", "POS") in words(texts[0])
    assert ("dogs", "NNS") in words(texts[0])

    def absent():
        raise LookupError("Resource treebank not found.")

    corpus.treebank.tagged_sents = absent
    with pytest.raises(DataError, match=r"python -m nltk\.downloader treebank"):
        treebank()


def test_without_nltk(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(MissingExtra, match=r"pip install 'latent-assay\[evals\]'"):
        treebank()


def test_bad_input(minilm):
    texts = python_source(("json",), n_texts=3)
    with pytest.raises(ConfigError, match="reads at most 512 tokens"):
        tagged_activations(minilm, texts, HOOK, CATEGORIES, context_size=600)
    with pytest.raises(DataError, match="no tagged word could be read"):
        tagged_activations(minilm, [], HOOK, CATEGORIES)

    class Slow:
        is_fast = False

    slow = types.SimpleNamespace(tokenizer=Slow())
    with pytest.raises(DataError, match="Slow does not say where in a text its tokens are"):
        tagged_activations.__wrapped__(slow, texts, HOOK, CATEGORIES)
