"""Run text through a model and keep what is read at hook points, so that it can be resumed.

Shards are cut by the text alone, every file is written wholly or not at all, and contexts are
compared with those on disk, so a harvest that was interrupted goes on and ends as if it had not.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from latent_assay.activations.contexts import Context, contexts
from latent_assay.activations.folder import compare_contexts, context_file
from latent_assay.activations.harvest_job import HarvestJob
from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.plan import Plan, plan_harvest
from latent_assay.activations.store import ActivationStore
from latent_assay.activations.text import TextInput, text_source
from latent_assay.distributed import Ranks
from latent_assay.errors import ConfigError

_SHARD_BYTES = 2**26
_COMPARED_ON_REUSE = 4
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def harvest(
    model: LanguageModel,
    documents: TextInput,
    *,
    hook_points: str | Sequence[str],
    folder: str | Path,
    n_tokens: int | None = None,
    context_size: int = 128,
    batch_size: int = 32,
    dtype: torch.dtype = torch.float32,
    skip_special_tokens: bool = True,
    skip_norm_outliers: bool = True,
    outlier_ratio: float = 10.0,
    shard_tokens: int | None = None,
    pack: bool = False,
    shuffle_seed: int | None = None,
    max_ram: int | None = None,
    progress: bool = True,
    ranks: Ranks | None = None,
    plan: Plan | None = None,
) -> dict[str, ActivationStore]:
    r"""Read activations at hook points while a model reads text, and keep them in a folder.

    Before anything is read, each hook point is verified against the model's own hidden states. If
    the folder holds the same harvest, finished, it is opened at once; if it holds a beginning, the
    shards that are complete are kept.

    An activation whose Euclidean length exceeds `outlier_ratio` times the median length of the
    first shard is left out: such rows (attention sinks, mostly a text's first token) would
    dominate every loss. How many were left out is in the manifest. Rows can therefore differ
    between hook points; `in_order` tells which token each belongs to.

    **Arguments:**
    - `model`: the model.
    - `documents`: anything that `text_source` takes: a file, a folder, `"cpython"`, a data set, an
      iterable of strings, or a `TextSource` made with a column or split.
    - `hook_points`: one name or several; several cost one forward pass.
    - `folder`: where the harvest is kept.
    - `n_tokens`: how many tokens of text are read, special ones not counted; None for all. There
      are as many rows per hook point, less the outliers.
    - `context_size`: tokens that the model reads at once, special ones included.
    - `batch_size`: contexts per forward pass.
    - `dtype`: in which type activations are kept; bfloat16 halves the space.
    - `skip_special_tokens`: leave out what is read at [CLS], [SEP], BOS and the like.
    - `skip_norm_outliers`: leave out outliers.
    - `outlier_ratio`: how many times the median makes an outlier.
    - `shard_tokens`: tokens of text per file; None for files of about 64 MiB.
    - `pack`: let contexts run across documents (causal models only).
    - `shuffle_seed`: write the rows of each shard in random order; None keeps the text's. The
      shards of a shuffled harvest can be read one after another, by any reader, and still mix the
      contexts of a whole shard.
    - `max_ram`: the most bytes of memory that may be used; None for what the machine has.
    - `progress`: show the plan (`activations.plan`), and a bar with the rate and the time left.
    - `ranks`: processes that share the work, shard by shard; every one of them must call this with
      the same arguments, a copy of the model, and a folder that all can see. The files are those
      that one process would write.
    - `plan`: what `plan_harvest` gave for the same arguments, if that was asked and shown before.

    **Returns:** an open store per hook point.

    **Raises:** `HookError` for an unknown or unverifiable hook point; `DataError` if the folder
    holds another harvest, the text has changed, or an activation is not finite; `ConfigError` for
    impossible settings, or memory that does not suffice; `StorageError` if the disk is or would be
    full.
    """
    names = [hook_points] if isinstance(hook_points, str) else list(hook_points)
    widths = {name: model.d_in(name) for name in names}
    _check(
        model, names, context_size, batch_size, dtype, outlier_ratio, shard_tokens, shuffle_seed,
        pack,
    )  # fmt: skip
    if shard_tokens is None:
        shard_tokens = usual_shard_tokens(max(widths.values()), dtype)
    source = text_source(documents)
    folder = Path(folder).expanduser()
    request = {
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "hook_points": names,
        "text": source.describe(),
        "n_tokens": n_tokens,
        "context_size": context_size,
        "pack": pack,
        "dtype": str(dtype).removeprefix("torch."),
        "skip_special_tokens": skip_special_tokens,
        "skip_norm_outliers": skip_norm_outliers,
        "outlier_ratio": outlier_ratio if skip_norm_outliers else None,
        "shard_tokens": shard_tokens,
        "shuffle_seed": shuffle_seed,
    }
    pieces_of_text = contexts(
        model.tokenizer, source, context_size=context_size, n_tokens=n_tokens, pack=pack
    )
    job = HarvestJob(model, folder, request, widths, dtype, batch_size)

    meet = (lambda: None) if ranks is None else ranks.meet
    complete = job.is_complete()
    meet()  # nobody writes before all have looked
    if complete:
        beginning = list(islice(pieces_of_text, _COMPARED_ON_REUSE))
        compare_contexts(folder / context_file(0), beginning, whole=False)
        return {name: ActivationStore.open(folder, name) for name in names}

    first, number_of_ranks = (True, 1) if ranks is None else (ranks.first, ranks.number)
    progress = progress and first
    if plan is None:
        plan = plan_harvest(
            model, source, hook_points=names, folder=folder, shard_tokens=shard_tokens,
            n_tokens=n_tokens, context_size=context_size, batch_size=batch_size, dtype=dtype,
            pack=pack, max_ram=max_ram,
        )  # fmt: skip
        if progress:
            tqdm.write("\n".join(plan.lines()), file=sys.stderr)
    plan.check()
    checks = {name: asdict(check) for name, check in model.verify(names).items()}
    n_kept = 0
    if first:
        job.begin()
        n_kept = job.n_tokens_on_disk()
    meet()
    with tqdm(
        total=n_tokens and n_tokens // number_of_ranks,
        initial=n_kept // number_of_ranks,
        desc="harvest",
        unit="token",
        unit_scale=True,
        disable=not progress,
    ) as bar:
        for number, group in enumerate(_grouped(pieces_of_text, shard_tokens)):
            if ranks is None or number % ranks.number == ranks.rank:
                job.shard(number, group, bar)
            else:
                job.leave_to_others(number, group)
            if number == 0:
                meet()  # its median decides what is an outlier in all others
                job.collect()
        if progress and n_tokens is not None and job.n_tokens < n_tokens:
            bar.write(f"the text ended after {job.n_tokens:,} of {n_tokens:,} tokens", sys.stderr)
    meet()
    if first:
        job.collect()
        job.finish(checks)
    meet()
    return {name: ActivationStore.open(folder, name) for name in names}


def usual_shard_tokens(d_in: int, dtype: torch.dtype) -> int:
    """Tokens of text per file, where nothing is said of it: as many as make 64 MiB.

    **Arguments:**
    - `d_in`: of the widest hook point.
    - `dtype`: in which activations are kept.
    """
    return max(1024, _SHARD_BYTES // (d_in * dtype.itemsize))


def _check(
    model: LanguageModel,
    names: list[str],
    context_size: int,
    batch_size: int,
    dtype: torch.dtype,
    outlier_ratio: float,
    shard_tokens: int | None,
    shuffle_seed: int | None,
    pack: bool,
) -> None:
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"hook_points is {names}; expected one or more names, each once.")
    limit = model.max_context_size
    if limit is not None and context_size > limit:
        raise ConfigError(
            f"context_size is {context_size}, but {model.name} reads at most {limit} tokens at "
            "once. Choose a smaller one."
        )
    for name, value in (("batch_size", batch_size), ("shard_tokens", shard_tokens)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; expected at least 1.")
    if shuffle_seed is not None and shuffle_seed < 0:
        raise ConfigError(f"shuffle_seed is {shuffle_seed}; expected 0 or more, or None.")
    if outlier_ratio <= 1.0:
        raise ConfigError(
            f"outlier_ratio is {outlier_ratio}; expected more than 1, as 10: an outlier is longer "
            "than the median."
        )
    if dtype not in _DTYPES:
        raise ConfigError(f"dtype is {dtype}; expected one of {', '.join(map(str, _DTYPES))}.")
    if pack and not model.is_causal:
        raise ConfigError(
            f"{type(model.model).__name__} looks in both directions, so packed documents would "
            "leak into each other. Leave `pack` off."
        )


def _grouped(pieces: Iterable[Context], n_tokens: int) -> Iterator[list[Context]]:
    """Consecutive contexts in groups of at least `n_tokens` tokens of text."""
    group: list[Context] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += piece.n_text_tokens
        if size >= n_tokens:
            yield group
            group, size = [], 0
    if group:
        yield group
