"""From a configuration file to a folder of trained SAEs and a report.

config ──► source (world, model or file) ──► fit each SAE ──► measure beside baselines ──► report
"""

from latent_assay.runs.config import RunConfig, read_config, shipped_configs
from latent_assay.runs.reporting import write_report
from latent_assay.runs.run import plan_of, train
from latent_assay.runs.submission import submit

__all__ = [
    "RunConfig",
    "plan_of",
    "read_config",
    "shipped_configs",
    "submit",
    "train",
    "write_report",
]
