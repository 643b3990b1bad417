"""What a run takes, told before it starts; what cannot fit is refused.

Reading is measured (`activations.plan`); of training the memory is counted, tensor by tensor, and
the time is estimated from a measured matrix product.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from latent_assay.activations import ActivationStore, LanguageModel, Plan, Share
from latent_assay.activations import plan_harvest as plan_of_harvest
from latent_assay.activations import plan_stream as plan_of_stream
from latent_assay.activations.harvest import usual_shard_tokens
from latent_assay.activations.machine import memory_limit, peak_memory
from latent_assay.activations.quantities import size_in_words, time_in_words
from latent_assay.errors import AssayError, ConfigError, StorageError
from latent_assay.runs.config import EnsemblePlan, ModelSource, RunConfig
from latent_assay.runs.extension_runs import together
from latent_assay.runs.live_source import LiveReader
from latent_assay.runs.model_data import activations_folder, harvest_settings, text_of

_FLOAT = 4
_STATES = 4
"""Weights, gradient, and Adam's two moments."""
_KEPT = 3
"""Of them, what a checkpoint holds."""
_PER_LATENT_OF_BATCH = 5
"""Tensors of [batch, width] that are alive at once in a step."""
_BUFFER = 2**30
"""What a stream over stored activations mixes at once."""
_MEASURED_AT_ONCE = 2_048
"""Samples in a batch that is measured."""
_EXCERPT = 50_000
"""The most activations that baselines and biases begin with."""
_DRAWING = 2**28
"""Allowed for matplotlib, figures and the pages of latents."""
_PRODUCTS = 12
"""Multiplications and additions of a step per sample, input dimension and latent: encoder and
decoder, forward and twice as much backward."""
_TIED = ("tied", "tied_orthogonal", "linear", "wsae")


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run takes."""

    title: str
    """What is planned."""
    saes: int
    """How many SAEs, members counted."""
    ensembles: int
    """In how many ensembles."""
    harvest: Plan | None
    """What storing activations takes; None if they are there, or come from no model."""
    stream: Plan | None
    """What reading activations beside training takes; None if they are stored."""
    ram: tuple[Share, ...]
    """What memory is needed for at the peak."""
    ram_limit: int | None
    """How much memory there is, or may be used; None if unknown."""
    gpu: tuple[Share, ...]
    """What the memory of the GPU is needed for, if SAEs are trained on one."""
    gpu_limit: int | None
    """How much of it is free; None without one."""
    disk: tuple[Share, ...]
    """What will be written."""
    disk_limit: int
    """Bytes that can be written there."""
    seconds: Mapping[str, float | None]
    """Phase → how long it takes; None where only the text's end tells."""

    def lines(self) -> list[str]:
        """The plan in words, for printing."""
        many = "" if self.ensembles == self.saes else f" in {_count(self.ensembles, 'ensemble')}"
        lines = [f"{self.title}: {_count(self.saes, 'SAE')}{many}"]
        lines += _block("memory", self.ram, self.ram_limit, "")
        if self.gpu:
            lines += _block("GPU", self.gpu, self.gpu_limit, "")
        lines += _block("disk", self.disk, self.disk_limit, " free")
        known = [seconds for seconds in self.seconds.values() if seconds is not None]
        parts = ", ".join(
            f"{what} {'unknown' if seconds is None else time_in_words(seconds)}"
            for what, seconds in self.seconds.items()
        )
        lines.append(f"  time    about {time_in_words(sum(known))}: {parts}")
        reading = self.stream or self.harvest
        if reading is not None:
            rate = f"{reading.tokens_per_second:,.0f} tokens/s measured"
            lines.append(f"  size    {reading.bytes_per_token:,} bytes per token, {rate}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON; amounts in bytes and seconds."""
        reading = self.stream or self.harvest
        return {
            "title": self.title,
            "saes": self.saes,
            "ensembles": self.ensembles,
            "ram": {share.what: share.bytes for share in self.ram},
            "ram_bytes": _total(self.ram),
            "ram_limit": self.ram_limit,
            "gpu": {share.what: share.bytes for share in self.gpu},
            "gpu_bytes": _total(self.gpu),
            "gpu_limit": self.gpu_limit,
            "disk": {share.what: share.bytes for share in self.disk},
            "disk_bytes": _total(self.disk),
            "disk_limit": self.disk_limit,
            "seconds": dict(self.seconds),
            "bytes_per_token": None if reading is None else reading.bytes_per_token,
            "tokens_per_second": None if reading is None else reading.tokens_per_second,
        }

    def check(self) -> None:
        """Refuse what cannot fit.

        **Raises:** `ConfigError` if memory does not suffice, `StorageError` if the disk does not.
        """
        for where, shares, limit in (
            ("memory", self.ram, self.ram_limit),
            ("GPU memory", self.gpu, self.gpu_limit),
        ):
            if limit is not None and _total(shares) > limit:
                largest = max(shares, key=lambda share: share.bytes)
                raise ConfigError(
                    f"{self.title}: this needs {size_in_words(_total(shares))} of {where}, most of "
                    f"it ({size_in_words(largest.bytes)}) for {largest.what}, but there are "
                    f"{size_in_words(limit)}. Train fewer members at once ([training] members), "
                    'narrower SAEs or smaller batches; with stream = "live", fewer buffer_rows or '
                    "fewer SAEs, as all are in memory together."
                )
        if _total(self.disk) > self.disk_limit:
            raise StorageError(
                f"{self.title}: this needs about {size_in_words(_total(self.disk))} of disk, but "
                f"there are {size_in_words(self.disk_limit)} free. Read fewer tokens or hook "
                'points, store them in bfloat16, use stream = "live", or choose another disk.'
            )


def plan_run(
    config: RunConfig,
    folder: Path,
    widths: Mapping[str | None, int],
    *,
    model: LanguageModel | None = None,
    ranks: int = 1,
) -> RunPlan:
    """What a run takes.

    **Arguments:**
    - `config`: the run.
    - `folder`: where everything goes.
    - `widths`: hook point → length of its activations; one None for a source without any.
    - `model`: the model, if activations are to be read; its speed is measured.
    - `ranks`: the number of processes that divide latents between them.
    """
    source = config.source
    live = isinstance(source, ModelSource) and source.stream == "live"
    loads = [_load(each, config, widths, ranks) for each in config.ensembles]
    harvest = stream = None
    if isinstance(source, ModelSource) and model is not None:
        harvest, stream = _reading(config, source, folder, model, ranks)
    base = Share(what="this process", bytes=peak_memory())
    extensions = list(_extensions(config, widths))
    peaks = [tuple(_training(loads, live=live)), tuple(_training(extensions, live=False))]
    phases: list[tuple[Share, ...]] = [max(peaks, key=_total)]
    buffer = _buffer(source, harvest, widths)
    if stream is not None:
        buffer = tuple(stream.ram[1:])
    if harvest is not None:
        base = harvest.ram[0]
        phases.append(harvest.ram[1:])
    phases.append(tuple(_report(loads, widths)))
    phases[0] = buffer + phases[0]
    on_gpu = config.device.startswith("cuda")
    gpu: tuple[Share, ...] = ()
    if on_gpu:
        gpu, phases[0] = max(peaks, key=_total), buffer
    limit = memory_limit()
    if isinstance(source, ModelSource) and source.max_ram is not None:
        limit = min(limit or source.max_ram, source.max_ram)
    disk = tuple(_disk(loads, extensions, harvest, live=live))
    steps = config.training.steps
    operations = sum(load.operations for load in loads) * steps
    operations += sum(load.operations * load.steps for load in extensions)
    reading: dict[str, float | None] = {} if harvest is None else {"harvest": harvest.seconds}
    if stream is not None:
        if loads:
            reading["reading beside training"] = stream.seconds
        samples = sum(load.samples for load in extensions)
        if samples:
            reading["reading for extensions"] = samples / stream.tokens_per_second
    return RunPlan(
        title=config.title,
        saes=sum(plan.members for plan in config.saes) + sum(load.saes for load in extensions),
        ensembles=len(config.ensembles) + len(extensions),
        harvest=harvest,
        stream=stream,
        ram=(base, *max(phases, key=_total)),
        ram_limit=limit,
        gpu=gpu,
        gpu_limit=torch.cuda.mem_get_info(config.device)[0] if on_gpu else None,
        disk=disk,
        disk_limit=_free(folder),
        seconds=reading | {"training": operations / _speed(config.device)},
    )


@dataclass(frozen=True, kw_only=True)
class _Load:
    """What an ensemble weighs."""

    name: str
    latents: int
    weights: int
    step: int
    operations: float
    steps: int = 0
    samples: int = 0
    saes: int = 0


def _load(
    ensemble: EnsemblePlan, config: RunConfig, widths: Mapping[str | None, int], ranks: int
) -> _Load:
    d_in = widths.get(ensemble.hook_point) or next(iter(widths.values()))
    options = ensemble.options
    width = options.get("width", 0)
    widest = max(width) if isinstance(width, list | tuple) else int(width)
    members = sum(plan.members for plan in ensemble.plans)
    latents = -(-members * widest // ranks)
    rows = 1 if ensemble.first.recipe in _TIED else 2
    batch = config.training.batch_size
    return _weighed(ensemble.name, members, latents, rows, d_in, batch)


def _weighed(name: str, members: int, latents: int, rows: int, d_in: int, batch: int) -> _Load:
    return _Load(
        name=name,
        latents=latents,
        weights=_FLOAT * (latents * (rows * d_in + 1) + members * d_in),
        step=_FLOAT * batch * (_PER_LATENT_OF_BATCH * latents + 4 * members * d_in),
        operations=float(_PRODUCTS) * batch * d_in * latents,
    )


def _extensions(config: RunConfig, widths: Mapping[str | None, int]) -> Iterator[_Load]:
    """The second phase of every extension, which is its largest: control and extended together.

    Its steps stand for all phases: the first and the null cost a member for each seed, the second
    one more for each number of new latents.
    """
    batch = config.training.batch_size
    for plan in config.extensions:
        for group in together(plan):
            setting, seeds = group[0], len(plan.seeds)
            d_in = widths.get(setting.hook_point) or next(iter(widths.values()))
            width = int(setting.plan.options["width"])
            company = seeds * (1 + len(group))
            latents = company * (width + max(each.n for each in group))
            rows = 1 if setting.plan.recipe in _TIED else 2
            first = setting.first_steps or config.training.steps
            second = setting.steps or config.training.steps
            load = _weighed(f"{plan.name} {setting.name}", company, latents, rows, d_in, batch)
            yield replace(
                load,
                steps=round(second + (first + second) * seeds / company),
                samples=batch * (first + 2 * second),
                saes=company,
            )


def _training(loads: Sequence[_Load], *, live: bool) -> Iterator[Share]:
    """What training holds at its peak: all ensembles if they go together, or else the largest."""
    if not loads:
        return
    held = loads if live else [max(loads, key=lambda load: load.weights + load.step)]
    what = _count(len(held), "ensemble") if live else f"{held[0].name!r}"
    yield Share(
        what=f"weights, gradients and moments of {what}",
        bytes=_STATES * sum(load.weights for load in held),
    )
    yield Share(what="a training step", bytes=max(load.step for load in held))
    yield Share(
        what="a checkpoint while it is written",
        bytes=_KEPT * max(load.weights for load in held),
    )


def _report(loads: Sequence[_Load], widths: Mapping[str | None, int]) -> Iterator[Share]:
    """What measuring holds: all SAEs, activations to adjust baselines on, a batch."""
    if not loads:
        return
    batch = max(load.latents for load in loads) * _PER_LATENT_OF_BATCH * _MEASURED_AT_ONCE
    yield Share(what="all SAEs, for the report", bytes=sum(load.weights for load in loads))
    yield Share(
        what="measuring and drawing",
        bytes=_FLOAT * (batch + 3 * _EXCERPT * max(widths.values())) + _DRAWING,
    )


def _disk(
    loads: Sequence[_Load], extensions: Sequence[_Load], harvest: Plan | None, *, live: bool
) -> Iterator[Share]:
    if harvest is not None:
        yield Share(what="activations", bytes=harvest.disk)
    if extensions:
        each = [load.weights for load in extensions]
        # checkpoints of three phases at most, the largest twice
        yield Share(what="checkpoints of an extension", bytes=4 * _KEPT * max(each))
        yield Share(what="extended SAEs", bytes=sum(each))
    if not loads:
        return
    weights = [load.weights for load in loads]
    replaced = sum(weights) if live else max(weights)
    # the last checkpoint stays until the next one is whole
    yield Share(what="checkpoints", bytes=_KEPT * (sum(weights) + replaced))
    yield Share(what="trained SAEs", bytes=sum(weights))


def _buffer(
    source: Any, harvest: Plan | None, widths: Mapping[str | None, int]
) -> tuple[Share, ...]:
    """What a stream over stored activations keeps in memory; it is filled from as much again."""
    if not isinstance(source, ModelSource):
        return ()
    itemsize = getattr(torch, source.dtype).itemsize
    rows = round(source.tokens * (1 - source.held_out)) * max(widths.values()) * itemsize
    return (Share(what="activations that are being shuffled", bytes=2 * min(rows, _BUFFER)),)


def _reading(
    config: RunConfig, source: ModelSource, folder: Path, model: LanguageModel, ranks: int
) -> tuple[Plan | None, Plan | None]:
    """What harvest and stream take, where there is one."""
    place = activations_folder(source, folder)
    harvest = stream = None
    if not _is_there(place, source):
        settings = harvest_settings(source)
        widest = max(model.d_in(name) for name in source.names)
        harvest = plan_of_harvest(
            model,
            text_of(source),
            folder=place,
            shard_tokens=usual_shard_tokens(widest, settings["dtype"]),
            **settings,
        )
        harvest = replace(harvest, tokens_per_second=harvest.tokens_per_second * ranks)
    if source.stream == "live":
        reader = LiveReader(model, text_of(source), source, config.device)
        size, seed = config.training.batch_size, config.seed
        live = reader.stream(source.names, size, seed)
        stream = plan_of_stream(live, n_batches=config.training.steps, max_ram=source.max_ram)
    return harvest, stream


def _is_there(place: Path, source: ModelSource) -> bool:
    try:
        for name in source.names:
            ActivationStore.open(place, name)
    except AssayError:
        return False
    return True


def _speed(device: str) -> float:
    """Floating-point operations in a second, of a matrix product as training has them."""
    size = 1024
    a = torch.ones(size, size, device=device)
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        b = a @ a
        if b.is_cuda:
            torch.cuda.synchronize(b.device)
        best = max(best, 2.0 * size**3 / (time.perf_counter() - start))
    return best


def _free(folder: Path) -> int:
    folder = folder.expanduser()
    place = next(each for each in (folder, *folder.resolve().parents) if each.exists())
    return shutil.disk_usage(place).free


def _block(name: str, shares: Sequence[Share], limit: int | None, free: str) -> list[str]:
    of = "" if limit is None else f" of {size_in_words(limit)}{free}"
    return [
        f"  {name:<8}{size_in_words(_total(shares))}{of}",
        *(f"            {size_in_words(share.bytes):>8}  {share.what}" for share in shares),
    ]


def _total(shares: Sequence[Share]) -> int:
    return sum(share.bytes for share in shares)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
