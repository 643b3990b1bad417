"""The command line: `assay`.

Exit status: 0 done; 1 a defect of ours (with a traceback); 2 a mistake in what was asked, told in
one paragraph; 130 interrupted, with everything kept.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from latent_assay.errors import AssayError

_EXAMPLES = {
    "main": """\b
Examples:
  assay demo                      a toy world and a real language model, in minutes
  assay train hierarchy --out runs/h    a configuration that comes with the package
  assay train my_run.toml         your own
  assay plan my_run.toml          what it will take
  assay report runs/h             the report again, from what lies in the folder
  assay show runs/h/saes/plain    what is in this file?
  assay reproduce --quick         what the papers claim, tested""",
}


class _Group(click.Group):
    """Commands whose mistakes end in a paragraph, not in a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except AssayError as error:
            click.echo(f"assay: {error}", err=True)
            context.exit(2)
        except KeyboardInterrupt:
            click.echo(
                "assay: interrupted; the same command goes on from the last checkpoint.", err=True
            )
            context.exit(130)
        except BrokenPipeError:
            sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
            context.exit(0)


@click.group(
    cls=_Group,
    epilog=_EXAMPLES["main"],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="latent-assay", prog_name="assay")
def main() -> None:
    """Train sparse autoencoders and find out what each latent is made of."""


def _out(default: str | None) -> Any:
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=default,
        show_default=default is not None,
        help="Folder for everything that is made.",
    )


_quiet = click.option("--quiet", is_flag=True, help="No progress bars.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_seed = click.option(
    "--seed", type=click.IntRange(0), help="Seed of the data; overrides the file's."
)
_set = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A value in place of the file's, such as training.steps=20; may be repeated.",
)
_fresh = click.option("--fresh", is_flag=True, help="Train anew even where checkpoints are.")


@main.command(
    epilog="""\b
Examples:
  assay demo
  assay demo --only hierarchy --out /tmp/h      the toy world alone, in seconds
  assay demo --json | jq .report"""
)
@_out("demo")
@click.option(
    "--only", type=click.Choice(["hierarchy", "minilm"]), help="One part instead of both."
)
@_seed
@_fresh
@_json
@_quiet
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
@_out(None)
@_set
@_seed
@_fresh
@_json
@_quiet
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
@_out(None)
@_set
@_json
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
@_out("runs")
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
@_json
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
@_json
@_quiet
def report(folder: Path, as_json: bool, quiet: bool) -> None:
    """Measure the SAEs of a run anew and write its report.

    FOLDER is what `assay train` or `assay demo` left. Neither the model nor a network is needed.
    """
    from latent_assay.runs import write_report

    page = write_report(folder, progress=not (quiet or as_json))
    _finish([{"folder": str(folder), "report": str(page), "interrupted": False}], as_json)


@main.command(
    epilog="""\b
Examples:
  assay show runs/first/saes/batchtopk
  assay show downloads/params.npz --json
  assay show google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"""
)
@click.argument("source")
@_json
def show(source: str, as_json: bool) -> None:
    """Tell what is in an SAE's files: format, sizes, model, hook point, normalisation, origin.

    SOURCE is a folder or file that SAELens, Gemma Scope, dictionary_learning, sparsify or this
    program wrote, or a place on the Hugging Face hub.
    """
    from latent_assay.formats import describe

    _tell(describe(source), as_json)


@main.command(
    epilog="""\b
Examples:
  assay convert trained/trainer_0 my_sae
  assay convert google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71 gemma_20"""
)
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--input-scale",
    type=float,
    help="What activations were multiplied by in training, for files that say only that they were.",
)
@_json
def convert(source: str, target: Path, input_scale: float | None, as_json: bool) -> None:
    """Convert an SAE of any format that can be read into the SAELens layout.

    SOURCE is what `assay show` takes. Golden input and output vectors are written beside the
    weights; the result must reproduce what the source's own formula gives, or nothing is written.
    """
    from latent_assay import formats

    _tell(formats.convert(source, target, input_scale=input_scale).to_json(), as_json)


@main.command(
    epilog="""\b
Examples:
  assay reproduce --list
  assay reproduce --quick                every claim, in minutes
  assay reproduce 002-fig-8              one claim
  assay reproduce 004 --out runs/004     a whole source"""
)
@click.argument("ids", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Name the claims and stop.")
@click.option(
    "--quick", is_flag=True, help="Population training where worlds are finite; fewer steps."
)
@_out("runs/reproductions")
@_json
@_quiet
def reproduce(
    ids: tuple[str, ...], only_list: bool, quick: bool, out: Path, as_json: bool, quiet: bool
) -> None:
    """Test what the papers claim, and show paper, prediction and measurement side by side.

    IDS are claims, or the beginnings of their names such as a source's number; all, if none is
    given. Writes report.html and reproductions.json. Ends with 0 whether or not claims hold.
    """
    from latent_assay.reproductions import chosen
    from latent_assay.reproductions import reproduce as run_entries

    entries = chosen(ids)
    if only_list:
        if as_json:
            click.echo(json.dumps([{"id": e.id, "title": e.title} for e in entries], indent=2))
        else:
            width = max((len(entry.id) for entry in entries), default=0)
            for entry in entries:
                click.echo(f"{entry.id:<{width}}  {entry.title}")
        return
    outcome = run_entries(entries, out, quick=quick, progress=not (quiet or as_json))
    content = {
        "report": str(outcome.report),
        "claims": len(outcome.results),
        "passed": outcome.passed,
        "failed": [name for name, result in outcome.results.items() if not result.passed],
        "seconds": round(outcome.seconds, 1),
    }
    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        click.echo(f"{outcome.passed} of {len(outcome.results)} claims reproduced")
        for name in content["failed"]:  # type: ignore[attr-defined]
            click.echo(f"not reproduced: {name}")
        click.echo(f"report: {outcome.report}")


_hook_point = click.option("--hook-point", help="Where the SAEs read; else as their files say.")


@main.command(
    epilog="""\b
Examples:
  assay compare runs/first/saes/topk runs/first/saes/batchtopk --activations runs/first/activations
  assay compare A B --model bundled:all-MiniLM-L6-v2 --text cpython
  assay compare A B C                            weights alone, in seconds"""
)
@click.argument("saes", nargs=-1, required=True)
@click.option("--activations", type=click.Path(path_type=Path), help="A harvest, or a file.")
@click.option("--model", help="Harvest activations from this model: folder, name or bundled one.")
@click.option("--text", default="cpython", show_default=True, help="Text to harvest from.")
@_hook_point
@click.option("--tokens", type=click.IntRange(2), default=20_000, show_default=True)
@click.option(
    "--threshold", type=float, default=0.7, show_default=True,
    help="Cosine or correlation from which on two latents count as the same.",
)  # fmt: skip
@_out("comparison")
@_json
@_quiet
def compare(
    saes: tuple[str, ...], activations: Path | None, model: str | None, text: str,
    hook_point: str | None, tokens: int, threshold: float, out: Path, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Compare SAES: what they share, how much of a difference is luck, what one alone has found.

    Each is a folder or file that `assay show` takes; the members of an ensemble are its seeds.
    Writes report.html and comparison.json.
    """
    from latent_assay.diagnosis import ComparisonConfig
    from latent_assay.runs.comparing import compare_files

    found = compare_files(
        saes, out, activations=activations, model=model, text=text, hook_point=hook_point,
        tokens=tokens, config=ComparisonConfig(threshold=threshold),
        progress=not (quiet or as_json),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found.content | {"report": str(found.page)}, indent=2))
        return
    for pair in found.comparison.pairs:
        click.echo(pair.verdict)
    for sae in found.comparison.saes:
        click.echo(f"{len(sae.alone):,} latents only in {sae.name}")
    click.echo(f"report: {found.page}")


@main.command(
    epilog="""\b
Examples:
  assay diagnose runs/first/saes/topk                     weights alone, in seconds
  assay diagnose runs/first/saes/topk --activations runs/first/activations --out diagnosis
  assay diagnose SAE --model bundled:all-MiniLM-L6-v2 --text cpython
  assay diagnose SAE --world hierarchical_demo --json | jq .counts"""
)
@click.argument("sae")
@click.option("--activations", type=click.Path(path_type=Path), help="A harvest, or a file.")
@click.option("--model", help="Harvest activations from this model: folder, name or bundled one.")
@click.option("--text", default="cpython", show_default=True, help="Text to harvest from.")
@_hook_point
@click.option("--world", help="Sample activations from this world.")
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Activations to read, at most.",
)
@click.option("--member", type=click.IntRange(0), help="Which member of an ensemble.")
@click.option(
    "--extension",
    type=click.Path(path_type=Path),
    help="An extension of this SAE, for what its latents handed over.",
)
@_out(None)
@_json
@_quiet
def diagnose(
    sae: str, activations: Path | None, model: str | None, text: str, hook_point: str | None,
    world: str | None, samples: int, member: int | None, extension: Path | None,
    out: Path | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Tell what each latent of SAE is made of, how surely, and what to change.

    SAE is what `assay show` takes. Without activations the weights alone are judged, which shows
    less. With --out, everything is written there, with a page for reading, diagnosis.html; --json
    lists every latent.
    """
    from latent_assay.runs.diagnosing import diagnose_files

    found = diagnose_files(
        sae, activations=activations, model=model, text=text, hook_point=hook_point, world=world,
        samples=samples, member=member, extension=extension, folder=out,
        progress=not (quiet or as_json),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    read = f"{found.evidence.n_samples:,} activations" if found.evidence.n_samples else "weights"
    click.echo(f"{found.width:,} latents, judged by {read}")
    for verdict, n in found.counts().items():
        if n:
            click.echo(f"{n:>8,}  {n / found.width:>6.1%}  {verdict.value.replace('_', ' ')}")
    for each in found.advice[:3]:
        click.echo(f"{each.code} ({each.latents:,} latents): {each.text}")
    if out is not None:
        click.echo(f"diagnosis: {out / 'diagnosis.html'}")


@main.command(
    epilog="""\b
Examples:
  assay train minilm_choosing && assay choose runs/minilm_choosing
  assay choose runs/grid --out advice
  assay choose runs/grid --json | jq '.choices[] | [.name, .best, .low, .high]'"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--samples", type=click.IntRange(200), default=10_000, show_default=True,
    help="Activations that were not trained on, at most.",
)  # fmt: skip
@click.option(
    "--verdicts/--no-verdicts", default=True, show_default=True,
    help="Diagnose the SAEs of grids over width and multiplier; the slow part.",
)  # fmt: skip
@_out(None)
@_json
@_quiet
def choose(
    run: Path, samples: int, verdicts: bool, out: Path | None, as_json: bool, quiet: bool
) -> None:
    """Say from the grids of RUN which L0, width and multiplier to take, and how surely.

    RUN is a folder that `assay train` left, with a [[grid]] over k, l1, l0, target_l0, width or
    multiplier. Writes report.html and choosing.json, to RUN/choosing unless --out is given.
    """
    from latent_assay.runs.choosing import choose_from_run

    found = choose_from_run(
        run, out, samples=samples, verdicts=verdicts, progress=not (quiet or as_json)
    )
    if as_json:
        click.echo(json.dumps(found.content | {"report": str(found.page)}, indent=2))
        return
    for choice in found.choices:
        click.echo(f"{choice.name}: {choice.advice}")
        for sentence in choice.evidence:
            click.echo(f"    {sentence}")
    click.echo(f"report: {found.page}")


@main.command(
    epilog="""\b
Examples:
  assay calibrate                          precision, recall and calibration of every verdict
  assay calibrate --json > figures.json    the same for programs
  assay calibrate --packaged               judge the calibration that comes with the package
  assay calibrate --out runs/calibration   with a page, and the calibration that was fitted"""
)
@click.option("--quick", is_flag=True, help="A minute's work; the figures mean little.")
@click.option("--packaged", is_flag=True, help="Fit nothing: judge the package's calibration.")
@click.option("--write", is_flag=True, help="Make what was fitted the package's calibration.")
@click.option(
    "--docs", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Replace the figures in this page of the documentation.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Processes that share the work.")
@_out(None)
@_json
@_quiet
def calibrate(
    quick: bool, packaged: bool, write: bool, docs: Path | None, workers: int | None,
    out: Path | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Say how far the verdicts of `diagnose` can be trusted, on SAEs whose failures are known.

    SAEs are planted and trained in worlds of known features; the model from evidence to probability
    is fitted on some worlds and judged on others.
    """
    from latent_assay.diagnosis.calibration import store
    from latent_assay.diagnosis.calibration.calibrating import calibrate as run
    from latent_assay.diagnosis.calibration.cases import QUICK
    from latent_assay.diagnosis.calibration.page import told
    from latent_assay.diagnosis.calibration_model import Calibration

    store.check_hurry(quick=quick, write=write, docs=docs)
    found = run(
        QUICK if quick else None,
        calibration=Calibration.default() if packaged else None,
        workers=workers,
        progress=None if quiet or as_json else lambda line: click.echo(line, err=True),
    )
    places = store.keep(found, out=out, write=write, docs=docs)
    if as_json:
        click.echo(json.dumps(found.figures | places, indent=2))
        return
    click.echo(told(found.figures))
    for name, place in places.items():
        click.echo(f"{name}: {place}")


@main.command(
    "eval",
    epilog="""\b
Examples:
  assay eval runs/first/saes/topk --model bundled:all-MiniLM-L6-v2
  assay eval A B --model gpt2 --only sparse_probing --only autointerp
  assay eval A --model gpt2 --labelled reviews.csv --judge http://localhost:8000/v1 \\
      --judge-model llama""",
)
@click.argument("saes", nargs=-1, required=True)
@click.option("--model", required=True, help="Folder, name on the hub, or bundled model.")
@click.option("--only", multiple=True, help="One evaluation; may be repeated. All by default.")
@click.option("--text", default="cpython", show_default=True, help="Text to find contexts in.")
@click.option(
    "--labelled",
    type=click.Path(path_type=Path),
    help="CSV or JSON Lines with `text` and `label`; Python's documentation by default.",
)
@_hook_point
@click.option(
    "--judge", help="An OpenAI-compatible address or a causal model, to explain and judge latents."
)
@click.option("--judge-model", help="The model's name at that address.")
@click.option("--tokens", type=click.IntRange(1_000), default=50_000, show_default=True)
@click.option("--latents", type=click.IntRange(1), default=50, help="Latents to interpret.")
@click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
@_out("evaluation")
@_json
@_quiet
def evaluate(
    saes: tuple[str, ...], model: str, only: tuple[str, ...], text: str, labelled: Path | None,
    hook_point: str | None, judge: str | None, judge_model: str | None, tokens: int, latents: int,
    device: str, out: Path, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Evaluate SAES with a language model, beside baselines that have learned nothing.

    Each is a folder or file that `assay show` takes; the members of an ensemble are its seeds. An
    evaluation that cannot be measured says why, and the others go on. The same command goes on
    where it stopped. Writes report.html, results.json and SAEBench's JSON.
    """
    from latent_assay.evals.autointerp import AutoInterpConfig, ExampleConfig
    from latent_assay.evals.materials import SuiteConfig
    from latent_assay.runs.evaluating import evaluate_files

    def tell(sae: str, evaluation: str) -> None:
        if not (quiet or as_json):
            click.echo(f"{sae}: {evaluation}", err=True)

    examples = ExampleConfig(latents=latents)
    found = evaluate_files(
        saes, out, model=model, only=only, text=text, labelled=labelled, hook_point=hook_point,
        judge=judge, judge_model=judge_model, device=device, advance=tell,
        config=SuiteConfig(tokens=tokens, autointerp=AutoInterpConfig(examples=examples)),
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found.content | {"report": str(found.page)}, indent=2))
        return
    for sae, results in found.results.items():
        for name, result in results.items():
            headline = result.headline
            if result.not_measurable is not None:
                click.echo(f"{sae}  {name}: not measurable, because {result.not_measurable}")
            elif headline is not None:
                click.echo(f"{sae}  {name}: {headline}")
    click.echo(f"report: {found.page}")


def _tell(content: dict[str, Any], as_json: bool) -> None:
    """Names and values in two columns, or JSON."""
    if as_json:
        click.echo(json.dumps(content, indent=2))
        return
    width = max(len(name) for name in content)
    for name, value in content.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, float):
            value = f"{value:.4g}"
        click.echo(f"{name:>{width}}  {value}")


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
