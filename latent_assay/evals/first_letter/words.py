"""The words of a tokenizer's vocabulary, and prompts that make a model spell them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from latent_assay.activations.contexts import SpecialTokens
from latent_assay.errors import ConfigError, DataError

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
"""The 26 letters, in lower case."""

_WORD = re.compile(" ?[A-Za-z]+")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Examples of words with their first letters, then a word without it."""

    text: str
    """What the model reads."""
    start: int
    """Where the word begins, its leading space left out."""
    end: int
    """Where it ends."""


def vocabulary_words(tokenizer: Any) -> list[str]:
    """Tokens that are words of the letters A to Z, with the space that they begin with, if any.

    Pieces that continue a word (`##ing`) are none. The order is that of the token numbers.

    **Arguments:**
    - `tokenizer`: with `get_vocab` and `convert_tokens_to_string`.

    **Raises:** `DataError` if the tokenizer has no vocabulary of strings, or no words in it.
    """
    if not (hasattr(tokenizer, "get_vocab") and hasattr(tokenizer, "convert_tokens_to_string")):
        raise DataError(
            f"{type(tokenizer).__name__} has no `get_vocab` and `convert_tokens_to_string`, so its "
            "words cannot be listed. First letters need a tokenizer with a vocabulary of strings."
        )
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    special = set(getattr(tokenizer, "all_special_tokens", ()))
    words: dict[str, None] = {}
    for token in sorted(vocabulary, key=lambda each: vocabulary[each]):
        if token in special or not token:
            continue
        text = tokenizer.convert_tokens_to_string([token])
        if token[0] == "▁" and not text.startswith(" "):
            text = " " + text  # some tokenizers drop the space of a sequence's first token
        if _WORD.fullmatch(text):
            words[text] = None
    if not words:
        raise DataError(
            f"none of the {len(vocabulary)} tokens of {type(tokenizer).__name__} is a word of the "
            "letters A to Z, so there are no first letters to probe."
        )
    return list(words)


def sampled(words: Sequence[str], max_words: int | None, generator: torch.Generator) -> list[str]:
    """At most so many words in random order, rare letters first having their equal share.

    A plain sample would have one word with x where there are hundreds with s.
    """
    order = [words[i] for i in torch.randperm(len(words), generator=generator).tolist()]
    if max_words is None or len(order) <= max_words:
        return order
    share = max_words // len(LETTERS)
    counts = dict.fromkeys(LETTERS, 0)
    first: list[str] = []
    rest: list[str] = []
    for word in order:
        letter = first_letter(word)
        (first if counts[letter] < share else rest).append(word)
        counts[letter] += 1
    chosen = first + rest[: max_words - len(first)]
    return [chosen[i] for i in torch.randperm(len(chosen), generator=generator).tolist()]


def first_letter(word: str) -> str:
    """The first letter in lower case.

    >>> first_letter(" The")
    't'
    """
    return word.strip()[0].lower()


def prompts(
    words: Sequence[str],
    *,
    template: str,
    n_examples: int,
    generator: torch.Generator,
) -> list[Prompt]:
    """One prompt per word, with examples drawn from the other words.

    Each example is a line with the template and its answer, ` T`; the word's own line comes last,
    without an answer.

    **Arguments:**
    - `words`: also the source of examples.
    - `template`: with `{word}`.
    - `n_examples`: how many; 0 for the bare template.
    - `generator`: draws them.

    **Raises:** `ConfigError` if the template has no `{word}`, or there are too few words.
    """
    if template.count("{word}") != 1:
        raise ConfigError(f"the template is {template!r}; expected `{{word}}` in it once.")
    if n_examples < 0 or n_examples >= len(words):
        raise ConfigError(
            f"n_examples is {n_examples}, drawn from {len(words)} words; expected 0 or more, and "
            "fewer than there are words."
        )
    before, _ = template.split("{word}")
    made = []
    for number, word in enumerate(words):
        # one more than needed: the word itself, if it is drawn, is replaced by the last
        drawn = torch.randint(len(words), (4 * n_examples + 16,), generator=generator).tolist()
        chosen = [i for i in dict.fromkeys(drawn) if i != number][:n_examples]
        lines = [
            f"{template.format(word=words[i])} {first_letter(words[i]).upper()}" for i in chosen
        ]
        head = "".join("\n" + line for line in lines) + "\n" + before
        lead = len(word) - len(word.lstrip())
        made.append(
            Prompt(
                text=head + template[len(before) :].format(word=word),
                start=len(head) + lead,
                end=len(head) + len(word),
            )
        )
    return made


def located(tokenizer: Any, batch: Sequence[Prompt]) -> list[tuple[list[int], int | None]]:
    """Token numbers of each prompt, special ones included, and where its word is.

    The place is None if the word is not exactly one token within its prompt. With a fast tokenizer
    it is found by the tokens' offsets in the text; with a slow one, by tokenising the text up to
    the word's beginning and end, and if these are not beginnings of the whole, the place is None.
    """
    if getattr(tokenizer, "is_fast", False):
        encoded = tokenizer([each.text for each in batch], return_offsets_mapping=True)
        found = []
        for each, ids, offsets in zip(
            batch, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            places = [
                i for i, (start, end) in enumerate(offsets) if start < each.end and end > each.start
            ]
            found.append((list(ids), places[0] if len(places) == 1 else None))
        return found
    specials = SpecialTokens.of(tokenizer)
    found = []
    for each in batch:
        lead = each.start - (each.start > 0 and each.text[each.start - 1] == " ")
        whole, until, upto = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (each.text, each.text[: each.end], each.text[:lead])
        )
        fits = whole[: len(until)] == until and until[:-1] == upto
        ids = [*specials.before, *whole, *specials.after]
        found.append((ids, len(specials.before) + len(upto) if fits else None))
    return found


def letter_numbers(words: Sequence[str]) -> Int[Tensor, " word"]:
    """The number of each word's first letter, from 0."""
    return torch.tensor([LETTERS.index(first_letter(word)) for word in words])
