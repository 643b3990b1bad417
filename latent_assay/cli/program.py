"""The program `assay` and what its commands share.

Exit status: 0 done; 1 a defect of ours (with a traceback); 2 a mistake in what was asked, told in
one paragraph; 130 interrupted, with everything kept.
"""

import json
import sys
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
  assay diagnose runs/h/saes/plain    what is each latent made of?
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


def out_option(default: str | None) -> Any:
    """`--out`, with what it is if left out."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        default=default,
        show_default=default is not None,
        help="Folder for everything that is made.",
    )


quiet_option = click.option("--quiet", is_flag=True, help="No progress bars.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
seed_option = click.option(
    "--seed", type=click.IntRange(0), help="Seed of the data; overrides the file's."
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A value in place of the file's, such as training.steps=20; may be repeated.",
)
fresh_option = click.option("--fresh", is_flag=True, help="Train anew even where checkpoints are.")
hook_point_option = click.option(
    "--hook-point", help="Where the SAEs read; else as their files say."
)


def tell(content: dict[str, Any], as_json: bool) -> None:
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
