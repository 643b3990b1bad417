"""Which evidence speaks for and against each failure, tier by tier."""

from collections.abc import Sequence

from latent_assay.diagnosis.calibration.fitting import Use
from latent_assay.diagnosis.evidence import Tier
from latent_assay.diagnosis.verdict import Verdict

USES: dict[Tier, dict[Verdict, Sequence[Use]]] = {
    Tier.WEIGHTS: {
        Verdict.ABSORBED: (
            Use("asymmetry", 1),
            Use("nearest", 1),
            Use("explained", -1),
            Use("asymmetry_reverse", -1),
        ),
        Verdict.ABSORBING: (
            Use("asymmetry_reverse", 1),
            Use("explained", 1),
            Use("first_part", 1),
            Use("asymmetry", -1),
        ),
        Verdict.HEDGED: (
            Use("opposite", -1),
            Use("explained", 1),
            Use("encoder_decoder", 1),
            Use("crowding", 0),
        ),
        Verdict.DUPLICATE: (Use("nearest", 1), Use("nearest_encoder", 1)),
        Verdict.SPLIT: (Use("nearest", 1), Use("nearest_encoder", -1)),
        Verdict.COMPOSED: (Use("explained", 1), Use("second_part", 1)),
        Verdict.DENSE: (Use("reach", -1),),
        Verdict.DEAD: (Use("reach", 1), Use("self_gain", -1), Use("encoder_decoder", -1)),
    },
    Tier.ACTIVATIONS: {
        Verdict.ABSORBED: (
            Use("kin_child", 1),
            Use("child_strength", 1),
            Use("kin_child_cosine", 1),
            Use("kin_child_retained", -1),
            Use("kin_child_unseen"),
            Use("kin_child_chance", 1),
            Use("kin_child_cancelled", -1),
            Use("kin_child_spread"),
        ),
        Verdict.ABSORBING: (
            Use("kin_parent", 1),
            Use("parent_strength", 1),
            Use("kin_parent_chance", 1),
            Use("kin_parent_cancelled", -1),
        ),
        Verdict.HEDGED: (
            Use("foreign", 1),
            Use("companion_strength", 1),
            Use("steady_slope", 1),
        ),
        Verdict.DUPLICATE: (
            Use("twin_cosine", 1),
            Use("twin_overlap", 1),
            Use("twin_cosine*twin_overlap", 1),
        ),
        Verdict.SPLIT: (Use("sibling_cosine", 1), Use("sibling_overlap", -1)),
        Verdict.COMPOSED: (
            Use("explained", 1),
            Use("second_part", 1),
            Use("parts_silent", -1),
            Use("parts_carried", 1),
        ),
        Verdict.SEVERAL_PEAKS: (
            Use("peaks", 1),
            Use("peaks_gain", 1),
            Use("peaks_valley", 1),
            Use("peaks_minor", 1),
        ),
        Verdict.DENSE: (Use("density", 1), Use("crowd", 1)),
        Verdict.DEAD: (Use("silent", 1, (0.0, 1.0)),),
    },
}
"""The columns of evidence that each model is made of; `COLUMNS` says what each means."""
