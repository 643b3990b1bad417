"""Test what the papers claim."""

import json
from pathlib import Path

import click

from latent_assay.cli.program import json_option, main, out_option, quiet_option


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
@out_option("runs/reproductions")
@json_option
@quiet_option
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
