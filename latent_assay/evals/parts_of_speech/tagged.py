"""Texts whose words have tags, and the activations of these words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latent_assay.activations.contexts import SpecialTokens, pad
from latent_assay.activations.language_model import LanguageModel
from latent_assay.errors import ConfigError, DataError
from latent_assay.evals.labelled import Labelled, one_hot


@dataclass(frozen=True, kw_only=True)
class Span:
    """A word within a text."""

    start: int
    """Where it begins, in characters."""
    end: int
    """Where it ends."""
    tag: str
    """What it is."""


@dataclass(frozen=True, kw_only=True)
class TaggedText:
    """A text and the tags of its words."""

    text: str
    """What the model reads."""
    spans: tuple[Span, ...]
    """Its words, in order."""
    group: str = ""
    """Texts of one group, such as a file, stay on one side of a split; empty for the text alone."""


def tagged_activations(
    model: LanguageModel,
    texts: Sequence[TaggedText],
    hook_point: str,
    tags: Sequence[str],
    *,
    context_size: int = 128,
    batch_size: int = 32,
    max_words: int | None = 20_000,
    max_norm: float | None = None,
) -> Labelled:
    """The activation at the last token of each word, labelled by the word's tag.

    A word of several tokens stands for itself once, at its last token, where a causal model has
    seen all of it. Words whose tag is not asked for are negatives of all; words behind the end of
    the context are not read.

    **Arguments:**
    - `model`, `hook_point`: where activations are read.
    - `texts`: tagged texts.
    - `tags`: the tasks.
    - `context_size`, `batch_size`: tokens per text, texts per forward pass.
    - `max_words`: stop after this many; None for all.
    - `max_norm`: longer activations are left out.

    **Raises:** `DataError` if the tokenizer gives no offsets, or no word is read; `ConfigError` if
    the context is too long for the model.
    """
    if not getattr(model.tokenizer, "is_fast", False):
        raise DataError(
            f"{type(model.tokenizer).__name__} does not say where in a text its tokens are, so "
            "words cannot be found. Use a model with a fast tokenizer (a tokenizer.json)."
        )
    limit = model.max_context_size
    if limit is not None and context_size > limit:
        raise ConfigError(
            f"context_size is {context_size}, but {model.name} reads at most {limit} tokens at "
            "once. Choose a smaller one."
        )
    specials = SpecialTokens.of(model.tokenizer)
    room = context_size - len(specials.before) - len(specials.after)
    pad_id = getattr(model.tokenizer, "pad_token_id", None) or 0
    rows: list[Tensor] = []
    found: list[str] = []
    groups: list[int] = []
    numbers: dict[str, int] = {}
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        encoded = model.tokenizer(
            [each.text for each in batch], add_special_tokens=False, return_offsets_mapping=True
        )
        token_ids, mask = pad(
            [[*specials.before, *ids[:room], *specials.after] for ids in encoded["input_ids"]],
            pad_id,
        )
        x = model.capture(token_ids, mask, [hook_point])[hook_point].float().cpu()
        for i, each in enumerate(batch):
            places = _last_tokens(encoded["offset_mapping"][i][:room], each.spans)
            group = numbers.setdefault(each.group or f"text {start + i}", len(numbers))
            for span, place in zip(each.spans, places, strict=True):
                if place is None:
                    continue
                row = x[i, place + len(specials.before)]
                if max_norm is None or float(row.norm()) <= max_norm:
                    rows.append(row)
                    found.append(span.tag)
                    groups.append(group)
        if max_words is not None and len(rows) >= max_words:
            break
    if not rows:
        raise DataError("no tagged word could be read. Give texts with tagged words.")
    kept = slice(max_words)
    return Labelled(
        x=torch.stack(rows[kept]),
        labels=one_hot(found[kept], list(tags)),
        tasks=list(tags),
        groups=torch.tensor(groups[kept]),
    )


def _last_tokens(offsets: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[int | None]:
    """The last token that lies within each span; None if the span is not wholly read."""
    places: list[int | None] = []
    token = 0
    for span in spans:
        last = None
        while token < len(offsets) and offsets[token][0] < span.end:
            if offsets[token][1] > span.start:
                last = token
            token += 1
        whole = last is not None and offsets[last][1] >= span.end
        places.append(last if whole else None)
        if last is not None:
            token = last  # a token may reach into the next word
    return places
