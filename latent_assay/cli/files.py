"""Look into files of SAEs, and convert them."""

from pathlib import Path

import click

from latent_assay.cli.program import json_option, main, tell


@main.command(
    epilog="""\b
Examples:
  assay show runs/first/saes/batchtopk
  assay show downloads/params.npz --json
  assay show google/gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"""
)
@click.argument("source")
@json_option
def show(source: str, as_json: bool) -> None:
    """Tell what is in an SAE's files: format, sizes, model, hook point, normalisation, origin.

    SOURCE is a folder or file that SAELens, Gemma Scope, dictionary_learning, sparsify or this
    program wrote, or a place on the Hugging Face hub.
    """
    from latent_assay.formats import describe

    tell(describe(source), as_json)


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
@json_option
def convert(source: str, target: Path, input_scale: float | None, as_json: bool) -> None:
    """Convert an SAE of any format that can be read into the SAELens layout.

    SOURCE is what `assay show` takes. Golden input and output vectors are written beside the
    weights; the result must reproduce what the source's own formula gives, or nothing is written.
    """
    from latent_assay import formats

    tell(formats.convert(source, target, input_scale=input_scale).to_json(), as_json)
