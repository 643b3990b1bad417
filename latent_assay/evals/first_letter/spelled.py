"""Activations at words that a model is asked to spell."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latent_assay.activations.contexts import pad
from latent_assay.activations.language_model import LanguageModel
from latent_assay.errors import ConfigError, DataError
from latent_assay.evals.first_letter.concepts import Concepts
from latent_assay.evals.first_letter.words import (
    LETTERS,
    Prompt,
    letter_numbers,
    located,
    prompts,
    sampled,
    vocabulary_words,
)

TEMPLATE = "{word} has the first letter:"
ENDINGS = ("ing", "ed", "s", "ly")
"""Endings of English words that also small encoders know, where they do not know first letters."""


def spelled_words(
    model: LanguageModel,
    hook_point: str,
    *,
    seed: int = 0,
    words: Sequence[str] | None = None,
    max_words: int | None = 4000,
    template: str = TEMPLATE,
    n_examples: int = 10,
    test_share: float = 0.2,
    endings: Sequence[str] = (),
    batch_size: int = 32,
) -> Concepts:
    r"""Read activations at single-token words, each in a prompt that asks for its first letter.

    A prompt has lines such as `" cat has the first letter: C"` for other words of the same part
    (training or test), then the word's own line without the answer. The activation is read at the
    word itself, wherever the tokenizer puts it; words that are not one token there are left out.
    The activations are read once: what qualifies a word and what is scored are the same.

    **Arguments:**
    - `model`, `hook_point`: causal models and encoders alike.
    - `seed`: decides words, parts and examples.
    - `words`: None for all words of the tokenizer's vocabulary.
    - `max_words`: the most words, rare letters having their equal share first; None for all.
    - `template`: the line, with `{word}`.
    - `n_examples`: lines with answers before it.
    - `test_share`: share of words that score.
    - `endings`: if given, the concepts are not first letters but these endings of words (`ENDINGS`
      are a good choice), for a model that cannot spell; prompts stay the same.
    - `batch_size`: prompts per forward pass.

    **Returns:** one concept per letter, all 26 of them, or per ending.

    **Raises:** `DataError` if the tokenizer has no words, `ConfigError` for impossible settings,
    `HookError` for an unknown hook point.
    """
    if not 0 < test_share < 1:
        raise ConfigError(f"test_share is {test_share}; expected between 0 and 1.")
    generator = torch.Generator().manual_seed(seed)
    every = list(words) if words is not None else vocabulary_words(model.tokenizer)
    chosen = sampled(every, max_words, generator)
    n_test = round(test_share * len(chosen))
    if min(n_test, len(chosen) - n_test) <= n_examples:
        raise DataError(
            f"{len(chosen)} words are too few for {n_examples} examples in each of both parts. "
            "Give more words, or fewer examples."
        )
    parts = chosen[n_test:], chosen[:n_test]
    made: list[Prompt] = []
    for part in parts:
        made += prompts(part, template=template, n_examples=n_examples, generator=generator)
    spoken = [*parts[0], *parts[1]]
    x, kept = _read(model, hook_point, made, batch_size)
    if not kept:
        raise DataError(
            f"none of {len(spoken)} words is a single token within the prompt {made[0].text!r}. "
            "Give another template, or words that this tokenizer keeps whole."
        )
    read = [spoken[i] for i in kept]
    if endings:
        rows = [[word.lower().endswith(each.lower()) for each in endings] for word in read]
        labels = torch.tensor(rows)
    else:
        labels = letter_numbers(read)[:, None] == torch.arange(len(LETTERS))
    return Concepts(
        x=x,
        labels=labels,
        names=[f"-{each}" for each in endings] if endings else list(LETTERS),
        test=torch.tensor([i >= len(parts[0]) for i in kept]),
        samples=read,
    )


def _read(
    model: LanguageModel, hook_point: str, made: Sequence[Prompt], batch_size: int
) -> tuple[Tensor, list[int]]:
    """Activations at the words that are one token, and the numbers of their prompts."""
    pad_id = getattr(model.tokenizer, "pad_token_id", None) or 0
    limit = model.max_context_size
    rows: list[Tensor] = []
    kept: list[int] = []
    for start in range(0, len(made), batch_size):
        found = located(model.tokenizer, made[start : start + batch_size])
        usable = [
            (start + i, ids, place) for i, (ids, place) in enumerate(found) if place is not None
        ]
        if not usable:
            continue
        longest = max(len(ids) for _, ids, _ in usable)
        if limit is not None and longest > limit:
            raise ConfigError(
                f"a prompt has {longest} tokens, but {model.name} reads at most {limit} at once. "
                "Give fewer examples."
            )
        token_ids, mask = pad([ids for _, ids, _ in usable], pad_id)
        x = model.capture(token_ids, mask, [hook_point])[hook_point]
        places = torch.tensor([place for _, _, place in usable])
        rows.append(x[torch.arange(len(usable)), places.to(x.device)].float().cpu())
        kept += [number for number, _, _ in usable]
    return (torch.cat(rows) if rows else torch.zeros(0, 0)), kept
