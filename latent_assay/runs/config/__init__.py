"""What one file says about a run: where activations come from, and which SAEs to train on them.

A file is TOML (or the same content as JSON). Exactly one of the tables `world`, `model` and
`activations` says where activations come from:

    title = "BatchTopK on a small model"

    [model]
    name = "bundled:all-MiniLM-L6-v2"
    hook_point = "blocks.2.hook_resid_post"
    tokens = 100_000

    [training]
    steps = 1_000
    batch_size = 2_048

    [[sae]]
    name = "BatchTopK"
    recipe = "batchtopk"
    width = 4_096
    k = 32

`[[grid]]` makes many SAEs from one table (`config.grid`).
"""

from latent_assay.runs.config.ensembles import EnsemblePlan
from latent_assay.runs.config.extension import ExtensionPlan
from latent_assay.runs.config.grid import GridPlan
from latent_assay.runs.config.images import ImagesSource
from latent_assay.runs.config.overrides import override
from latent_assay.runs.config.plans import SAEPlan, TrainingPlan, training_config
from latent_assay.runs.config.run_config import (
    RunConfig,
    parse_config,
    read_config,
    shipped_configs,
)
from latent_assay.runs.config.source import (
    SOURCES,
    FileSource,
    ModelSource,
    Source,
    WorldSource,
    table_of,
)

__all__ = [
    "SOURCES",
    "EnsemblePlan",
    "ExtensionPlan",
    "FileSource",
    "GridPlan",
    "ImagesSource",
    "ModelSource",
    "RunConfig",
    "SAEPlan",
    "Source",
    "TrainingPlan",
    "WorldSource",
    "override",
    "parse_config",
    "read_config",
    "shipped_configs",
    "table_of",
    "training_config",
]
