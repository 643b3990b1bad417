"""Short pieces of text and where in them each latent fires."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.activations.contexts import contexts
from latent_assay.activations.folder import token_pieces
from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.reading import read_contexts
from latent_assay.activations.text import TextInput, text_source
from latent_assay.errors import ConfigError, DataError
from latent_assay.sae import SAE

_ROWS_AT_ONCE = 2_048
_CONTEXTS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Window:
    """A piece of text, some of whose tokens may be marked.

    >>> Window(tokens=("the", " cat", " sat"), marked=(False, True, False)).highlighted()
    'the << cat>> sat'
    """

    tokens: tuple[str, ...]
    """How each token looks in running text."""
    marked: tuple[bool, ...] = ()
    """Which tokens are marked; none if empty."""

    def text(self) -> str:
        """The text without marks."""
        return "".join(self.tokens).strip()

    def highlighted(self) -> str:
        """The text with each run of marked tokens in double angle brackets."""
        parts, inside = [], False
        for token, mark in zip(
            self.tokens, self.marked or (False,) * len(self.tokens), strict=True
        ):
            parts.append(("<<" if mark else ">>") if mark != inside else "")
            parts.append(token)
            inside = mark
        return "".join([*parts, ">>" if inside else ""]).strip()

    def passages(self) -> str:
        """The marked tokens alone; all of them if none is marked."""
        if not any(self.marked):
            return self.text()
        runs = "".join(
            token if mark else "\n" for token, mark in zip(self.tokens, self.marked, strict=True)
        )
        return " … ".join(run.strip() for run in runs.split("\n") if run.strip()) or self.text()

    def to_json(self) -> list[Any]:
        """Tokens and the indices of marked ones."""
        return [list(self.tokens), [i for i, mark in enumerate(self.marked) if mark]]

    @classmethod
    def from_json(cls, content: Sequence[Any]) -> "Window":
        """What `to_json` wrote."""
        tokens, marked = content
        chosen = set(marked)
        return cls(
            tokens=tuple(tokens),
            marked=tuple(i in chosen for i in range(len(tokens))) if chosen else (),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowedText:
    """Text cut into windows, with the activations of its tokens."""

    x: Float[Tensor, "row d_in"]
    """Activations, one per token of text."""
    window: Int[Tensor, " row"]
    """Which window each is in, rising."""
    token: Int[Tensor, " row"]
    """Its token number."""
    pieces: Mapping[int, str] = field(repr=False)
    """How each token looks."""

    @property
    def n_windows(self) -> int:
        """Number of windows."""
        return int(self.window[-1]) + 1 if len(self.window) else 0

    def rows_of(self, window: int) -> range:
        """The rows of a window."""
        start, stop = torch.searchsorted(self.window, torch.tensor([window, window + 1])).tolist()
        return range(start, stop)

    def show(self, window: int, marked: Sequence[bool] = ()) -> Window:
        """A window as text."""
        rows = self.rows_of(window)
        tokens = tuple(self.pieces[int(each)] for each in self.token[rows.start : rows.stop])
        return Window(tokens=tokens, marked=tuple(marked))


def windowed(
    model: LanguageModel,
    text: TextInput,
    hook_point: str,
    *,
    n_tokens: int = 50_000,
    window: int = 32,
    context_size: int = 128,
    max_norm: float | None = None,
) -> WindowedText:
    """Read text and cut each context into windows, so that a window has its context's past.

    Pieces shorter than half a window are left out, and so are repetitions, which would be explained
    and tested on the same words. Everything is held in memory: `n_tokens` × d_in
    numbers of four bytes.

    **Arguments:**
    - `model`, `hook_point`: where activations are read.
    - `text`: anything `text_source` takes.
    - `n_tokens`: how much to read.
    - `window`: tokens in a window.
    - `context_size`: tokens that the model reads at once, special ones included; at most what the
      model can take.
    - `max_norm`: tokens with longer activations (attention sinks) are left out; None for no limit.

    **Raises:** `ConfigError` for an impossible window; `DataError` if there is too little text;
    `HookError` for an unknown hook point.
    """
    if window < 2 or n_tokens < window:
        raise ConfigError(
            f"a window of {window} tokens cannot be cut from {n_tokens}; expected at least 2, and "
            "text for at least one window."
        )
    context_size = min(context_size, model.max_context_size or context_size)
    pieces = list(
        contexts(model.tokenizer, text_source(text), context_size=context_size, n_tokens=n_tokens)
    )
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    begun = 0
    seen: set[tuple[int, ...]] = set()
    for start in range(0, len(pieces), _CONTEXTS_AT_ONCE):
        group = pieces[start : start + _CONTEXTS_AT_ONCE]
        rows, context, position = read_contexts(model, group, [hook_point])
        ids = torch.tensor([group[c].token_ids[p] for c, p in zip(context, position, strict=True)])
        within = torch.cat([torch.arange(int(n)) for n in torch.bincount(context)])
        number = context * (context_size // window + 1) + within // window
        _, index, counts = number.unique_consecutive(return_inverse=True, return_counts=True)
        kept = counts[index] >= (window + 1) // 2
        if max_norm is not None:
            kept &= rows[hook_point].norm(dim=-1) <= max_norm
        kept &= _new(index, ids, seen)[index]
        renumbered = index[kept].unique_consecutive(return_inverse=True)[1]
        parts.append((rows[hook_point][kept], renumbered + begun, ids[kept]))
        begun += int(renumbered[-1]) + 1 if len(renumbered) else 0
    if not begun:
        raise DataError(
            f"the text has no piece of at least {(window + 1) // 2} tokens; give longer documents."
        )
    x, index, ids = (torch.cat(each) for each in zip(*parts, strict=True))
    found = token_pieces(model.tokenizer, sorted(set(ids.tolist())))
    return WindowedText(
        x=x, window=index, token=ids, pieces={int(each): text for each, text in found.items()}
    )


def _new(
    window: Int[Tensor, " row"], ids: Int[Tensor, " row"], seen: set[tuple[int, ...]]
) -> Bool[Tensor, " window"]:
    """Which windows have not been seen before, by their tokens."""
    fresh = []
    for part in ids.split(torch.bincount(window).tolist()):
        tokens = tuple(part.tolist())
        fresh.append(tokens not in seen)
        seen.add(tokens)
    return torch.tensor(fresh, dtype=torch.bool)


@dataclass(frozen=True, kw_only=True, eq=False)
class Firings:
    """Every firing of an SAE's latents, by latent."""

    row: Int[np.ndarray, " firing"]
    """Rows of the text, rising within a latent."""
    value: Float[np.ndarray, " firing"]
    """Latent activations."""
    start: Int[np.ndarray, " bound"]
    """Where each latent's firings begin; one more entry at the end."""

    @property
    def width(self) -> int:
        """Number of latents."""
        return len(self.start) - 1

    def of(self, latent: int) -> tuple[Int[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        """Rows and activations of one latent."""
        part = slice(self.start[latent], self.start[latent + 1])
        return self.row[part], self.value[part]


@torch.no_grad()
def firings(sae: SAE, x: Float[Tensor, "row d_in"]) -> Firings:
    """Where each latent of an SAE fires.

    **Arguments:**
    - `sae`: one member, for raw activations.
    - `x`: activations.

    **Raises:** `ConfigError` for an ensemble.
    """
    if sae.members > 1:
        raise ConfigError(f"this SAE has {sae.members} members; give sae.take(i).")
    alone = sae.exported()
    rows, latents, values = [], [], []
    for start in range(0, len(x), _ROWS_AT_ONCE):
        z = alone.encode(x[start : start + _ROWS_AT_ONCE].to(alone.W_enc))[0].cpu()
        row, latent = z.nonzero(as_tuple=True)
        rows.append((row + start).numpy().astype(np.int64))
        latents.append(latent.numpy())
        values.append(z[row, latent].float().numpy())
    every = np.concatenate(latents)
    order = np.argsort(every, kind="stable")
    return Firings(
        row=np.concatenate(rows)[order],
        value=np.concatenate(values)[order],
        start=np.searchsorted(every[order], np.arange(alone.width + 1)),
    )
