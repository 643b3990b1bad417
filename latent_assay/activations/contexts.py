"""Documents cut into contexts: the pieces of text that a model reads at once.

A context never mixes documents unless packing is asked for, and begins and ends with the special
tokens that the tokenizer itself would add. Which positions are special is remembered, because
their activations (a [CLS], a BOS that serves as an attention sink) are not for an SAE to learn.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from latent_assay.errors import ConfigError, DataError

_DOCUMENTS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Context:
    """One piece of text, as a model reads it."""

    token_ids: tuple[int, ...]
    """Token numbers, special ones included."""
    special: tuple[bool, ...]
    """Which of them are special: put there by the tokenizer, or marks within the text."""

    @property
    def n_text_tokens(self) -> int:
        """Number of tokens that are not special."""
        return len(self.special) - sum(self.special)


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Where a tokenizer puts special tokens."""

    before: tuple[int, ...]
    """Token numbers that open every context."""
    after: tuple[int, ...]
    """Token numbers that close every context."""
    all_ids: frozenset[int]
    """Every special token number but that of an unknown word, which is part of the text."""
    separator: tuple[int, ...]
    """What stands between documents that are packed together: the end-of-text token, if any."""

    @classmethod
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """Find out by encoding a letter with and without special tokens."""
        bare = _encode(tokenizer, ["a"], special=False)[0]
        full = _encode(tokenizer, ["a"], special=True)[0]
        starts = [i for i in range(len(full)) if full[i : i + len(bare)] == bare]
        if not bare or not starts:
            raise DataError(
                f"the tokenizer {type(tokenizer).__name__} encodes 'a' as {bare} but, with special "
                f"tokens, as {full}; expected the former within the latter. Use another tokenizer."
            )
        before, after = full[: starts[0]], full[starts[0] + len(bare) :]
        roles = ("bos", "eos", "cls", "sep", "pad", "mask")
        numbers = (getattr(tokenizer, f"{role}_token_id", None) for role in roles)
        named: set[int] = {number for number in numbers if number is not None}
        # `unk` marks a word of the text that the vocabulary lacks, unless the token has a role too
        unknown = {getattr(tokenizer, "unk_token_id", None)} - named
        end = getattr(tokenizer, "eos_token_id", None)
        return cls(
            before=tuple(before),
            after=tuple(after),
            all_ids=frozenset(
                (set(tokenizer.all_special_ids) | named) - unknown | {*before, *after}
            ),
            separator=() if end is None else (end,),
        )


def contexts(
    tokenizer: Any,
    documents: Iterable[str],
    *,
    context_size: int,
    n_tokens: int | None = None,
    pack: bool = False,
) -> Iterator[Context]:
    """Cut documents into contexts of at most `context_size` tokens.

    Each document is cut into consecutive pieces, all full but the last; the next document starts a
    new context. With `pack`, documents follow each other, separated by the end-of-text token, and
    every context but the very last is full.

    **Arguments:**
    - `tokenizer`: a transformers tokenizer.
    - `documents`: texts; those without any token are passed over.
    - `context_size`: the most tokens in a context, special ones included.
    - `n_tokens`: stop after this many tokens of text, special ones not counted; the last context
      is cut short. None for all.
    - `pack`: let contexts run across documents.

    **Raises:** `ConfigError` if no room is left beside the special tokens.
    """
    specials = SpecialTokens.of(tokenizer)
    room = context_size - len(specials.before) - len(specials.after)
    if room < 1:
        raise ConfigError(
            f"context_size is {context_size}; expected more than the "
            f"{context_size - room} special tokens that this tokenizer adds to every context."
        )
    if n_tokens is not None and n_tokens < 1:
        raise ConfigError(f"n_tokens is {n_tokens}; expected at least 1, or None for all the text.")

    left = n_tokens
    for piece in _pieces(tokenizer, documents, room, specials, pack):
        flags = [token in specials.all_ids for token in piece]
        if left is not None:
            piece, flags = _at_most(piece, flags, left)
        n_text = len(flags) - sum(flags)
        if n_text == 0:
            continue
        yield Context(
            token_ids=(*specials.before, *piece, *specials.after),
            special=(*[True] * len(specials.before), *flags, *[True] * len(specials.after)),
        )
        if left is not None:
            left -= n_text
            if left == 0:
                return


def pad(
    batch: Sequence[Sequence[int]], pad_id: int = 0
) -> tuple[Int[Tensor, "batch position"], Bool[Tensor, "batch position"]]:
    """Token numbers of several contexts as one tensor, padded on the right, and where they are."""
    length = max(len(row) for row in batch)
    padded = [[*row, *[pad_id] * (length - len(row))] for row in batch]
    lengths = torch.tensor([len(row) for row in batch])
    # flags may be padded too, so the type is not left to the content
    return torch.tensor(padded, dtype=torch.int64), torch.arange(length) < lengths[:, None]


def _pieces(
    tokenizer: Any, documents: Iterable[str], room: int, specials: SpecialTokens, pack: bool
) -> Iterator[list[int]]:
    rest: list[int] = []
    is_first = True
    texts = iter(documents)
    while batch := list(islice(texts, _DOCUMENTS_AT_ONCE)):
        for tokens in _encode(tokenizer, batch, special=False):
            if not pack:
                yield from (tokens[i : i + room] for i in range(0, len(tokens), room))
                continue
            rest += [*(() if is_first else specials.separator), *tokens]
            is_first = False
            whole = len(rest) - len(rest) % room
            yield from (rest[i : i + room] for i in range(0, whole, room))
            rest = rest[whole:]
    if rest:
        yield rest


def _at_most(piece: list[int], flags: list[bool], n_text: int) -> tuple[list[int], list[bool]]:
    """Cut a piece so that it holds no more than `n_text` tokens that are not special."""
    seen = 0
    for i, special in enumerate(flags):
        if not special and seen == n_text:
            return piece[:i], flags[:i]
        seen += not special
    return piece, flags


def _encode(tokenizer: Any, texts: list[str], *, special: bool) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=special, return_attention_mask=False)["input_ids"]
