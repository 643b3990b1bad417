"""What to change in training, from what ails the latents."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from latent_assay.diagnosis.diagnosis import Advice
from latent_assay.diagnosis.verdict import VERDICTS, Verdict

_TEXTS: dict[Verdict, tuple[tuple[str, str], ...]] = {
    Verdict.ABSORBED: (
        (
            "matryoshka",
            "Parents have holes where their children fire: train with nested losses "
            "(`recipes.matryoshka_batchtopk`), whose inner levels must do without the children.",
        ),
        (
            "less_sparsity",
            "Absorption pays because it saves firings: a larger k or a smaller penalty lessens it.",
        ),
    ),
    Verdict.HEDGED: (
        (
            "raise_width",
            "Latents carry parts of features that have no latent: make the SAE wider; in a "
            "matryoshka SAE, lower the coefficients of the inner levels.",
        ),
        (
            "check_l0",
            "Mixed features also come from an L0 below the true one: try a larger k, or a smaller "
            "penalty.",
        ),
    ),
    Verdict.DUPLICATE: (
        (
            "lower_width",
            "Several latents do the same: make the SAE narrower, or merge them by adding their "
            "decoder rows.",
        ),
    ),
    Verdict.SPLIT: (
        (
            "lower_width",
            "One feature is dealt out to several latents: make the SAE narrower, or train nested "
            "levels.",
        ),
    ),
    Verdict.COMPOSED: (
        (
            "more_latents_per_sample",
            "Latents stand for conjunctions, which saves firings: raise k or lower the penalty.",
        ),
    ),
    Verdict.SEVERAL_PEAKS: (
        (
            "two_peaks",
            "More than one thing makes these latents fire: add the loss of activation "
            "orthogonality (`losses.ActivationOrthogonality`), or widen.",
        ),
    ),
    Verdict.DEAD: (
        (
            "revive",
            "Latents never fire: add an auxiliary loss (AuxK), warm the sparsity up more slowly, "
            "or make the SAE narrower.",
        ),
    ),
    Verdict.DENSE: (
        (
            "subtract_mean",
            "Some latents fire nearly always: check that the decoder bias takes the mean, and "
            "that special tokens and outliers were left out; lower k if there are many.",
        ),
    ),
}


def advice_for(verdict: Verdict) -> tuple[str, ...]:
    """What to change against one failure; nothing for *clean* and *undecided*."""
    return tuple(text for _, text in _TEXTS.get(verdict, ()))


def advice(
    probabilities: Float[ndarray, "latent verdict"], tier_has: set[Verdict]
) -> tuple[Advice, ...]:
    """What to change, the advice that would help most latents first.

    Each failure has its advice; a latent counts for every failure that it has with probability at
    least one half.

    **Arguments:**
    - `probabilities`: in the order of `VERDICTS`.
    - `tier_has`: the failures that could be seen.
    """
    helped: dict[str, tuple[str, ndarray]] = {}
    for verdict, entries in _TEXTS.items():
        if verdict not in tier_has:
            continue
        found = probabilities[:, VERDICTS.index(verdict)] >= 0.5
        for code, text in entries:
            before = helped.get(code)
            helped[code] = (text, found) if before is None else (before[0], before[1] | found)
    counted = [
        Advice(code=code, text=text, latents=int(found.sum()))
        for code, (text, found) in helped.items()
        if np.any(found)
    ]
    return tuple(sorted(counted, key=lambda each: -each.latents))
