"""The overview of some diagnoses: counts by verdict, expected errors, advice, named latents."""

from collections.abc import Sequence

import numpy as np

from latent_assay.diagnosis.diagnosis import Diagnosis
from latent_assay.diagnosis.evidence import Tier
from latent_assay.diagnosis.pages.diagnosed import DiagnosedSAE
from latent_assay.diagnosis.pages.named import named
from latent_assay.diagnosis.verdict import FAILURES, VERDICTS, Verdict, meaning
from latent_assay.report.diagnosis import AdviceLine, SAEVerdicts, VerdictLine, VerdictOverview

_ADVICE = 4


def overview(
    saes: Sequence[DiagnosedSAE], *, page: str = "", title: str = "What the latents are made of"
) -> VerdictOverview:
    """The overview as a section of a report.

    **Arguments:**
    - `saes`: what was diagnosed.
    - `page`: where the pages of single latents are, relative to the report; empty for the same
      page.
    - `title`: the section's heading.
    """
    return VerdictOverview(
        title=title,
        saes=tuple(_of(one) for one in saes),
        page=page,
        sentence=(
            "One verdict per latent. The share that should be wrong follows from the verdicts' own "
            "probabilities, which were calibrated on SAEs whose failures are known."
        ),
    )


def _of(one: DiagnosedSAE) -> SAEVerdicts:
    found = one.diagnosis
    counts = found.counts()
    lines = [_line(found, verdict, counts[verdict]) for verdict in VERDICTS]
    failures = [line for line in lines if Verdict(line.verdict) in FAILURES]
    clean, undecided = lines[0], lines[VERDICTS.index(Verdict.UNDECIDED)]
    return SAEVerdicts(
        name=one.name,
        width=found.width,
        basis=_basis(found),
        lines=(clean, *sorted(failures, key=lambda each: -each.count), undecided),
        advice=tuple(
            AdviceLine(text=each.text, count=each.latents, share=each.latents / found.width)
            for each in found.advice[:_ADVICE]
        ),
        named=named(one),
        truth=_against_truth(one),
    )


def _line(found: Diagnosis, verdict: Verdict, count: int) -> VerdictLine:
    at = found.chosen == VERDICTS.index(verdict)
    wrong = None
    if verdict != Verdict.UNDECIDED and count:
        wrong = float(1 - found.probability(verdict)[at].mean())
    beside = int((found.found(verdict) & ~at).sum()) if verdict in FAILURES else 0
    return VerdictLine(
        verdict=verdict.value,
        label=label(verdict),
        definition=meaning(verdict),
        count=count,
        share=count / found.width,
        wrong=wrong,
        beside=beside,
    )


def label(verdict: Verdict) -> str:
    """A verdict in words."""
    return verdict.value.replace("_", " ")


def _basis(found: Diagnosis) -> str:
    if found.tier == Tier.WEIGHTS:
        return "judged by its weights alone, which show less than activations do"
    more = " and a continuation" if found.tier == Tier.CONTINUATION else ""
    return f"judged by its weights, {found.evidence.n_samples:,} activations{more}"


def _against_truth(one: DiagnosedSAE) -> str:
    """How many headlines are true, where that is known."""
    if one.truth is None:
        return ""
    right = grey = wrong = 0
    failing = one.truth.clear.any(dim=1).numpy()
    for latent, index in enumerate(one.diagnosis.chosen.tolist()):
        verdict = VERDICTS[index]
        if verdict == Verdict.UNDECIDED:
            continue
        if verdict == Verdict.CLEAN:
            true, near = bool(one.truth.clean[latent]), not failing[latent]
        else:
            column = FAILURES.index(verdict)
            true = bool(one.truth.clear[latent, column])
            near = bool(one.truth.grey[latent, column])
        right, grey, wrong = (
            right + true,
            grey + (near and not true),
            wrong + (not true and not near),
        )
    decided = int(np.sum(one.diagnosis.chosen != VERDICTS.index(Verdict.UNDECIDED)))
    return (
        f"The features are known here. Of {decided:,} verdicts: {right:,} true, {grey:,} in the "
        f"grey zone between having a failure and not, {wrong:,} wrong."
    )
