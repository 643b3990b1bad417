"""A Hugging Face model, read at its hook points."""

import hashlib
import inspect
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from latent_assay.activations.hook_points import Block, Site, blocks
from latent_assay.activations.hooks import replacing, watching
from latent_assay.activations.loading import display_name, load_pretrained, predicts_next_token
from latent_assay.activations.verification import HookCheck, verify
from latent_assay.errors import ConfigError, HookError, did_you_mean

_SAMPLES_PER_TENSOR = 64
_NO_LIMIT = 10**9


class _DeepestReached(Exception):
    """Everything asked for has been read: the rest of the forward pass is not needed."""


class LanguageModel:
    """A model and its tokenizer, whose tensors can be read, replaced and verified by name.

    Hook points are Hugging Face module paths (`encoder.layer.3`, `transformer.h.3.mlp`) or
    TransformerLens names (`blocks.3.hook_resid_post`); `latent_assay.activations.hook_points`
    says which tensor each name is, family by family, and `reads` says it for one name.

    >>> from latent_assay.activations import LanguageModel, bundled_minilm
    >>> model = LanguageModel.load(bundled_minilm())
    >>> model.reads("blocks.3.hook_resid_post")
    'the output of encoder.layer.3'
    >>> model.d_in("blocks.3.mlp.hook_post")
    1536
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "a model given in memory",
        raw_config: dict[str, Any] | None = None,
    ) -> None:
        """Wrap a model that is already in memory; `load` is the usual way.

        **Arguments:**
        - `model`: a transformers model with a `config`, in evaluation mode.
        - `tokenizer`: its tokenizer.
        - `name`: how manifests call it.
        - `raw_config`: the content of its config.json, for the fingerprint.
        """
        self.model = model.eval()
        # documents are cut into contexts here, so this tokenizer need not warn of long ones
        self._tokenizer_limit = getattr(tokenizer, "model_max_length", None)
        self.tokenizer = copy(tokenizer)
        self.tokenizer.model_max_length = _NO_LIMIT
        self.name = name
        self.config: Any = model.config
        self.blocks: tuple[Block, ...] = blocks(model, self.config)
        has_parts = hasattr(self.config, "get_text_config")
        self._text_config = self.config.get_text_config() if has_parts else self.config
        self._raw_config = self.config.to_diff_dict() if raw_config is None else raw_config
        self._modules = dict(model.named_modules())
        self._names = {
            f"blocks.{i}.{name}": site
            for i, block in enumerate(self.blocks)
            for name, site in block.sites.items()
        }
        self._d_in: dict[Site, int] = {}
        self._fingerprint: str | None = None
        # hooks are the model's own: while one thread reads or replaces, another must wait
        self._lock = threading.RLock()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> "LanguageModel":
        """Load a model from a folder or, failing that, from the Hugging Face cache or hub.

        A causal language model (`*ForCausalLM`, `*LMHead*` in its configuration) keeps its head;
        anything else is loaded as a bare encoder. Weights come from safetensors files only, and
        no code from a repository is run.

        **Arguments:**
        - `name_or_path`: folder written by `save_pretrained`, or a name on the hub.
        - `device`: where the model runs.
        - `dtype`: floating-point type of weights and activations.
        - `revision`: branch, tag or commit on the hub.

        **Raises:** `DataError` if the model cannot be found or is incomplete, `ConfigError` for an
        unusable device, `MissingExtra` without transformers.
        """
        model, tokenizer, raw = load_pretrained(name_or_path, revision=revision, dtype=dtype)
        try:
            model = model.to(device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"the device `{device}` cannot be used: {str(error).splitlines()[0]} "
                "Use 'cpu', or a device that torch reports as available."
            ) from error
        return cls(model, tokenizer, name=display_name(name_or_path), raw_config=raw)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return next(self.model.parameters()).device

    @property
    def is_causal(self) -> bool:
        """Whether the model predicts the next token, so that `logits` exist."""
        return predicts_next_token(type(self.model).__name__)

    @property
    def max_context_size(self) -> int | None:
        """The longest context the model can read, special tokens included; None if unlimited."""
        positions = getattr(self._text_config, "max_position_embeddings", None)
        for path, module in self._modules.items():
            # RoBERTa counts positions from behind the padding token's number
            if path.endswith("position_embeddings") and isinstance(positions, int):
                offset = getattr(module, "padding_idx", None)
                positions -= 0 if offset is None else offset + 1
        limits = [limit for limit in (positions, self._tokenizer_limit) if isinstance(limit, int)]
        return min((limit for limit in limits if limit < _NO_LIMIT), default=None)

    @property
    def fingerprint(self) -> str:
        """A hash of configuration, vocabulary and a sample of every weight tensor.

        Two models with the same fingerprint give the same activations at every hook point; the
        name or folder plays no part. Cheap: at most 64 numbers per tensor are read.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256()
            ignored = {"_name_or_path", "transformers_version"}
            config = {key: value for key, value in self._raw_config.items() if key not in ignored}
            digest.update(json.dumps(config, sort_keys=True, default=str).encode())
            vocabulary = sorted(self.tokenizer.get_vocab().items())
            digest.update(json.dumps(vocabulary).encode())
            for name, tensor in sorted(self.model.state_dict().items()):
                if name.startswith("pooler."):  # may be made up, and is behind every hook point
                    continue
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                flat = tensor.detach().flatten()
                step = max(1, flat.numel() // _SAMPLES_PER_TENSOR)
                digest.update(flat[::step].double().cpu().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:32]
        return self._fingerprint

    def hook_points(self) -> list[str]:
        """Every name that can be read: TransformerLens names first, then module paths.

        A module path may also carry `:input`, for what the module reads instead of returns.
        """
        modules = [
            path
            for path, module in self._modules.items()
            if path and not isinstance(module, nn.ModuleList | nn.ModuleDict)
        ]
        return [*self._names, *modules]

    def site(self, hook_point: str) -> Site:
        """The tensor that a name stands for.

        **Raises:** `HookError` for an unknown name, with the nearest ones.
        """
        if hook_point in self._names:
            return self._names[hook_point]
        path, colon, side = hook_point.partition(":")
        if not colon or side in ("input", "output"):
            # `h.3.mlp` of the bare model is `transformer.h.3.mlp` of the model with its head
            prefix = getattr(self.model, "base_model_prefix", "") + "."
            for candidate in (path, prefix + path, path.removeprefix(prefix)):
                if candidate and candidate in self._modules:
                    return Site(candidate, "input" if side == "input" else "output")
        raise HookError(self._no_such_hook_point(hook_point))

    def _no_such_hook_point(self, hook_point: str) -> str:
        architecture = type(self.model).__name__
        parts = hook_point.split(".")
        if parts[0] == "blocks" and len(parts) > 2 and self.blocks:
            known = list(self.blocks[0].sites)
            if not (parts[1].isdecimal() and int(parts[1]) < len(self.blocks)):
                return (
                    f"{architecture} has no hook point `{hook_point}`: its blocks are numbered "
                    f"0 to {len(self.blocks) - 1}."
                )
            return (
                f"{architecture} has no hook point `{hook_point}`. Its blocks have "
                f"{', '.join(known)}.{did_you_mean('.'.join(parts[2:]), known)} "
                "A module path, as listed by hook_points(), is accepted too."
            )
        near = did_you_mean(hook_point, self.hook_points())
        example = next(iter(self._names), next(path for path in self._modules if path))
        return (
            f"{architecture} has no hook point `{hook_point}`.{near} Names look like `{example}`; "
            "hook_points() lists them all."
        )

    def module(self, path: str) -> nn.Module:
        """The module at a path; the whole model for the empty path."""
        return self._modules[path]

    def reads(self, hook_point: str) -> str:
        """Say in words which tensor a name stands for, as 'the output of encoder.layer.3'."""
        return str(self.site(hook_point))

    def d_in(self, hook_point: str) -> int:
        """Length of the vectors at a hook point, found by running two tokens through the model."""
        site = self.site(hook_point)
        if site not in self._d_in:
            token_ids = torch.zeros(1, 2, dtype=torch.int64)
            captured = self.capture(token_ids, torch.ones_like(token_ids), [hook_point])
            self._d_in[site] = captured[hook_point].shape[-1]
        return self._d_in[site]

    @torch.no_grad()
    def capture(
        self,
        token_ids: Int[Tensor, "batch position"],
        attention_mask: Int[Tensor, "batch position"] | Bool[Tensor, "batch position"],
        hook_points: Sequence[str],
    ) -> dict[str, Float[Tensor, "batch position d_in"]]:
        """Read several hook points in one forward pass, which stops at the deepest of them.

        **Arguments:**
        - `token_ids`: contexts, padded on the right.
        - `attention_mask`: 1 or True where there is a token, 0 or False where there is padding;
          what is read at padding means nothing.
        - `hook_points`: names.

        **Returns:** a tensor per name, on the model's device and in its type.

        **Raises:** `HookError` for an unknown name, a module that does not run, or a tensor that
        is not one vector per position.
        """
        if isinstance(hook_points, str):
            hook_points = [hook_points]
        sites = {name: self.site(name) for name in hook_points}
        wanted = set(sites.values())
        read: dict[Site, Tensor] = {}

        def keep(site: Site, tensor: Tensor) -> None:
            # a clone, because some models go on to add to their residual stream in place
            read.setdefault(site, tensor.clone())
            if len(read) == len(wanted):
                raise _DeepestReached

        with self._lock, watching(self._modules, wanted, keep), suppress(_DeepestReached):
            self._forward(token_ids, attention_mask)
        for name, site in sites.items():
            if site not in read:
                raise HookError(
                    f"`{name}` was not reached: {site.module} does not run in the forward pass of "
                    f"{type(self.model).__name__}. Choose a module that does, such as its parent."
                )
            if read[site].ndim != 3 or read[site].shape[:2] != token_ids.shape:
                raise HookError(
                    f"`{name}` has shape {list(read[site].shape)}; expected one vector per "
                    f"position, {[*token_ids.shape, 'd_in']}. Choose another hook point."
                )
        return {name: read[site] for name, site in sites.items()}

    @contextmanager
    def replace(self, hook_point: str, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Within the block, the model goes on with `function(x)` instead of `x` at a hook point.

        For splicing an SAE's reconstruction into a model. Several replacements may be nested. A
        stream that reads the model in another thread waits until the block ends.

        **Arguments:**
        - `hook_point`: a name.
        - `function`: from `[batch, position, d_in]` to the same shape; called once per forward
          pass, on the model's device and in its type.

        **Raises:** `HookError` for an unknown name; `ShapeError`, during the forward pass, if the
        function changes the shape.
        """
        site = self.site(hook_point)
        with self._lock, replacing(self._modules[site.module], site, hook_point, function):
            yield

    @torch.no_grad()
    def logits(
        self,
        token_ids: Int[Tensor, "batch position"],
        attention_mask: Int[Tensor, "batch position"] | Bool[Tensor, "batch position"],
    ) -> Float[Tensor, "batch position vocabulary"]:
        """What a causal model predicts after each position, before the softmax.

        **Raises:** `ConfigError` for an encoder, which predicts no next token.
        """
        if not self.is_causal:
            raise ConfigError(
                f"{type(self.model).__name__} is an encoder and predicts no next token, so it has "
                "no logits. Use a causal language model such as GPT-2, Pythia, Llama or Gemma."
            )
        return self._forward(token_ids, attention_mask).logits

    def hidden_states(
        self,
        token_ids: Int[Tensor, "batch position"],
        attention_mask: Int[Tensor, "batch position"] | Bool[Tensor, "batch position"],
    ) -> tuple[Float[Tensor, "batch position d_model"], ...]:
        """The model's own `output_hidden_states`: block inputs, then the final output.

        In causal models the last one has passed through the final norm.
        """
        with torch.no_grad():
            output = self._forward(token_ids, attention_mask, output_hidden_states=True)
        states = getattr(output, "hidden_states", None)
        if states is None:
            raise HookError(
                f"{type(self.model).__name__} gives no hidden states, so its hook points cannot be "
                "verified. Save its activations yourself and use ActivationStore.from_tensor."
            )
        return tuple(states)

    def verify(
        self, hook_points: Sequence[str] | None = None, texts: Sequence[str] | None = None
    ) -> dict[str, HookCheck]:
        """Prove that each name reads the tensor it claims; see `verification.verify`."""
        with self._lock:  # module calls are counted, which must be one's own
            return verify(self, hook_points, texts)

    def _forward(self, token_ids: Tensor, attention_mask: Tensor, **options: bool) -> Any:
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            options["use_cache"] = False
        with self._lock:
            return self.model(
                input_ids=token_ids.to(self.device),
                attention_mask=attention_mask.to(self.device, torch.int64),
                **options,
            )
