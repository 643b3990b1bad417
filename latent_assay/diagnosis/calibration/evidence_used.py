"""Which evidence speaks for and against each failure, tier by tier."""

from collections.abc import Sequence

from latent_assay.diagnosis.calibration.fitting import Use
from latent_assay.diagnosis.evidence import Tier
from latent_assay.diagnosis.verdict import Verdict

USES: dict[Tier, dict[Verdict, Sequence[Use]]] = {
    Tier.WEIGHTS: {},
    Tier.ACTIVATIONS: {
        Verdict.DEAD: (Use("firings", -1, (0.0, 1.0)),),
    },
}
"""The columns of evidence that each model is made of; `COLUMNS` says what each means."""
