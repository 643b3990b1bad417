"""What each latent is made of.

- Diagnosis: measure (`evidence`), judge (`judge`, `Calibration`), or both at once (`diagnose`);
  the verdicts and their definitions (`Verdict`), the result (`Diagnosis`).
- Comparison: which latents several SAEs share and which one alone has (`compare`).
- Extension: train an SAE on with and without new latents (`continue_both`, `continue_together`),
  run the experiment over several widths, sparsities or layers (`hedging_degree_study`,
  `extension_outcome`, `outcomes_by_n`), see who gave what to whom (`handover`, `case_study`), put
  it on a page (`degree_sections`, `extension_report`).
"""

from latent_assay.diagnosis.calibration_model import Calibration, Term, VerdictModel
from latent_assay.diagnosis.case_study import CaseConfig, case_study
from latent_assay.diagnosis.columns import COLUMNS, DRAWINGS
from latent_assay.diagnosis.comparison import (
    ComparedSAE,
    Comparison,
    ComparisonConfig,
    Kinship,
    PairOfSAEs,
    compare,
)
from latent_assay.diagnosis.comparison_report import comparison_json, comparison_sections
from latent_assay.diagnosis.continuation import Both, continue_both, continue_together
from latent_assay.diagnosis.diagnosis import Advice, Diagnosis
from latent_assay.diagnosis.evidence import Evidence, Relatives, Role, Tier
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
from latent_assay.diagnosis.gathering import evidence
from latent_assay.diagnosis.handover import Handover, handover
from latent_assay.diagnosis.judging import diagnose, headline, judge
from latent_assay.diagnosis.penalty_floor import FlooredRamp, with_penalty_floor
from latent_assay.diagnosis.verdict import FAILURES, PRECEDENCE, VERDICTS, Verdict

__all__ = [
    "COLUMNS",
    "DRAWINGS",
    "FAILURES",
    "PRECEDENCE",
    "VERDICTS",
    "Advice",
    "Both",
    "Calibration",
    "CaseConfig",
    "ComparedSAE",
    "Comparison",
    "ComparisonConfig",
    "Diagnosis",
    "Evidence",
    "ExtensionConfig",
    "ExtensionNumbers",
    "ExtensionOutcome",
    "FlooredRamp",
    "Handover",
    "Kinship",
    "PairOfSAEs",
    "Relatives",
    "Role",
    "Term",
    "Tier",
    "Verdict",
    "VerdictModel",
    "case_study",
    "compare",
    "comparison_json",
    "comparison_sections",
    "continue_both",
    "continue_together",
    "degree_reading",
    "degree_sections",
    "diagnose",
    "evidence",
    "extension_outcome",
    "extension_report",
    "handover",
    "headline",
    "hedging_degree_study",
    "judge",
    "outcomes_by_n",
    "with_penalty_floor",
]
