"""`python -m latent_assay` is `assay`."""

from latent_assay.cli import main

main(prog_name="assay")
