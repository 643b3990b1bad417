r"""Proof that a hook point reads the tensor that its name claims.

Three things are put to the test, on a few sentences:

1. *The stream.* What block N reads must equal the model's own `hidden_states[N]`, and what it
   returns `hidden_states[N + 1]` (behind the last block of a causal model: after the final norm).
2. *The parts.* Contributions must add up: in a block that normalises before attention and MLP,
   `resid_post = resid_pre + attn_out + mlp_out`; in BERT the same holds before each LayerNorm; and
   an output projection must be the last step of its attention or MLP.
3. *Once per pass.* A module that runs several times in one forward pass (shared layers) has no
   single activation.

Tensors are read through the same code as in a harvest, with the forward pass cut short, and
compared with a complete forward pass.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from latent_assay.activations.contexts import pad
from latent_assay.activations.hook_points import Block, Site
from latent_assay.errors import HookError

_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Water boils at a hundred degrees, unless the air is thin.",
    "def area(radius): return 3.14159 * radius ** 2",
)
# Relative to the root mean square of the reference: rounding is far below, a wrong layer far above.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
_TOLERANCE_IN_HALF_PRECISION = 0.1


@dataclass(frozen=True, kw_only=True)
class HookCheck:
    """What was compared at one hook point, and how well it agreed."""

    compared_with: str
    """What the tensor was held against; 'nothing' if the model has no second way to it."""
    max_abs_difference: float
    """Largest difference between any two numbers; 0.0 where nothing could be compared."""
    reference_rms: float
    """Root mean square of what it was compared with, for scale; 0.0 where nothing was."""
    n_tokens: int
    """Number of positions that were compared."""


@runtime_checkable
class Readable(Protocol):
    """What of a `LanguageModel` is needed here."""

    tokenizer: Any
    blocks: tuple[Block, ...]

    @property
    def max_context_size(self) -> int | None:
        """The longest context the model can read."""
        ...

    def site(self, hook_point: str) -> Site:
        """The tensor that a name stands for."""
        ...

    def module(self, path: str) -> nn.Module:
        """The module at a path."""
        ...

    def capture(
        self, token_ids: Tensor, attention_mask: Tensor, hook_points: Sequence[str]
    ) -> dict[str, Tensor]:
        """Read several hook points in one forward pass."""
        ...

    def hidden_states(self, token_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """The model's own hidden states."""
        ...


_NOTHING = HookCheck(compared_with="nothing", max_abs_difference=0.0, reference_rms=0.0, n_tokens=0)


def verify(
    model: Readable,
    hook_points: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
) -> dict[str, HookCheck]:
    """Compare hook points with the model's own `output_hidden_states` and with each other.

    A module path that is neither the stream nor a part of it (a LayerNorm's output, say) has no
    second way to it; it is only checked to run exactly once.

    **Arguments:**
    - `model`: the model.
    - `hook_points`: names to check; None for every TransformerLens name.
    - `texts`: sentences to check on; None for three built-in ones.

    **Returns:** one comparison per name, the worst if there were several.

    **Raises:** `HookError` if a name reads another tensor than it should.

    >>> from latent_assay.activations import LanguageModel, bundled_minilm
    >>> model = LanguageModel.load(bundled_minilm())
    >>> check = verify(model, ["blocks.3.hook_resid_post"])["blocks.3.hook_resid_post"]
    >>> check.compared_with, check.max_abs_difference
    ('hidden_states[4]', 0.0)
    """
    if hook_points is None:
        hook_points = [f"blocks.{i}.{name}" for i, b in enumerate(model.blocks) for name in b.sites]
    if isinstance(hook_points, str):
        hook_points = [hook_points]
    batch = model.tokenizer(list(texts or _TEXTS))["input_ids"]
    token_ids, mask = pad([ids[: model.max_context_size] for ids in batch])
    sites = {name: model.site(name) for name in hook_points}
    calls = _count_calls(model, {site.module for site in sites.values()}, token_ids, mask)
    hidden = model.hidden_states(token_ids, mask)

    checks = {}
    for name, site in sites.items():
        if calls[site.module] > 1:
            raise HookError(
                f"`{name}` runs {calls[site.module]} times in one forward pass (shared layers), so "
                "it has no single activation. Choose another hook point."
            )
        checks[name] = max(
            (
                _compare(name, what, found[mask], reference[mask])
                for what, found, reference in _references(model, site, token_ids, mask, hidden)
            ),
            key=lambda check: check.max_abs_difference / check.reference_rms,
            default=_NOTHING,
        )
    return checks


def _references(
    model: Readable,
    site: Site,
    token_ids: Int[Tensor, "batch position"],
    mask: Bool[Tensor, "batch position"],
    hidden: tuple[Tensor, ...],
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Every second way to a tensor: what it is, the tensor as captured, what it must equal."""
    stream = {b.sites[end] for b in model.blocks for end in ("hook_resid_pre", "hook_resid_post")}
    for i, block in enumerate(model.blocks):
        if site == block.sites["hook_resid_pre"]:
            found = model.capture(token_ids, mask, [site.path])[site.path]
            yield f"hidden_states[{i}]", found, hidden[i].to(found.device)
        if site == block.sites["hook_resid_post"]:
            found = model.capture(token_ids, mask, [site.path])[site.path]
            reference = hidden[i + 1].to(found.device)
            if i + 1 < len(model.blocks) or torch.equal(found, reference):
                yield f"hidden_states[{i + 1}]", found, reference
            else:
                yield (
                    f"hidden_states[{i + 1}]",
                    _final_norm(model, site, found, reference),
                    reference,
                )
        # the stream is proved by the model itself, whether or not its parts simply add up
        for equation in () if site in stream else block.sums:
            members = (equation.total, *equation.terms)
            projected = site.side == "input" and Site(site.module) in equation.terms
            if site not in members and not projected:
                continue
            read = model.capture(token_ids, mask, [s.path for s in {*members, site}])
            parts = [
                _apply(model, term.module, read[site.path])
                if projected and term.module == site.module
                else read[term.path]
                for term in equation.terms
            ]
            what = f"{equation.total} = {' + '.join(str(term) for term in equation.terms)}"
            yield what, torch.stack(parts).sum(dim=0), read[equation.total.path]


@torch.no_grad()
def _apply(model: Readable, module: str, x: Tensor) -> Tensor:
    return model.module(module)(x)


def _final_norm(model: Readable, site: Site, found: Tensor, reference: Tensor) -> Tensor:
    """What the last block returns, after the norm beside the blocks that leads to `reference`."""
    parent = site.module.rpartition(".")[0].rpartition(".")[0]
    for name, _ in model.module(parent).named_children():
        if "norm" in name or name.startswith("ln"):
            normed = _apply(model, f"{parent}.{name}".lstrip("."), found)
            if torch.equal(normed, reference):
                return normed
    return found


def _count_calls(
    model: Readable, modules: set[str], token_ids: Tensor, mask: Tensor
) -> Counter[str]:
    """How often each module runs in one complete forward pass."""
    calls: Counter[str] = Counter()
    handles = [
        # the default binds this round's path, not the last one's
        model.module(path).register_forward_pre_hook(lambda *_, path=path: calls.update([path]))
        for path in modules
    ]
    try:
        model.hidden_states(token_ids, mask)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _compare(
    name: str,
    what: str,
    found: Float[Tensor, "token d_in"],
    reference: Float[Tensor, "token d_in"],
) -> HookCheck:
    difference = (found.double() - reference.double()).abs().max().item()
    rms = reference.double().square().mean().sqrt().item()
    if not difference <= _TOLERANCE.get(found.dtype, _TOLERANCE_IN_HALF_PRECISION) * rms:
        raise HookError(
            f"`{name}` does not read what its name says: expected {what}, but the two differ by "
            f"{difference:.3g} where typical numbers are {rms:.3g}. This model is built otherwise "
            "than the name assumes; use a module path from hook_points() whose tensor you know."
        )
    return HookCheck(
        compared_with=what,
        max_abs_difference=difference,
        reference_rms=rms,
        n_tokens=found.shape[0],
    )
