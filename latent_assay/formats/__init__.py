"""SAEs on disk: written in the layout that the field's tools read, read from all of theirs.

`save` writes the SAELens layout: one folder per SAE with `cfg.json` and `sae_weights.safetensors`;
an ensemble is a folder with one such folder per member. `load` also reads Gemma Scope,
dictionary_learning and sparsify, from this machine or from the Hugging Face hub, and tells them
apart by itself. Every SAE takes raw activations, and nothing is ever unpickled.
"""

from latent_assay.formats.converting import Conversion, convert
from latent_assay.formats.description import describe
from latent_assay.formats.loading import load, read, read_config
from latent_assay.formats.reading import Reading
from latent_assay.formats.recognise import recognise
from latent_assay.formats.saelens import save

__all__ = [
    "Conversion",
    "Reading",
    "convert",
    "describe",
    "load",
    "read",
    "read_config",
    "recognise",
    "save",
]
