"""From an SAE to a verdict per latent."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from latent_assay.diagnosis.advising import advice
from latent_assay.diagnosis.calibration_model import Calibration
from latent_assay.diagnosis.diagnosis import Diagnosis
from latent_assay.diagnosis.evidence import Evidence
from latent_assay.diagnosis.gathering import evidence as gather
from latent_assay.diagnosis.verdict import FAILURES, PRECEDENCE, VERDICTS, Verdict
from latent_assay.sae import SAE

DECISIVE = 0.5
"""A failure of at least this probability is found."""
CLEAR = 0.35
"""A latent whose failures are all below this is clean."""
FEWEST_FIRINGS = 20
"""With fewer firings a latent is undecided unless it is dead or its weights are decisive."""


def diagnose(
    sae: SAE,
    activations: Iterable[Float[Tensor, "_ d_in"]] | None = None,
    *,
    member: int | None = None,
    handed_over: Float[Tensor, " latent"] | None = None,
    calibration: Calibration | None = None,
    provenance: dict[str, Any] | None = None,
    generator: torch.Generator | None = None,
) -> Diagnosis:
    """What each latent of an SAE is made of.

    **Arguments:**
    - `sae`: any SAE that was loaded or trained; it is judged as it is exported.
    - `activations`: batches of raw activations, gone through once; None to judge by the weights
      alone.
    - `member`: which member of an ensemble; None if there is only one.
    - `handed_over`: each latent's hedging degree from a continuation, if there was one.
    - `calibration`: from evidence to probabilities; None for the package's own.
    - `provenance`: what should stand in the result about SAE and activations.
    - `generator`: which firings are looked at closely; seed 0 if None.

    **Returns:** the diagnosis; see `headline` for how the verdict is chosen.

    **Raises:** as `evidence` does.
    """
    found = gather(sae, activations, member=member, handed_over=handed_over, generator=generator)
    return judge(found, calibration, provenance=provenance)


def judge(
    found: Evidence,
    calibration: Calibration | None = None,
    *,
    provenance: dict[str, Any] | None = None,
) -> Diagnosis:
    """The verdicts that some evidence leads to.

    **Arguments:** as for `diagnose`.
    """
    calibration = Calibration.default() if calibration is None else calibration
    scores, probabilities = calibration.judge(found)
    return Diagnosis(
        evidence=found,
        scores=scores,
        probabilities=probabilities,
        chosen=headline(probabilities, found.columns.get("firings")),
        advice=advice(probabilities, set(calibration.models[found.tier])),
        provenance={**(provenance or {}), "calibration": calibration.provenance},
    )


def headline(
    probabilities: Float[ndarray, "latent verdict"],
    firings: Float[ndarray, " latent"] | None = None,
) -> Int[ndarray, " latent"]:
    r"""One verdict for each latent.

    Of the failures with probability at least 1/2, the first in `PRECEDENCE`. Without one: *clean*
    if no failure reaches 0.35, else *undecided*. A latent that fired, but fewer than 20 times, is
    undecided whatever the probabilities say.

    **Arguments:**
    - `probabilities`: in the order of `VERDICTS`.
    - `firings`: how often each latent fired; None if that was not seen.

    **Returns:** indices into `VERDICTS`.
    """
    failures = [VERDICTS.index(verdict) for verdict in FAILURES]
    worst = probabilities[:, failures].max(axis=1)
    chosen = np.where(
        worst < CLEAR, VERDICTS.index(Verdict.CLEAN), VERDICTS.index(Verdict.UNDECIDED)
    )
    for verdict in reversed(PRECEDENCE):
        index = VERDICTS.index(verdict)
        chosen = np.where(probabilities[:, index] >= DECISIVE, index, chosen)
    if firings is not None:
        few = (firings > 0) & (firings < FEWEST_FIRINGS)
        chosen = np.where(few, VERDICTS.index(Verdict.UNDECIDED), chosen)
    return chosen
