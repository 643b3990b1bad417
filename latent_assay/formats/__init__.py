"""SAEs on disk: the layout that the field's tools read.

One folder per SAE with `cfg.json` and `sae_weights.safetensors`; an ensemble is a folder with one
such folder per member. Every saved SAE takes raw activations, and nothing is ever unpickled.
"""

from latent_assay.formats.saelens import describe, load, read_config, save

__all__ = ["describe", "load", "read_config", "save"]
