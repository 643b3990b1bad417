"""The command line: `assay`."""

# importing them adds their commands to the program
from latent_assay.cli import files, judging, reproducing, training
from latent_assay.cli.program import main

__all__ = ["files", "judging", "main", "reproducing", "training"]
