"""Documents cut into contexts: the pieces of text that a model reads at once.

A context never mixes documents unless packing is asked for, and begins and ends with the special
tokens that the tokenizer itself would add. Which positions are special is remembered, because
their activations (a [CLS], a BOS that serves as an attention sink) are not for an SAE to learn.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from latent_assay.errors import ConfigError, DataError

_DOCUMENTS_AT_ONCE = 64
_CHARACTERS_AT_ONCE = 2**18


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
class TokenRow:
    """A document that comes as token numbers: one row of a pre-tokenised data set."""

    token_ids: tuple[int, ...]
    """Token numbers, as the model is to read them: nothing is put before or behind them."""
    special: tuple[bool, ...] | None = None
    """Which of them are special, if the data set says so; None: those the tokenizer calls so."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a text a context begins; from here `located_contexts` can go on."""

    document: int = 0
    """Number of the document, empty ones counted."""
    token: int = 0
    """How many of its tokens come before."""
    n_text: int = 0
    """How many tokens of text, special ones not counted, all contexts before it hold."""


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
    documents: Iterable[str | TokenRow],
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
    - `documents`: texts; those without any token are passed over. A `TokenRow` is a context
      already, cut only if it is longer than `context_size`.
    - `context_size`: the most tokens in a context, special ones included.
    - `n_tokens`: stop after this many tokens of text, special ones not counted; the last context
      is cut short. None for all.
    - `pack`: let contexts run across documents.

    **Raises:** `ConfigError` if no room is left beside the special tokens, or rows of tokens are to
    be packed; `DataError` if a row holds numbers that the tokenizer does not know.
    """
    located = located_contexts(
        tokenizer, enumerate(documents), context_size=context_size, n_tokens=n_tokens, pack=pack
    )
    return (context for _, context in located)


def located_contexts(
    tokenizer: Any,
    documents: Iterable[tuple[int, str | TokenRow]],
    *,
    context_size: int,
    n_tokens: int | None = None,
    pack: bool = False,
    start: Place | None = None,
) -> Iterator[tuple[Place, Context]]:
    """The contexts of `contexts`, each with its place, from any of these places on.

    **Arguments:**
    - `tokenizer`, `context_size`, `n_tokens`, `pack`: as for `contexts`.
    - `documents`: texts with their numbers, from that of `start.document` on.
    - `start`: the place of the first context that is wanted; None for the beginning.

    **Raises:** as `contexts`.
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

    start = start or Place()
    n_before = start.n_text
    if n_tokens is not None and n_before >= n_tokens:
        return
    for piece in _pieces(tokenizer, documents, context_size, specials, pack, start):
        token_ids, flags = piece.token_ids, piece.special
        if flags is None:
            flags = [token in specials.all_ids for token in token_ids]
        if n_tokens is not None:
            token_ids, flags = _at_most(token_ids, flags, n_tokens - n_before)
        n_text = len(flags) - sum(flags)
        if n_text == 0:
            continue
        place = Place(document=piece.document, token=piece.token, n_text=n_before)
        before, after = ((), ()) if piece.whole else (specials.before, specials.after)
        yield (
            place,
            Context(
                token_ids=(*before, *token_ids, *after),
                special=(*[True] * len(before), *flags, *[True] * len(after)),
            ),
        )
        n_before += n_text
        if n_before == n_tokens:
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


@dataclass(frozen=True)
class _Piece:
    """Tokens that make a context, before the special tokens that enclose it."""

    document: int
    token: int
    token_ids: list[int]
    special: list[bool] | None = None
    whole: bool = False
    """Whether special tokens are among them already."""


def _pieces(
    tokenizer: Any,
    documents: Iterable[tuple[int, str | TokenRow]],
    context_size: int,
    specials: SpecialTokens,
    pack: bool,
    start: Place,
) -> Iterator[_Piece]:
    room = context_size - len(specials.before) - len(specials.after)
    rest: list[int] = []
    place = (start.document, start.token)  # of the first token in `rest`
    # nothing separates the first document from what was before it
    skipped = len(specials.separator) if start.n_text == 0 else 0
    for batch in _batched(documents):
        texts = [document for _, document in batch if isinstance(document, str)]
        encoded = iter(_encode(tokenizer, texts, special=False) if texts else ())
        for number, document in batch:
            first = start.token if number == start.document else 0
            if isinstance(document, TokenRow):
                if pack:
                    raise ConfigError(
                        "`pack` joins documents, but these come as token numbers and are contexts "
                        "already. Leave `pack` off."
                    )
                yield from _pieces_of_row(tokenizer, number, document, context_size, first)
                continue
            tokens = next(encoded)
            if not pack:
                for i in range(first, len(tokens), room):
                    yield _Piece(number, i, tokens[i : i + room])
                continue
            if number != start.document or start.token == 0:
                first = skipped
            joined = [*specials.separator, *tokens]
            skipped = 0
            if not rest:
                place = (number, first)
            before = len(rest)
            rest += joined[first:]
            whole = len(rest) - len(rest) % room
            for i in range(0, whole, room):
                yield _Piece(*place, rest[i : i + room])
                place = (number, first + i + room - before)
            rest = rest[whole:]
    if rest:
        yield _Piece(*place, rest)


def _batched(
    documents: Iterable[tuple[int, str | TokenRow]],
) -> Iterator[list[tuple[int, str | TokenRow]]]:
    """Documents in groups for the tokenizer, which needs a hundred bytes for each token."""
    batch: list[tuple[int, str | TokenRow]] = []
    size = 0
    for number, document in documents:
        batch.append((number, document))
        size += len(document if isinstance(document, str) else document.token_ids)
        if len(batch) == _DOCUMENTS_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _pieces_of_row(
    tokenizer: Any, number: int, row: TokenRow, context_size: int, first: int
) -> Iterator[_Piece]:
    for i in range(first, len(row.token_ids), context_size):
        token_ids = list(row.token_ids[i : i + context_size])
        if not 0 <= min(token_ids) <= max(token_ids) < len(tokenizer):
            raise DataError(
                f"row {number} holds token number {max(token_ids)} (smallest: {min(token_ids)}), "
                f"but this model's tokenizer has {len(tokenizer):,} tokens. The data set was "
                "tokenised for another model; use its text instead, or that model."
            )
        special = None if row.special is None else list(row.special[i : i + context_size])
        yield _Piece(number, i, token_ids, special, whole=True)


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
