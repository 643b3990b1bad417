"""What each latent is made of.

- Extension: train an SAE on with and without new latents (`continue_both`, `continue_together`),
  run the experiment over several widths, sparsities or layers (`hedging_degree_study`,
  `extension_outcome`, `outcomes_by_n`), see who gave what to whom (`handover`, `case_study`), put
  it on a page (`degree_sections`, `extension_report`).
"""

from latent_assay.diagnosis.case_study import CaseConfig, case_study
from latent_assay.diagnosis.continuation import Both, continue_both, continue_together
from latent_assay.diagnosis.extension_report import (
    degree_reading,
    degree_sections,
    extension_report,
)
from latent_assay.diagnosis.extension_study import (
    ExtensionConfig,
    ExtensionNumbers,
    ExtensionOutcome,
    extension_outcome,
    hedging_degree_study,
    outcomes_by_n,
)
from latent_assay.diagnosis.handover import Handover, handover
from latent_assay.diagnosis.penalty_floor import FlooredRamp, with_penalty_floor

__all__ = [
    "Both",
    "CaseConfig",
    "ExtensionConfig",
    "ExtensionNumbers",
    "ExtensionOutcome",
    "FlooredRamp",
    "Handover",
    "case_study",
    "continue_both",
    "continue_together",
    "degree_reading",
    "degree_sections",
    "extension_outcome",
    "extension_report",
    "handover",
    "hedging_degree_study",
    "outcomes_by_n",
    "with_penalty_floor",
]
