"""Diagnose, calibrate, choose, compare and evaluate."""

import json
from pathlib import Path

import click

from latent_assay.cli.program import hook_point_option, json_option, main, out_option, quiet_option


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
@hook_point_option
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
@out_option(None)
@json_option
@quiet_option
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
@out_option(None)
@json_option
@quiet_option
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
@out_option(None)
@json_option
@quiet_option
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
  assay compare runs/first/saes/topk runs/first/saes/batchtopk --activations runs/first/activations
  assay compare A B --model bundled:all-MiniLM-L6-v2 --text cpython
  assay compare A B C                            weights alone, in seconds"""
)
@click.argument("saes", nargs=-1, required=True)
@click.option("--activations", type=click.Path(path_type=Path), help="A harvest, or a file.")
@click.option("--model", help="Harvest activations from this model: folder, name or bundled one.")
@click.option("--text", default="cpython", show_default=True, help="Text to harvest from.")
@hook_point_option
@click.option("--tokens", type=click.IntRange(2), default=20_000, show_default=True)
@click.option(
    "--threshold", type=float, default=0.7, show_default=True,
    help="Cosine or correlation from which on two latents count as the same.",
)  # fmt: skip
@out_option("comparison")
@json_option
@quiet_option
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
@hook_point_option
@click.option(
    "--judge", help="An OpenAI-compatible address or a causal model, to explain and judge latents."
)
@click.option("--judge-model", help="The model's name at that address.")
@click.option("--tokens", type=click.IntRange(1_000), default=50_000, show_default=True)
@click.option("--latents", type=click.IntRange(1), default=50, help="Latents to interpret.")
@click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
@out_option("evaluation")
@json_option
@quiet_option
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
