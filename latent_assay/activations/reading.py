"""Run contexts through a model and line up what is read at its hook points, row by row."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.activations.contexts import Context, pad
from latent_assay.activations.language_model import LanguageModel

_ROWS_AT_ONCE = 4096


def read_contexts(
    model: LanguageModel,
    group: Sequence[Context],
    hook_points: Sequence[str],
    *,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 32,
    skip_special_tokens: bool = True,
    advance: Callable[[int], object] | None = None,
) -> tuple[dict[str, Float[Tensor, "row d_in"]], Int[Tensor, " row"], Int[Tensor, " row"]]:
    """Activations at every token of some contexts, in the order of the text.

    Contexts of like length share a forward pass, so that little is spent on padding; the order of
    the rows does not show it.

    **Arguments:**
    - `model`: the model.
    - `group`: the contexts.
    - `hook_points`: names.
    - `dtype`: type of the rows.
    - `batch_size`: contexts per forward pass.
    - `skip_special_tokens`: leave out the rows of special tokens.
    - `advance`: called after each forward pass with its number of tokens of text.

    **Returns:** rows per hook point; for each row the index of its context within the group; and
    its position there.

    >>> from latent_assay.activations import bundled_minilm
    >>> from latent_assay.activations.contexts import contexts
    >>> model = LanguageModel.load(bundled_minilm())
    >>> group = list(contexts(model.tokenizer, ["Hello world", "Hi"], context_size=16))
    >>> rows, context, position = read_contexts(model, group, ["encoder.layer.0"])
    >>> rows["encoder.layer.0"].shape, context.tolist(), position.tolist()
    (torch.Size([3, 384]), [0, 0, 1], [1, 2, 1])
    """
    kept = [
        [not (special and skip_special_tokens) for special in context.special] for context in group
    ]
    offsets = torch.tensor([0, *[sum(flags) for flags in kept]]).cumsum(0)
    rows = {
        name: torch.empty(int(offsets[-1]), model.d_in(name), dtype=dtype) for name in hook_points
    }
    by_length = sorted(range(len(group)), key=lambda i: len(group[i].token_ids))
    pad_id = getattr(model.tokenizer, "pad_token_id", None) or 0
    for start in range(0, len(group), batch_size):
        members = by_length[start : start + batch_size]
        token_ids, mask = pad([group[i].token_ids for i in members], pad_id)
        wanted = pad([kept[i] for i in members])[0].bool() & mask
        target = torch.cat([torch.arange(*offsets[i : i + 2].tolist()) for i in members])
        for name, x in model.capture(token_ids, mask, hook_points).items():
            rows[name][target] = x[wanted.to(x.device)].to("cpu", dtype)
        if advance is not None:
            advance(sum(group[i].n_text_tokens for i in members))
    context = torch.repeat_interleave(torch.arange(len(group)), offsets.diff())
    position = torch.tensor([i for flags in kept for i, keep in enumerate(flags) if keep])
    return rows, context, position


def lengths(x: Float[Tensor, "row d_in"]) -> Float[Tensor, " row"]:
    """Euclidean lengths in float64, a few rows at a time."""
    parts = [part.double().norm(dim=1) for part in x.split(_ROWS_AT_ONCE)]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)
