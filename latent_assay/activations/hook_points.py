r"""What a hook point's name stands for: one tensor of the forward pass.

Two kinds of names are understood. A *Hugging Face module path* (`transformer.h.3.mlp`) is that
module's output, or, with `:input` behind it, the first tensor that it reads; of a tuple the first
element counts. A *TransformerLens name* (`blocks.3.hook_resid_post`) is translated by looking at
the model's own modules, not at a list of models:

| TransformerLens name        | tensor read here                                                   |
|-----------------------------|--------------------------------------------------------------------|
| `blocks.N.hook_resid_pre`   | what block N reads                                                 |
| `blocks.N.hook_attn_out`    | what attention adds to the residual stream                         |
| `blocks.N.hook_resid_mid`   | the residual stream between attention and MLP                      |
| `blocks.N.hook_mlp_out`     | what the MLP adds to the residual stream                           |
| `blocks.N.hook_resid_post`  | what block N returns, which block N+1 reads                        |
| `blocks.N.attn.hook_z`      | what attention's output projection reads: all heads, side by side  |
| `blocks.N.mlp.hook_post`    | what the MLP's output projection reads: its neurons                |

By family, with block N at `transformer.h.N`, `gpt_neox.layers.N`, `model.layers.N`,
`encoder.layer.N`:

- **GPT-2**: attention and MLP outputs are those of `attn` and `mlp`; `resid_mid` is read by `ln_2`.
- **GPT-NeoX (Pythia)**: `attention` and `mlp`. They run side by side on the same input, so there
  is no `resid_mid` (unless `use_parallel_residual` is false).
- **Llama, Mistral, Qwen**: `self_attn` and `mlp`; `resid_mid` is read by
  `post_attention_layernorm`, which in spite of its name belongs to the MLP.
- **Gemma 2 and 3**: attention and MLP outputs pass through `post_attention_layernorm` and
  `post_feedforward_layernorm` before they are added; the names read the tensor *after* those.
- **BERT, RoBERTa, DistilBERT** (LayerNorm after the addition): `hook_attn_out` and `hook_mlp_out`
  are the outputs of `attention.output.dense` and `output.dense`, before the addition and its
  LayerNorm. `hook_resid_mid` is the sum before the first LayerNorm. `hook_resid_post`, also called
  `hook_normalized_resid_post`, is the block's output *after* its last LayerNorm, the model's own
  `hidden_states[N + 1]`. (TransformerLens's old HookedEncoder gives the sum before that LayerNorm
  as `hook_resid_post`; here that is `encoder.layer.N.output.LayerNorm:input`.)

The module paths `attention` and `self_attn` are, as in the model itself, tuples whose first
element is read; in BERT `encoder.layer.N.attention` is the stream after addition and LayerNorm.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

_ATTENTION = re.compile(r"^(self_)?att(n|ention)$")
_MLP = re.compile(r"^(mlp|ffn|feed_?forward|ff)$")
_ATTENTION_PROJECTIONS = ("o_proj", "c_proj", "out_proj", "dense", "out_lin", "wo", "Wo")
_MLP_PROJECTIONS = ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2", "lin2", "wo", "Wo")
_OTHER_TOWERS = re.compile(r"vision|audio|image|speech")


@dataclass(frozen=True)
class Site:
    """One tensor of a forward pass."""

    module: str
    """Path of a module from the root of the model."""
    side: Literal["input", "output"] = "output"
    """Whether the tensor is what the module reads or what it returns."""

    @property
    def path(self) -> str:
        """The name by which the model knows it: a module path, perhaps with `:input`."""
        return self.module if self.side == "output" else f"{self.module}:input"

    def __str__(self) -> str:
        return f"the {self.side} of {self.module}"


@dataclass(frozen=True)
class Sum:
    """What must hold if the names were translated rightly: `total` is the sum of `terms`."""

    total: Site
    """The sum."""
    terms: tuple[Site, ...]
    """What is added."""


@dataclass(frozen=True)
class Block:
    """One block of a model: where its hook points are, and how they must add up."""

    sites: dict[str, Site]
    """TransformerLens name within the block to tensor, as `hook_mlp_out`."""
    sums: tuple[Sum, ...]
    """Equations between these tensors, which `verify` puts to the test."""


def blocks(model: nn.Module, config: Any) -> tuple[Block, ...]:
    """Look at a model's modules and say where the hook points of each block are.

    The blocks are the outermost `ModuleList` that is as long as the configuration says. A model
    without one (ALBERT shares one block among all layers) has no TransformerLens names.

    **Arguments:**
    - `model`: the whole model; paths are counted from it.
    - `config`: its Hugging Face configuration.

    **Returns:** one entry per block, or none.
    """
    text_config = config.get_text_config() if hasattr(config, "get_text_config") else config
    n_blocks = getattr(text_config, "num_hidden_layers", None)
    parallel = bool(getattr(text_config, "use_parallel_residual", False))
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_blocks:
            if _OTHER_TOWERS.search(path):
                continue
            return tuple(_block(f"{path}.{i}", child, parallel) for i, child in enumerate(module))
    return ()


def _block(path: str, block: nn.Module, parallel: bool) -> Block:
    children = dict(block.named_children())
    paths = {name for name, _ in block.named_modules()}
    attention = _only(name for name in children if _ATTENTION.match(name))
    mlp = _only(name for name in children if _MLP.match(name))

    def site(relative: str | None, side: Literal["input", "output"] = "output") -> Site | None:
        return Site(f"{path}.{relative}", side) if relative in paths else None

    pre, post = Site(path, "input"), Site(path)
    found: dict[str, Site | None] = {"hook_resid_pre": pre, "hook_resid_post": post}
    sums: list[tuple[Site | None, tuple[Site | None, ...]]] = []

    if attention:
        projection = _projection(children[attention], attention, _ATTENTION_PROJECTIONS)
        found["attn.hook_z"] = site(projection, "input")
        if projection != f"{attention}.output.dense":  # BERT's is the contribution itself
            sums.append((site(attention), (site(projection),)))

    norms = _norms_after_addition(paths, attention)
    if norms is not None:
        first, last = norms
        attn_out = site("attention.output.dense") or site(attention)
        mlp_out = site("output.dense") or site(mlp)
        mid = site(first, "input")
        found |= {"hook_resid_mid": mid, "hook_normalized_resid_post": post}
        sums.append((mid, (pre, attn_out)))
        sums.append((site(last, "input"), (site(first), mlp_out)))
        sums.append((post, (site(last),)))
        neurons = (
            "output.dense" if mlp is None else _projection(children[mlp], mlp, _MLP_PROJECTIONS)
        )
    else:
        sandwiched = "post_feedforward_layernorm" in paths
        attn_out = site("post_attention_layernorm") if sandwiched else site(attention)
        mlp_out = site("post_feedforward_layernorm") if sandwiched else site(mlp)
        mid_reader = (
            "pre_feedforward_layernorm"
            if sandwiched
            else _only(name for name in ("ln_2", "post_attention_layernorm") if name in paths)
        )
        mid = None if parallel else site(mid_reader, "input")
        found["hook_resid_mid"] = mid
        sums.append((mid, (pre, attn_out)))
        sums.append((post, (pre, attn_out, mlp_out)))
        neurons = None if mlp is None else _projection(children[mlp], mlp, _MLP_PROJECTIONS)
    if mlp is not None and neurons is not None:
        sums.append((site(mlp), (site(neurons),)))
    found |= {"hook_attn_out": attn_out, "hook_mlp_out": mlp_out}
    found["mlp.hook_post"] = site(neurons, "input")

    complete = [
        Sum(total, tuple(term for term in terms if term is not None))
        for total, terms in sums
        if total is not None and None not in terms
    ]
    return Block({name: s for name, s in found.items() if s is not None}, tuple(complete))


def _norms_after_addition(paths: set[str], attention: str | None) -> tuple[str, str] | None:
    """The two LayerNorms of a block that normalises after adding, as BERT and DistilBERT do."""
    for first, last in (
        ("attention.output.LayerNorm", "output.LayerNorm"),
        ("sa_layer_norm", "output_layer_norm"),
    ):
        if attention is not None and first in paths and last in paths:
            return first, last
    return None


def _projection(module: nn.Module, path: str, names: tuple[str, ...]) -> str | None:
    """The one linear map through which a submodule's result leaves it, if it is unmistakable."""
    candidates = [
        name
        for name, child in module.named_modules()
        if name.rpartition(".")[2] in names and hasattr(child, "weight")
    ]
    only = _only(candidates)
    return None if only is None else f"{path}.{only}"


def _only(names: Iterator[str] | list[str]) -> str | None:
    """The single element, or None if there are none or several."""
    found = list(names)
    return found[0] if len(found) == 1 else None
