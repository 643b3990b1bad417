"""Train, plan, submit, report, and the demo."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from latent_assay.cli.program import (
    fresh_option,
    json_option,
    main,
    out_option,
    quiet_option,
    seed_option,
    set_option,
)


@main.command(
    epilog="""\b
Examples:
  assay demo
  assay demo --only hierarchy --out /tmp/h      the toy world alone, in seconds
  assay demo --json | jq .report"""
)
@out_option("demo")
@click.option(
    "--only", type=click.Choice(["hierarchy", "minilm"]), help="One part instead of both."
)
@seed_option
@fresh_option
@json_option
@quiet_option
def demo(
    out: Path, only: str | None, seed: int | None, fresh: bool, as_json: bool, quiet: bool
) -> None:
    """See what Latent Assay does: a toy world and a real language model, offline.

    The toy world shows absorption, hedging and their balance. The language model is
    all-MiniLM-L6-v2, reading CPython's documentation. A second run only writes the reports anew.
    """
    parts = [only] if only else ["hierarchy", "minilm"]
    results = []
    for part in parts:
        results.append(
            _train(part, out / part, seed, fresh, quiet or as_json, announce=not as_json)
        )
    _finish(results, as_json)


@main.command(
    epilog="""\b
Examples:
  assay train hierarchy                      a configuration that comes with the package
  assay train my_run.toml --out runs/first
  assay train my_run.toml --seed 1 --out runs/second
  assay train minilm --set model.tokens=50_000 --set training.steps=100 --out /tmp/try

\b
A small configuration:
  title = "TopK in a toy world"
  [world]
  preset = "absorption"
  [training]
  steps = 2_000
  batch_size = 512
  [[sae]]
  name = "TopK"
  recipe = "topk"
  width = 4
  k = 1
  lr = 1e-3
  seeds = [0, 1, 2]

\b
Ctrl-C keeps everything; the same command goes on."""
)
@click.argument("config")
@out_option(None)
@set_option
@seed_option
@fresh_option
@json_option
@quiet_option
def train(
    config: str,
    out: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    fresh: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train the SAEs of a configuration, and report.

    CONFIG is a TOML file, or the name of a configuration that comes with the package. Without
    --out, everything goes to runs/NAME. What the run takes is told before it starts. Started by
    `torchrun --nproc-per-node N -m latent_assay train CONFIG`, N processes share the work.
    """
    from latent_assay.distributed import Ranks

    folder = out or Path("runs") / Path(config).stem
    with Ranks.join() if Ranks.launched() else nullcontext() as ranks:
        result = _train(
            config,
            folder,
            seed,
            fresh,
            quiet or as_json,
            announce=not as_json,
            settings=settings,
            ranks=ranks,
        )
    if ranks is None or ranks.first or result["interrupted"]:  # the first speaks for all
        _finish([result], as_json)


@main.command(
    epilog="""\b
Examples:
  assay plan my_run.toml
  assay plan minilm --json | jq .ram_bytes"""
)
@click.argument("config")
@out_option(None)
@set_option
@json_option
def plan(config: str, out: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Tell what a run takes: memory, disk, time, bytes per token. Nothing is trained.

    CONFIG is what `assay train` takes, and --out where the run would go. The model is loaded, and
    its speed measured. What cannot fit is refused with exit status 2, after the plan is told.
    """
    from latent_assay.runs import plan_of, read_config

    folder = out or Path("runs") / Path(config).stem
    found = plan_of(read_config(config, settings), folder)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.lines()))
    found.check()


@main.command(
    epilog="""\b
Examples:
  assay submit k_16.toml k_32.toml --out /shared/grid --executor slurm -s gpus_per_node=1
  assay submit *.toml --executor local --wait      processes on this machine"""
)
@click.argument("configs", nargs=-1, required=True)
@out_option("runs")
@click.option(
    "--executor",
    type=click.Choice(["slurm", "local", "debug"]),
    default="slurm",
    show_default=True,
    help="Where jobs run: a Slurm cluster, processes on this machine, or this process.",
)
@click.option(
    "-s",
    "--setting",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="What a job needs, as submitit calls it: timeout_min=60, slurm_partition=gpu.",
)
@click.option("--wait", is_flag=True, help="Wait until all jobs have ended.")
@json_option
def submit(
    configs: tuple[str, ...],
    out: Path,
    executor: str,
    settings: tuple[str, ...],
    wait: bool,
    as_json: bool,
) -> None:
    """Submit a job for each of several configurations to a cluster.

    CONFIGS are what `assay train` takes; each run goes to the folder of its name in --out, which
    all machines must share. The same command continues runs that were interrupted.
    """
    from latent_assay.runs import submit as submit_runs
    from latent_assay.runs.submission import parse_settings

    jobs = submit_runs(configs, out, executor=executor, **parse_settings(settings))
    found = {name: {"job": job.job_id, "folder": str(out / name)} for name, job in jobs.items()}
    if not as_json:
        for name, job in found.items():
            click.echo(f"{name}: job {job['job']} → {job['folder']}")
    failed = []
    for name, job in jobs.items() if wait or executor == "debug" else ():
        error = job.exception()
        found[name]["error"] = None if error is None else str(error).strip().splitlines()[-1]
        if error is not None:
            failed.append(name)
            click.echo(f"assay: the job {name} failed: {found[name]['error']}", err=True)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    if failed:
        sys.exit(2)


@main.command(
    epilog="""\b
Examples:
  assay report runs/first
  assay report runs/first --json"""
)
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@quiet_option
def report(folder: Path, as_json: bool, quiet: bool) -> None:
    """Measure the SAEs of a run anew and write its report.

    FOLDER is what `assay train` or `assay demo` left. Neither the model nor a network is needed.
    """
    from latent_assay.runs import write_report

    page = write_report(folder, progress=not (quiet or as_json))
    _finish([{"folder": str(folder), "report": str(page), "interrupted": False}], as_json)


def _train(
    config: str,
    folder: Path,
    seed: int | None,
    fresh: bool,
    quiet: bool,
    *,
    announce: bool,
    settings: tuple[str, ...] = (),
    ranks: Any = None,
) -> dict[str, Any]:
    from dataclasses import replace

    from latent_assay.runs import read_config
    from latent_assay.runs import train as train_run

    plan = read_config(config, settings)
    if seed is not None:
        plan = replace(plan, seed=seed)
    if announce and (ranks is None or ranks.first):
        click.echo(f"{plan.title} → {folder}", err=True)
    outcome = train_run(plan, folder, fresh=fresh, progress=not quiet, ranks=ranks)
    return {
        "folder": str(outcome.folder),
        "report": None if outcome.report is None else str(outcome.report),
        "interrupted": outcome.interrupted,
    }


def _finish(results: list[dict[str, Any]], as_json: bool) -> None:
    """Say where the reports are, and end with 130 if anything was interrupted."""
    if as_json:
        click.echo(json.dumps(results[0] if len(results) == 1 else results, indent=2))
    else:
        for result in results:
            if result["report"]:
                click.echo(f"report: {result['report']}")
    if any(result["interrupted"] for result in results):
        raise KeyboardInterrupt
