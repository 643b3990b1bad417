"""From the folder of a run to advice on L0, width and multiplier."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from latent_assay import __version__, formats
from latent_assay.atomic import plain, write_json
from latent_assay.diagnosis.choosing import (
    Choice,
    Hedging,
    Sweep,
    Wanted,
    choice_sections,
    choose_balance,
    choose_sparsity,
    choose_width,
    measure_setting,
)
from latent_assay.diagnosis.choosing.sweep import Kind
from latent_assay.errors import ConfigError, DataError
from latent_assay.metrics import summary
from latent_assay.report import Report
from latent_assay.runs.config import RunConfig, SAEPlan
from latent_assay.runs.config.grid import word
from latent_assay.runs.extension_runs import outcome_folder
from latent_assay.runs.folder import sae_folder, stored_config
from latent_assay.runs.sources import Prepared, prepare
from latent_assay.runs.stored_outcome import has_outcome, read_numbers
from latent_assay.worlds import Sample

_KINDS: dict[str, Kind] = {
    "k": "sparsity",
    "l1": "sparsity",
    "l0": "sparsity",
    "target_l0": "sparsity",
    "width": "width",
    "multiplier": "balance",
}
_LEAST = 3
_PARTS = 8
_FEWEST_ROWS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """What `assay choose` made."""

    choices: tuple[Choice, ...]
    """Advice, one for each grid along each axis."""
    page: Path
    """The report; `choosing.json` lies beside it."""
    content: dict[str, Any]
    """The JSON: `choices`, `samples`, `run`."""


@dataclass(frozen=True, kw_only=True)
class _Line:
    """SAEs of a grid that differ in one axis only."""

    kind: Kind
    name: str
    axis: str
    plans: tuple[tuple[float, SAEPlan], ...]
    hook_point: str | None


def choose_from_run(
    run: str | Path,
    folder: str | Path | None = None,
    *,
    samples: int = 10_000,
    verdicts: bool = True,
    progress: bool = True,
) -> Chosen:
    """Read from a run's grids which L0, width and multiplier to take.

    **Arguments:**
    - `run`: a folder that `assay train` left, with a [[grid]] over `k`, `l1`, `l0`, `target_l0`,
      `width` or `multiplier` that has at least three values, or an [[extension]] over `width`.
    - `folder`: where `report.html`, `report.json` and `choosing.json` go; None for a folder
      `choosing` in the run's.
    - `samples`: activations that have not been trained on, at most.
    - `verdicts`: whether to diagnose the SAEs of grids over width and multiplier, which takes
      most of the time; a multiplier cannot be chosen without.
    - `progress`: whether to show a bar.

    **Raises:** `ConfigError` if the run has no such grid; `FormatError` if it is not the folder of
    a finished run; `DataError` if there are too few activations.
    """
    run = Path(run)
    folder = run / "choosing" if folder is None else Path(folder)
    config = stored_config(run)
    lines = [each for each in _lines(config) if verdicts or each.kind != "balance"]
    hedging = _hedging(config, run)
    if not lines and not hedging:
        raise ConfigError(_nothing(config, run, verdicts=verdicts))
    sweeps: list[Sweep] = []
    d_in = 1
    if lines:
        prepared = prepare(config, run, harvest=False, progress=progress)
        d_in = prepared.first.d_in  # equal at all hook points of a model
        bar = tqdm(
            total=sum(len(line.plans) for line in lines),
            desc="measuring", unit="setting", disable=not progress,
        )  # fmt: skip
        known: dict[tuple[str, Wanted], dict[str, np.ndarray]] = {}
        for line in lines:
            sweeps.append(_sweep(line, run, prepared, samples, verdicts, known, bar))
        bar.close()
    choices = tuple(_choices(sweeps, hedging, d_in))
    content = plain(
        {
            "run": str(run),
            "samples": samples,
            "choices": [choice.to_json() for choice in choices],
        }
    )
    report = Report(
        title=f"Choosing: {config.title}",
        summary="\n\n".join(f"{choice.name}: {choice.advice}" for choice in choices),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        provenance={"run": str(run), "samples": samples, "latent-assay": __version__},
        sections=choice_sections(choices),
    )
    page = report.write(folder)
    write_json(folder / "choosing.json", content)
    return Chosen(choices=choices, page=page, content=content)


def _lines(config: RunConfig) -> Iterator[_Line]:
    """Every grid along every axis that can be chosen, one for each combination of the others."""
    for grid in dict.fromkeys(plan.grid for plan in config.saes if plan.grid):
        own = [plan for plan in config.saes if plan.grid == grid]
        for axis in own[0].axes:
            option = _option(axis, own)
            if option is None:
                continue
            groups: dict[str, list[tuple[float, SAEPlan]]] = {}
            for plan in own:
                others = [word(name, v) for name, v in plan.axes.items() if name != axis]
                groups.setdefault(" ".join([grid, *others]), []).append(
                    (float(plan.options[option]), plan)
                )
            for name, plans in groups.items():
                if len({value for value, _ in plans}) >= _LEAST:
                    yield _Line(
                        kind=_KINDS[option],
                        name=name,
                        axis=option,
                        plans=tuple(sorted(plans, key=lambda each: each[0])),
                        hook_point=plans[0][1].hook_point,
                    )


def _option(axis: str, plans: Sequence[SAEPlan]) -> str | None:
    """The option that an axis is about: itself, or one that its tables set."""
    for option in (axis, "width"):
        values = [plan.options.get(option) for plan in plans]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if option not in _KINDS or not numbers or (option != axis and axis in _KINDS):
            continue
        # tables may set a width along an axis of another name, as where levels follow it
        along: dict[str, set[Any]] = {}
        for plan, value in zip(plans, values, strict=True):
            along.setdefault(str(plan.axes.get(axis)), set()).add(value)
        if len({*values}) > 1 and all(len(each) == 1 for each in along.values()):
            return option
    return None


def _sweep(
    line: _Line,
    run: Path,
    prepared: Prepared,
    samples: int,
    verdicts: bool,
    known: dict[tuple[str, Wanted], dict[str, np.ndarray]],
    bar: Any,
) -> Sweep:
    """Measure the SAEs of a line, but for those that another line measured alike."""
    parts = _parts(prepared, line.hook_point, samples)
    wanted = Wanted(
        mixing=line.kind == "sparsity", verdicts=verdicts and line.kind in ("width", "balance")
    )
    found: list[dict[str, np.ndarray]] = []
    for _, plan in line.plans:
        if (plan.name, wanted) not in known:
            sae = formats.load(sae_folder(run, plan.name))
            known[plan.name, wanted] = measure_setting(sae, parts, wanted)
        found.append(known[plan.name, wanted])
        bar.update()
    members = min(len(each["fvu"]) for each in found)
    curves = {name: np.stack([each[name][:members] for each in found]) for name in found[0]}
    settings = np.array([value for value, _ in line.plans])
    by_l0 = line.kind == "sparsity" and line.axis != "k"
    values = curves["l0"].mean((1, 2)) if by_l0 else settings
    order = np.argsort(values)
    return Sweep(
        kind=line.kind,
        name=line.name,
        axis=line.axis,
        values=tuple(values[order].tolist()),
        settings=tuple(settings[order].tolist()),
        label="L0" if by_l0 else line.axis,
        curves={name: curve[order] for name, curve in curves.items()},
    )


def _parts(prepared: Prepared, hook_point: str | None, samples: int) -> list[Tensor]:
    """Held-out activations in parts, each a stretch of its own."""
    rows: list[Tensor] = []
    for batch in prepared.at(hook_point).held_out():
        rows.append((batch.x if isinstance(batch, Sample) else batch).float())
        if sum(map(len, rows)) >= samples:
            break
    x = torch.cat(rows)[:samples] if rows else torch.empty(0, 0)
    if len(x) < _FEWEST_ROWS:
        raise DataError(
            f"choosing needs at least {_FEWEST_ROWS} activations that were not trained on, found "
            f"{len(x)}. Ask for more with --samples, or keep more in the run: `measured` and "
            "`held_out` of [model], `samples` of [world]."
        )
    return list(x.tensor_split(_PARTS))


def _hedging(config: RunConfig, run: Path) -> list[Hedging]:
    """Hedging degrees of extensions over widths alone."""
    found = []
    for plan in config.extensions:
        settings = [
            each
            for each in plan.settings
            if set(each.axes) == {"width"} and has_outcome(outcome_folder(run, plan, each))
        ]
        numbers = {
            int(each.axes["width"]): read_numbers(outcome_folder(run, plan, each))
            for each in settings
        }
        if len(numbers) >= 2:
            found.append(
                Hedging(
                    name=plan.name,
                    degree={w: summary(each.degree.difference) for w, each in numbers.items()},
                    null={w: summary(each.null.difference) for w, each in numbers.items()},
                )
            )
    return found


def _choices(sweeps: Sequence[Sweep], hedging: Sequence[Hedging], d_in: int) -> Iterator[Choice]:
    widths = [sweep for sweep in sweeps if sweep.kind == "width"]
    # one grid and one extension over widths are about the same SAEs; several may not be
    shared = hedging[0] if len(widths) == len(hedging) == 1 else None
    for sweep in sweeps:
        if sweep.kind == "sparsity":
            yield choose_sparsity(sweep, floor=math.sqrt(2 / (math.pi * d_in)))
        elif sweep.kind == "width":
            yield choose_width(sweep, shared)
        else:
            yield choose_balance(sweep)
    if shared is None:
        for each in hedging:
            yield choose_width(hedging=each)


def _nothing(config: RunConfig, run: Path, *, verdicts: bool) -> str:
    axes = sorted({f"`{axis}`" for plan in config.saes for axis in plan.axes})
    found = f"grids over {', '.join(axes)}" if axes else "no grid at all"
    without = "" if verdicts else " Without a diagnosis, no multiplier can be chosen."
    return (
        f"nothing can be chosen from '{run}': expected a [[grid]] over one of "
        f"{', '.join(f'`{name}`' for name in _KINDS)} with at least {_LEAST} values, or an "
        f"[[extension]] over `width`; found {found}.{without} Train one, such as the preset "
        "`minilm_choosing`."
    )
