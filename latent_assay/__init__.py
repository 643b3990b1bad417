"""Latent Assay: train sparse autoencoders and find out what each latent is made of.

    from latent_assay import fit, measure, recipes, save, worlds

    world = worlds.hierarchical_demo()
    sae, objective, config = recipes.topk(d_in=world.d_in, width=8, k=2, seeds=range(6))
    history = fit(sae, objective, world.stream(1024, seeds=0), config)
    save(sae, "my_sae")

The parts, in the order in which data flows through them:

- `worlds`: data whose true features are known; `activations`: a language model's.
- `recipes`: named architectures; `SAE`, `losses`, `sparsifiers`: what they are made of.
- `fit`: the training loop; `formats`: saved SAEs.
- `measure`, `metrics`, `baselines`: what came of it, beside what chance reaches.
- `extend`, `diagnosis`: what new latents take from the old ones.
- `plots`, `report`: for the eye.
"""

import importlib
from importlib.metadata import version
from types import ModuleType
from typing import Any

from latent_assay.batch import WeightedBatch
from latent_assay.errors import AssayError, did_you_mean
from latent_assay.extension import extend
from latent_assay.formats import load, save
from latent_assay.history import History
from latent_assay.measurement import Measurement, measure
from latent_assay.sae import SAE, stack
from latent_assay.training import TrainingConfig, fit
from latent_assay.worlds import World

__version__ = version("latent-assay")

_MODULES = frozenset(
    {
        "activations",
        "baselines",
        "diagnosis",
        "errors",
        "evals",
        "formats",
        "initialisation",
        "kernels",
        "losses",
        "metrics",
        "plots",
        "population",
        "recipes",
        "report",
        "reproductions",
        "runs",
        "sparsifiers",
        "theory",
        "worlds",
    }
)

__all__ = [
    "SAE",
    "AssayError",
    "History",
    "Measurement",
    "TrainingConfig",
    "WeightedBatch",
    "World",
    "__version__",
    "activations",
    "baselines",
    "diagnosis",
    "errors",
    "evals",
    "extend",
    "fit",
    "formats",
    "initialisation",
    "kernels",
    "load",
    "losses",
    "measure",
    "metrics",
    "plots",
    "population",
    "recipes",
    "report",
    "reproductions",
    "runs",
    "save",
    "sparsifiers",
    "stack",
    "theory",
    "worlds",
]


def __getattr__(name: str) -> ModuleType:
    """Import a part when it is first asked for."""
    if name in _MODULES:
        return importlib.import_module(f"latent_assay.{name}")
    raise AttributeError(
        f"module 'latent_assay' has no attribute '{name}'.{did_you_mean(name, __all__)}"
    )


def __dir__() -> list[Any]:
    return sorted(__all__)
