import pytest

from latent_assay.activations.contexts import SpecialTokens, contexts, pad
from latent_assay.errors import ConfigError
from tests.activations import tiny_models


def text_of(tokenizer, found):
    return [
        tokenizer.decode([t for t, s in zip(c.token_ids, c.special, strict=True) if not s])
        for c in found
    ]


def test_special_tokens_are_found_where_the_tokenizer_puts_them(minilm, tiny):
    bert = SpecialTokens.of(minilm.tokenizer)
    assert (bert.before, bert.after) == ((101,), (102,))
    assert minilm.tokenizer.unk_token_id not in bert.all_ids
    assert minilm.tokenizer.mask_token_id in bert.all_ids
    gpt2 = SpecialTokens.of(tiny("gpt2").tokenizer)
    assert (gpt2.before, gpt2.after) == ((), ())
    assert gpt2.separator == (0,)
    llama = SpecialTokens.of(tiny("llama").tokenizer)
    assert (llama.before, llama.after) == ((1,), ())


def test_documents_are_cut_and_never_mixed(minilm):
    tokenizer = minilm.tokenizer
    documents = ["one two three four five six seven", "eight", "nine ten"]
    found = list(contexts(tokenizer, documents, context_size=5))
    assert text_of(tokenizer, found) == [
        "one two three",
        "four five six",
        "seven",
        "eight",
        "nine ten",
    ]
    for context in found:
        assert len(context.token_ids) <= 5
        assert context.token_ids[0] == 101
        assert context.token_ids[-1] == 102
        assert context.special[0]
        assert context.special[-1]
        assert context.n_text_tokens == len(context.token_ids) - 2


def test_as_the_tokenizer_itself_would(minilm, tiny):
    for model in (minilm, tiny("llama"), tiny("gpt2")):
        for text in tiny_models.SENTENCES:
            (context,) = contexts(model.tokenizer, [text], context_size=64)
            assert list(context.token_ids) == model.tokenizer(text)["input_ids"]


def test_special_tokens_written_in_the_text_are_special(minilm, tiny):
    (context,) = contexts(minilm.tokenizer, ["a [SEP] b"], context_size=16)
    assert context.special == (True, False, True, False, True)
    tokenizer = tiny("gpt2").tokenizer
    (context,) = contexts(tokenizer, ["a<|endoftext|>b"], context_size=16)
    assert context.special == (False, True, False)
    assert list(contexts(tokenizer, ["<|endoftext|>"], context_size=16)) == []


@pytest.mark.parametrize("n_tokens", [1, 2, 3, 10, 37])
def test_number_of_tokens_is_exact(minilm, n_tokens):
    found = list(
        contexts(minilm.tokenizer, tiny_models.text(20), context_size=8, n_tokens=n_tokens)
    )
    assert sum(context.n_text_tokens for context in found) == n_tokens


def test_packing_fills_contexts_and_separates_documents(tiny):
    tokenizer = tiny("llama").tokenizer
    documents = tiny_models.text(7)
    found = list(contexts(tokenizer, documents, context_size=16, pack=True))
    assert all(len(context.token_ids) == 16 for context in found[:-1])
    assert all(context.token_ids[0] == 1 for context in found)
    tokens = [token for context in found for token in context.token_ids[1:]]
    assert tokens.count(0) == 6
    assert tokenizer.decode(tokens).split("<|endoftext|>") == documents


def test_no_room():
    class Tokenizer:
        all_special_ids = (1, 2)

        def __call__(self, texts, add_special_tokens, **_):
            return {"input_ids": [[1, 9, 2] if add_special_tokens else [9] for _ in texts]}

    with pytest.raises(ConfigError, match=r"context_size is 2; expected more than the 2 special"):
        list(contexts(Tokenizer(), ["a"], context_size=2))
    with pytest.raises(ConfigError, match=r"n_tokens is 0"):
        list(contexts(Tokenizer(), ["a"], context_size=8, n_tokens=0))


def test_pad():
    token_ids, mask = pad([[5, 6, 7], [8]], pad_id=9)
    assert token_ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]
