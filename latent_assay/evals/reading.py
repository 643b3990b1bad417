"""Texts read once by a language model, each kept as one vector per representation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latent_assay.activations.contexts import SpecialTokens, pad
from latent_assay.activations.language_model import LanguageModel
from latent_assay.errors import ConfigError, DataError

Pooling = Literal["mean", "last"]
"""A text's vector: the mean over its tokens, or that of its last token."""


def pooled(
    model: LanguageModel,
    texts: Sequence[str],
    hook_point: str,
    functions: Mapping[str, Sequence[Callable[[Tensor], Tensor]]],
    *,
    pooling: Pooling = "mean",
    context_size: int = 128,
    batch_size: int = 32,
    max_norm: float | None = None,
) -> dict[str, list[Float[Tensor, "text latent"]]]:
    """Run texts through the model once and pool what each function makes of the activations.

    Special tokens, which an SAE has not seen, are left out, also as the last token. With mean
    pooling a text that is too long keeps its beginning; with its last token, its end.

    **Arguments:**
    - `model`, `hook_point`: where activations are read.
    - `texts`: each becomes one row.
    - `functions`: from `[token, d_in]` to `[token, latent]`, by name; several for several seeds.
    - `pooling`: how a text's tokens become one row.
    - `context_size`, `batch_size`: tokens per text, texts per forward pass.
    - `max_norm`: longer activations (attention sinks) are left out; None for no limit.

    **Returns:** for each name one tensor per function.

    **Raises:** `DataError` if a text has no tokens, `ConfigError` if the context is too long for
    the model, `HookError` for an unknown hook point.
    """
    rows: dict[str, list[list[Tensor]]] = {
        name: [[] for _ in each] for name, each in functions.items()
    }
    for x, mask, last in _activations(
        model, texts, hook_point, pooling, context_size, batch_size, max_norm
    ):
        if pooling == "last":
            picked = x[torch.arange(len(x)), last]
            for name, several in functions.items():
                for i, function in enumerate(several):
                    rows[name][i].append(function(picked))
            continue
        which = mask.nonzero()[:, 0]
        counts = mask.sum(1).clamp_min(1)[:, None]
        for name, several in functions.items():
            for i, function in enumerate(several):
                z = function(x[mask])
                total = torch.zeros(len(x), z.shape[1]).index_add_(0, which, z)
                rows[name][i].append(total / counts)
    return {name: [torch.cat(each) for each in several] for name, several in rows.items()}


def token_activations(
    model: LanguageModel,
    texts: Sequence[str],
    hook_point: str,
    *,
    context_size: int = 128,
    batch_size: int = 32,
    max_norm: float | None = None,
) -> Float[Tensor, "token d_in"]:
    """The activations of all tokens of some texts, special ones left out."""
    parts = [
        x[mask]
        for x, mask, _ in _activations(
            model, texts, hook_point, "mean", context_size, batch_size, max_norm
        )
    ]
    return torch.cat(parts)


def _activations(
    model: LanguageModel,
    texts: Sequence[str],
    hook_point: str,
    pooling: Pooling,
    context_size: int,
    batch_size: int,
    max_norm: float | None,
) -> Iterator[tuple[Float[Tensor, "text token d_in"], Bool[Tensor, "text token"], Tensor]]:
    """Activations, which of them count, and where each text's last token is."""
    limit = model.max_context_size
    if limit is not None and context_size > limit:
        raise ConfigError(
            f"context_size is {context_size}, but {model.name} reads at most {limit} tokens at "
            "once. Choose a smaller one."
        )
    specials = SpecialTokens.of(model.tokenizer)
    room = context_size - len(specials.before) - len(specials.after)
    if room < 1:
        raise ConfigError(
            f"context_size is {context_size}; expected more than the {context_size - room} special "
            "tokens of this tokenizer."
        )
    pad_id = getattr(model.tokenizer, "pad_token_id", None) or 0
    special_ids = torch.tensor(sorted(specials.all_ids), dtype=torch.int64)
    for start in range(0, len(texts), batch_size):
        batch = list(texts[start : start + batch_size])
        encoded = model.tokenizer(batch, add_special_tokens=False)["input_ids"]
        contexts = []
        for number, tokens in enumerate(encoded):
            if not tokens:
                raise DataError(
                    f"text {start + number} ({batch[number][:40]!r}) has no tokens. Leave out "
                    "empty texts."
                )
            kept = tokens[:room] if pooling == "mean" else tokens[-room:]
            contexts.append([*specials.before, *kept, *specials.after])
        token_ids, mask = pad(contexts, pad_id)
        x = model.capture(token_ids, mask, [hook_point])[hook_point].float().cpu()
        counts = mask & ~torch.isin(token_ids, special_ids)
        # a text of special tokens alone would otherwise have no row
        counts |= mask & ~counts.any(1, keepdim=True)
        if max_norm is not None:
            short = counts & (x.norm(dim=-1) <= max_norm)
            counts = torch.where(short.any(1, keepdim=True), short, counts)
        place = torch.arange(counts.shape[1])
        yield x, counts, torch.where(counts, place, -1).amax(1)
