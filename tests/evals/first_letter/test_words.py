import pytest
import torch

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.errors import ConfigError, DataError
from latent_assay.evals.first_letter import spelled_words, vocabulary_words
from latent_assay.evals.first_letter.words import LETTERS, located, prompts, sampled
from tests.activations import tiny_models

TEMPLATE = "{word} has the first letter:"


@pytest.fixture(scope="module")
def minilm():
    return LanguageModel.load(bundled_minilm())


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return LanguageModel.load(tiny_models.save(tmp_path_factory.mktemp("gpt2"), "gpt2"))


@pytest.fixture(params=["minilm", "gpt2"])
def model(request):
    return request.getfixturevalue(request.param)


def generator():
    return torch.Generator().manual_seed(0)


def test_words_of_wordpiece_and_byte_level_tokenizers(minilm, gpt2):
    words = vocabulary_words(minilm.tokenizer)
    assert len(words) > 20_000
    assert "the" in words
    assert not any("#" in word or "[" in word for word in words)
    spaced = vocabulary_words(gpt2.tokenizer)
    assert any(word.startswith(" ") for word in spaced)
    assert all(word.strip().isalpha() for word in spaced)


def test_the_word_is_found_where_it_is(model):
    words = sampled(vocabulary_words(model.tokenizer), 60, generator())
    made = prompts(words, template=TEMPLATE, n_examples=3, generator=generator())
    found = located(model.tokenizer, made)
    whole = 0
    for word, prompt, (ids, place) in zip(words, made, found, strict=True):
        assert prompt.text[prompt.start : prompt.end] == word.strip()
        if place is not None:
            whole += 1
            token = model.tokenizer.decode([ids[place]])
            assert token.strip().lower() == word.strip().lower()
    assert whole > 30


def test_slow_tokenizers_find_the_same_places(gpt2):
    words = sampled(vocabulary_words(gpt2.tokenizer), 40, generator())
    made = prompts(words, template=TEMPLATE, n_examples=2, generator=generator())

    class Slow:
        """The same tokenizer without offsets."""

        is_fast = False

        def __getattr__(self, name):
            return getattr(gpt2.tokenizer, name)

        def __call__(self, *args, **options):
            assert "return_offsets_mapping" not in options
            return gpt2.tokenizer(*args, **options)

    fast, slow = located(gpt2.tokenizer, made), located(Slow(), made)
    for (ids, place), (other_ids, other_place) in zip(fast, slow, strict=True):
        assert ids == other_ids
        assert other_place in (place, None)
    assert sum(place is not None for _, place in slow) >= 0.8 * sum(
        place is not None for _, place in fast
    )


def test_prompts_show_other_words_and_keep_the_answer():
    words = [" alpha", " beta", " gamma"]
    made = prompts(words, template=TEMPLATE, n_examples=2, generator=generator())
    for word, prompt in zip(words, made, strict=True):
        *examples, last = prompt.text.strip("\n").split("\n")
        assert len(examples) == 2
        assert last == f"{word} has the first letter:"
        for line in examples:
            other = line.split(" has")[0]
            assert other != word
            assert line.endswith(f": {other.strip()[0].upper()}")
    again = prompts(words, template=TEMPLATE, n_examples=2, generator=generator())
    assert again == made


def test_rare_letters_have_their_share():
    words = [f"s{'a' * i}" for i in range(1, 500)] + ["xa", "xb", "za"]
    chosen = sampled(words, 104, generator())
    assert len(chosen) == 104
    assert {"xa", "xb", "za"} <= set(chosen)


def test_spelled_words_are_read_at_the_word(minilm):
    hook = "blocks.0.hook_resid_pre"
    data = spelled_words(minilm, hook, max_words=80, n_examples=2, seed=3)
    assert list(data.names) == list(LETTERS)
    assert data.labels.sum(1).eq(1).all()
    number = {word: LETTERS.index(word[0]) for word in data.samples}
    assert data.labels.float().argmax(1).tolist() == [number[word] for word in data.samples]
    assert int(data.test.sum()) == 16
    again = spelled_words(minilm, hook, max_words=80, n_examples=2, seed=3, batch_size=7)
    assert again.samples == data.samples
    torch.testing.assert_close(again.x, data.x, atol=1e-5, rtol=1e-4)
    other = spelled_words(minilm, hook, max_words=80, n_examples=2, seed=4)
    assert other.samples != data.samples


def test_endings_of_words(minilm):
    data = spelled_words(
        minilm, "blocks.0.hook_resid_pre", max_words=60, n_examples=0, endings=("ing", "s")
    )
    assert data.names == ["-ing", "-s"]
    assert data.labels[:, 1].tolist() == [word.endswith("s") for word in data.samples]


def test_bad_input(minilm):
    hook = "blocks.0.hook_resid_pre"

    class Numbers:
        pass

    class Digits:
        all_special_tokens = ()

        def get_vocab(self):
            return {"1": 0, "2": 1}

        def convert_tokens_to_string(self, tokens):
            return tokens[0]

    with pytest.raises(DataError, match="Numbers has no `get_vocab`"):
        vocabulary_words(Numbers())
    with pytest.raises(DataError, match="none of the 2 tokens of Digits is a word"):
        vocabulary_words(Digits())
    with pytest.raises(ConfigError, match=r"expected `\{word\}` in it once"):
        spelled_words(minilm, hook, max_words=80, template="no place")
    with pytest.raises(DataError, match="20 words are too few for 10 examples"):
        spelled_words(minilm, hook, max_words=20)
    with pytest.raises(DataError, match="none of 30 words is a single token"):
        spelled_words(minilm, hook, words=["qzxv" + "w" * i for i in range(30)], n_examples=0)
    with pytest.raises(ConfigError, match="reads at most 512 at once"):
        spelled_words(minilm, hook, max_words=400, n_examples=150, test_share=0.5)
    with pytest.raises(ConfigError, match="test_share is 1"):
        spelled_words(minilm, hook, test_share=1.0)
