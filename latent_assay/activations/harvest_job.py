"""The work of a harvest: what is on disk already, what is still to be read, what to write.

A shard is complete once its file of contexts exists, which is written last. Its files depend on
nothing but the request and the text, so a shard that is lost can be made again, byte for byte.
"""

import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from latent_assay.activations.contexts import Context
from latent_assay.activations.folder import (
    FORMAT,
    VERSION,
    compare_contexts,
    context_file,
    facts,
    read_manifest,
    shard_file,
    token_pieces,
    write_contexts,
)
from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.reading import lengths, read_contexts
from latent_assay.activations.shards import Shard, content_hash, file_size, opened, stated_facts
from latent_assay.activations.store import ActivationStore
from latent_assay.atomic import write_json, write_tensors
from latent_assay.errors import DataError, FormatError

# Holds the place of a shard that another process is writing.
_ELSEWHERE = Shard(file="", bytes=0, n_rows=0, norm_sum=0.0, n_outliers=0, sha256="")


@dataclass
class HarvestJob:
    """One harvest while it runs."""

    model: LanguageModel
    """The model that reads."""
    folder: Path
    """Where the harvest is kept."""
    request: dict[str, Any]
    """What was asked for, as the manifest records it."""
    widths: dict[str, int]
    """Hook point to the length of its activations."""
    dtype: torch.dtype
    """Type in which they are kept."""
    batch_size: int
    """Contexts per forward pass."""

    def __post_init__(self) -> None:
        self.folders = {name: name.replace(":", "--") for name in self.widths}
        self.context_files: list[dict[str, Any]] = []
        self.shards: dict[str, list[Shard]] = {name: [] for name in self.widths}
        self.thresholds: dict[str, float] = {}
        self.medians: dict[str, float] = {}
        self.vocabulary: set[int] = set()
        self._awaited: dict[int, int] = {}
        self.n_contexts = 0
        self.n_tokens = 0
        self.n_special = 0

    # --- what is on disk already ------------------------------------------------------------------

    def is_complete(self) -> bool:
        """Whether the folder holds this harvest, finished and undamaged.

        **Raises:** `DataError` if it holds another one, or other things.
        """
        if not (self.folder / "manifest.json").exists():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise DataError(
                    f"the folder '{self.folder}' holds other files and no harvest. Choose a new "
                    "folder, or empty this one."
                )
            return False
        manifest = read_manifest(self.folder)
        self._compare(manifest["request"])
        if not manifest["complete"]:
            return False
        try:
            for name in self.widths:
                ActivationStore.open(self.folder, name)
            pieces = file_size(self.folder / "pieces.json")
            sizes = [file_size(self.folder / f["file"]) for f in manifest["contexts"]]
        except FormatError:
            return False  # what is damaged or missing is computed anew
        return pieces is not None and sizes == [file["bytes"] for file in manifest["contexts"]]

    def _compare(self, found: dict[str, Any]) -> None:
        ours, theirs = _comparable(self.request), _comparable(found)
        for field, asked in ours.items():
            if theirs.get(field) != asked:
                raise DataError(
                    f"the folder '{self.folder}' holds another harvest: its {field} is "
                    f"{theirs.get(field)!r}, asked for was {asked!r}. Choose another folder, ask "
                    "for the same, or delete that folder."
                )

    def n_tokens_on_disk(self) -> int:
        """Tokens of text in the contexts that were written before an interruption."""
        total = 0
        for path in self.folder.glob("contexts-*.safetensors"):
            try:
                with opened(path) as file:
                    total += int(file.get_tensor("n_text_tokens"))
            except FormatError:
                path.unlink()  # damaged: that shard is done again
        return total

    # --- the work ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Leave a manifest that says what is under way."""
        write_json(self.folder / "manifest.json", self._manifest(complete=False))

    def shard(self, number: int, group: list[Context], bar: "tqdm[Any]") -> None:
        """Harvest one group of contexts, unless it is there already."""
        first_context = self.n_contexts
        self._count(group)
        path = self.folder / context_file(number)
        done: dict[str, Shard | None] = dict.fromkeys(self.widths)
        if path.is_file():
            compare_contexts(path, group, whole=True)
            done = {name: self._described(name, number) for name in self.widths}
        todo = [name for name, shard in done.items() if shard is None]
        computed = self._compute(group, first_context, number, todo, bar) if todo else {}
        # contexts come last: where they are, the whole shard once was
        if not path.is_file():
            write_contexts(path, group)
        for name, shards in self.shards.items():
            shards.append(done[name] or computed[name])
        self.context_files.append(
            {"file": path.name, "n_contexts": len(group), "bytes": path.stat().st_size}
        )

    def leave_to_others(self, number: int, group: list[Context]) -> None:
        """Count a group that another process harvests; `collect` takes in its shard."""
        self._count(group)
        self._awaited[number] = len(group)
        for shards in self.shards.values():
            shards.append(_ELSEWHERE)
        self.context_files.append({})

    def collect(self) -> None:
        """Take in the shards that other processes have written.

        **Raises:** `DataError` if one is missing.
        """
        while self._awaited:
            number, n_contexts = self._awaited.popitem()
            path = self.folder / context_file(number)
            for name, shards in self.shards.items():
                shard = self._described(name, number) if path.is_file() else None
                if shard is None:
                    raise DataError(
                        f"another process should have written shard {number} of `{name}` to "
                        f"'{self.folder}', but it is not there. Every process must see the same "
                        "folder; then run again: what is complete is kept."
                    )
                shards[number] = shard
            self.context_files[number] = {
                "file": path.name,
                "n_contexts": n_contexts,
                "bytes": path.stat().st_size,
            }

    def _count(self, group: list[Context]) -> None:
        self.n_contexts += len(group)
        self.n_tokens += sum(context.n_text_tokens for context in group)
        self.n_special += sum(sum(context.special) for context in group)
        for context in group:
            self.vocabulary.update(context.token_ids)

    def finish(self, checks: dict[str, Any]) -> None:
        """Write what is known only at the end: pieces, statistics, manifests."""
        pieces = token_pieces(self.model.tokenizer, sorted(self.vocabulary))
        write_json(self.folder / "pieces.json", pieces)
        for name, shards in self.shards.items():
            n_rows = sum(shard.n_rows for shard in shards)
            if n_rows == 0:
                raise DataError(f"no activation of `{name}` is left. Check the outlier settings.")
            manifest = self._manifest(complete=True) | {
                "hook_point": name,
                "reads": self.model.reads(name),
                "d_in": self.widths[name],
                "dtype": self.request["dtype"],
                "n_rows": n_rows,
                "mean_norm": sum(shard.norm_sum for shard in shards) / n_rows,
                "special_tokens": {
                    "left_out": self.request["skip_special_tokens"],
                    "n_special": self.n_special,
                },
                "norm_outliers": {
                    "left_out": self.request["skip_norm_outliers"],
                    "n_outliers": sum(shard.n_outliers for shard in shards),
                    "median_norm": self.medians[name],
                    "threshold": self.thresholds.get(name),
                },
                "verification": checks[name],
                "shards": [asdict(shard) for shard in shards],
            }
            write_json(self.folder / self.folders[name] / "manifest.json", manifest)
        # left behind where a harvest was killed: our drafts, and those that safetensors makes;
        # before the folder is called complete, as nobody looks for them afterwards
        for pattern in (".*.part", ".tmp*"):
            for draft in self.folder.rglob(pattern):
                draft.unlink()
        write_json(self.folder / "manifest.json", self._manifest(complete=True))

    def _compute(
        self,
        group: list[Context],
        first_context: int,
        number: int,
        names: list[str],
        bar: "tqdm[Any]",
    ) -> dict[str, Shard]:
        """Run the model over a group of contexts and write one shard per hook point."""
        rows, context, position = read_contexts(
            self.model,
            group,
            names,
            dtype=self.dtype,
            batch_size=self.batch_size,
            skip_special_tokens=self.request["skip_special_tokens"],
            advance=bar.update,
        )
        context += first_context
        return {
            name: self._write_shard(name, number, rows.pop(name), context, position)
            for name in names
        }

    def _write_shard(
        self, name: str, number: int, x: Tensor, context: Tensor, position: Tensor
    ) -> Shard:
        norms = lengths(x)
        if not torch.isfinite(norms).all():
            raise DataError(
                f"`{name}` gave numbers that are not finite in {self.request['dtype']}. Keep the "
                "activations in float32, and load the model in float32 or bfloat16."
            )
        threshold = None
        if self.request["skip_norm_outliers"]:
            median = float(norms.median())
            self._remember(name, median, self.request["outlier_ratio"] * median)
            threshold = self.thresholds[name]
        else:
            self._remember(name, float(norms.median()), None)
        usual = (
            torch.ones_like(norms, dtype=torch.bool) if threshold is None else norms <= threshold
        )
        tensors = {
            "outlier_context": context[~usual].int(),
            "outlier_position": position[~usual].int(),
        }
        kept = usual.nonzero().squeeze(1)
        if (seed := self.request["shuffle_seed"]) is not None:
            kept = kept[torch.randperm(len(kept), generator=_generator(seed, number))]
        if seed is not None or len(kept) < len(x):
            x, norms, context, position = x[kept], norms[kept], context[kept], position[kept]
        tensors |= {
            "activations": x,
            "context": context.int(),
            "position": position.int(),
            "sum": _sum(x),
        }
        notes: dict[str, Any] = {
            "n_rows": len(x),
            "norm_sum": float(norms.sum()),
            "n_outliers": len(tensors["outlier_context"]),
            "sha256": content_hash(tensors),
        }
        remembered = {
            "median": self.medians[name],
            "threshold": threshold,
            "facts": facts(self.request, name),
        }
        path = self.folder / self.folders[name] / shard_file(number)
        write_tensors(path, tensors, {"harvest": json.dumps(notes | remembered)})
        return Shard(file=path.name, bytes=path.stat().st_size, **notes)

    def _manifest(self, *, complete: bool) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "complete": complete,
            "request": self.request,
            "batch_size": self.batch_size,
            "n_tokens": self.n_tokens,
            "n_contexts": self.n_contexts,
            "folders": self.folders,
            "contexts": self.context_files,
            "libraries": _libraries(),
        }

    def _described(self, name: str, number: int) -> Shard | None:
        """A shard that is on disk; None if it is not, or damaged."""
        path = self.folder / self.folders[name] / shard_file(number)
        try:
            with opened(path) as file:
                notes = json.loads(file.metadata()["harvest"])
                if stated_facts(file) != facts(self.request, name):
                    return None  # of another harvest; this one's is put in its place
        except (FormatError, KeyError, TypeError, ValueError):
            return None
        del notes["facts"]
        self._remember(name, notes.pop("median"), notes.pop("threshold"))
        return Shard(file=path.name, bytes=path.stat().st_size, **notes)

    def _remember(self, name: str, median: float, threshold: float | None) -> None:
        self.medians.setdefault(name, median)
        if threshold is not None:
            self.thresholds.setdefault(name, threshold)


_ROWS_AT_ONCE = 4096  # in float64, for which there is no room as a whole


def _sum(x: Float[Tensor, "row d_in"]) -> Float[Tensor, " d_in"]:
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for part in x.split(_ROWS_AT_ONCE):
        total += part.double().sum(dim=0)
    return total


def _generator(seed: int, number: int) -> torch.Generator:
    words = np.random.SeedSequence([seed, number]).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def _comparable(request: dict[str, Any]) -> dict[str, Any]:
    """What must agree for two harvests to be one, under the names that a message uses."""
    model, text = request["model"], request["text"]
    # the same model or text may have moved: where there is a hash, the name does not count
    known = text["hash"] is not None
    return {
        "model fingerprint": model["fingerprint"],
        **{f"text {key}": text[key] for key in text if not (known and key == "location")},
        **{key: value for key, value in request.items() if key not in ("model", "text")},
    }


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("latent-assay", "torch", "transformers", "tokenizers", "datasets"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
