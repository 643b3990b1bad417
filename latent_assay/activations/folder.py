r"""What a harvest looks like on disk.

    manifest.json               what was asked for, and whether it is finished
    contexts-00000.safetensors  token numbers of the contexts, shard by shard
    pieces.json                 how each token that occurs looks in text
    <hook point>/manifest.json  everything about these activations
    <hook point>/shard-00000.safetensors

`harvest` writes it, `ActivationStore.open` reads it.
"""

import json
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from latent_assay.activations.contexts import Context
from latent_assay.activations.shards import opened
from latent_assay.atomic import write_tensors
from latent_assay.errors import DataError, FormatError

FORMAT = "latent-assay activations"
VERSION = 2


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a harvest or of one of its hook points.

    **Raises:** `FormatError` if there is none, or it is of a newer format.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise FormatError(
            f"'{folder}' is not a harvest: it has no manifest.json. Give the folder that harvest "
            "wrote; for activations of your own use ActivationStore.from_file."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"'{path}' cannot be read: {error}. Harvest anew.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise FormatError(f"'{path}' is not the manifest of a harvest. Check the folder.")
    if manifest.get("version") != VERSION:
        raise FormatError(
            f"'{path}' is of format version {manifest.get('version')}; this release reads "
            f"{VERSION}. Update latent-assay, or harvest anew."
        )
    lacking = [key for key in ("complete", "request", "folders", "contexts") if key not in manifest]
    if lacking:
        raise FormatError(f"'{path}' lacks {', '.join(lacking)}. Restore it, or harvest anew.")
    return manifest


def facts(request: dict[str, Any], hook_point: str) -> dict[str, Any]:
    """What a shard says of itself, so that one of another harvest is not taken for it.

    **Arguments:**
    - `request`: what was asked for, as the manifest records it.
    - `hook_point`: name of the activations.
    """
    names = (
        "dtype", "context_size", "pack", "skip_special_tokens", "skip_norm_outliers",
        "outlier_ratio", "shuffle_seed",
    )  # fmt: skip
    return {
        "hook_point": hook_point,
        "model": request["model"]["fingerprint"],
        "text": request["text"]["hash"],
        **{name: request[name] for name in names},
    }


def context_file(number: int) -> str:
    """Name of a file of contexts."""
    return f"contexts-{number:05d}.safetensors"


def shard_file(number: int) -> str:
    """Name of a file of activations."""
    return f"shard-{number:05d}.safetensors"


def write_contexts(path: Path, group: list[Context]) -> None:
    """Write the token numbers of a group of contexts."""
    token_ids = list(chain.from_iterable(context.token_ids for context in group))
    special = list(chain.from_iterable(context.special for context in group))
    tensors = {
        "token_ids": torch.tensor(token_ids, dtype=torch.int32),
        "special": torch.tensor(special),
        "ends": torch.tensor([len(context.token_ids) for context in group]).cumsum(0),
        "n_text_tokens": torch.tensor(len(special) - sum(special)),
    }
    write_tensors(path, tensors)


def compare_contexts(path: Path, group: list[Context], *, whole: bool) -> None:
    """Compare contexts with those in a file, or, unless `whole`, with its beginning.

    **Raises:** `DataError` if they differ, `FormatError` if the file is damaged.
    """
    with opened(path) as file:
        token_ids, ends = file.get_tensor("token_ids"), file.get_tensor("ends")
    expected = torch.tensor(list(chain.from_iterable(context.token_ids for context in group)))
    lengths = torch.tensor([len(context.token_ids) for context in group]).cumsum(0)
    same = (
        (len(ends) == len(group) if whole else len(ends) >= len(group))
        and torch.equal(ends[: len(group)].long(), lengths)
        and torch.equal(token_ids[: len(expected)].long(), expected)
    )
    if not same:
        raise DataError(
            f"the text has changed since the harvest in '{path.parent}' was begun: its contexts "
            f"differ from those in {path.name}. Choose another folder, or delete that one."
        )


def token_pieces(tokenizer: Any, token_ids: list[int]) -> dict[str, str]:
    """How each token looks behind another: with its space, without the vocabulary's own marks."""
    options = {"clean_up_tokenization_spaces": False, "skip_special_tokens": False}
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1]
    before = tokenizer.decode([anchor], **options)
    pieces = {}
    for token in token_ids:
        both = tokenizer.decode([anchor, token], **options)
        alone = both.removeprefix(before)
        pieces[str(token)] = alone if both != alone else tokenizer.decode([token], **options)
    return pieces


class ContextFiles:
    """The token numbers of every context of a harvest, and how each token looks in text."""

    def __init__(self, folder: Path, files: list[dict[str, Any]]) -> None:
        self._folder = folder
        self._files = [str(file["file"]) for file in files]
        self._counts = [int(file["n_contexts"]) for file in files]
        self.n_contexts = sum(self._counts)
        self._load = lru_cache(maxsize=4)(self._load_file)  # contexts are asked for in clusters

    def context(self, index: int) -> Int[Tensor, " position"]:
        """Token numbers of one context."""
        if not 0 <= index < self.n_contexts:
            raise DataError(
                f"context {index} was asked for; this harvest has contexts 0 to "
                f"{self.n_contexts - 1}."
            )
        number = 0
        while index >= self._counts[number]:
            index -= self._counts[number]
            number += 1
        token_ids, ends = self._load(number)
        start = 0 if index == 0 else int(ends[index - 1])
        return token_ids[start : int(ends[index])].long()

    @cached_property
    def pieces(self) -> dict[int, str]:
        """How each token that occurs looks in running text."""
        path = self._folder / "pieces.json"
        try:
            return {int(token): text for token, text in json.loads(path.read_text("utf-8")).items()}
        except (OSError, ValueError) as error:
            raise FormatError(
                f"'{path}' cannot be read: {error}. Run the same harvest again to restore it."
            ) from error

    def _load_file(self, number: int) -> tuple[Tensor, Tensor]:
        path = self._folder / self._files[number]
        with opened(path) as file:
            return file.get_tensor("token_ids"), file.get_tensor("ends")
