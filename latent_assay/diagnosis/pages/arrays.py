"""A diagnosis as the arrays that its page draws from."""

import numpy as np
from numpy import ndarray

from latent_assay.diagnosis.columns import COLUMNS
from latent_assay.diagnosis.diagnosis import Diagnosis
from latent_assay.diagnosis.evidence import Relatives
from latent_assay.diagnosis.pages.diagnosed import DiagnosedSAE
from latent_assay.diagnosis.pages.excerpts import Excerpts
from latent_assay.diagnosis.verdict import FAILURES, VERDICTS, Verdict
from latent_assay.report.diagnosis import DiagnosedLatents
from latent_assay.report.diagnosis.explorer import SURE

MEASURES = ("cosine", "gain", "gained", "given", "overlap", "carried", "holes")
"""Which numbers of a pair of latents are shown, in this order."""
_NEAR = 12
"""Candidates that a page keeps of each latent; it shows those that matter most."""
_PER_ROLE = 8
"""Relatives of one role that a page shows; the count of all is not needed to judge one."""


def latents_of(one: DiagnosedSAE) -> DiagnosedLatents:
    """Everything that the page of each latent shows."""
    found = one.diagnosis
    arrays = {
        "chosen": found.chosen.astype(np.uint8),
        # rounded down, so that what is below one half stays so
        "probability": np.floor(found.probabilities * SURE + 1e-9).astype(np.uint8),
        "columns": columns_of(found),
        **_relatives(found.evidence.relatives, found.width),
        **_near(found),
        **_peaks(found),
    }
    if "firings" in found.evidence.columns:
        arrays["firings"] = found.evidence.columns["firings"].astype(np.uint32)
    if one.excerpts is not None:
        arrays |= _text(one.excerpts, found.width)
    if one.truth is not None:
        arrays |= _truth(one)
    return DiagnosedLatents(
        name=one.name,
        width=found.width,
        samples=found.evidence.n_samples,
        arrays=arrays,
        before=0 if one.excerpts is None else one.excerpts.config.before,
    )


def columns_of(found: Diagnosis) -> ndarray:
    """Every column of `COLUMNS`, in that order, in 16 bits."""
    unknown = np.full(found.width, np.nan)
    stacked = np.stack([found.evidence.columns.get(name, unknown) for name in COLUMNS])
    result: ndarray = np.clip(stacked, -65_000, 65_000).astype(np.float16)
    return result


def _relatives(relatives: Relatives, width: int) -> dict[str, ndarray]:
    """The strongest of each role, latent by latent."""
    group = relatives.latent * 16 + relatives.role
    first = np.searchsorted(group, group)
    kept = np.arange(len(group)) - first < _PER_ROLE
    latent = relatives.latent[kept]
    return {
        "relative.start": np.searchsorted(latent, np.arange(width + 1)).astype(np.uint32),
        "relative.other": relatives.other[kept].astype(np.int32),
        "relative.role": relatives.role[kept].astype(np.uint8),
        "relative.share": _rounded(relatives.share[kept], 100),
    }


def _near(found: Diagnosis) -> dict[str, ndarray]:
    drawings = found.evidence.drawings
    measures = [drawings.get(f"near.{name}") for name in MEASURES]
    return {
        "near.latent": drawings["near.latent"][:, :_NEAR].astype(np.int32),
        "near.measures": np.stack([_rounded(m[:, :_NEAR], 50) for m in measures if m is not None]),
    }


def _peaks(found: Diagnosis) -> dict[str, ndarray]:
    drawings = found.evidence.drawings
    if "histogram.count" not in drawings:
        return {}
    mixture = [drawings[f"mixture.{name}"] for name in ("weight", "mean", "sd")]
    return {
        "histogram": np.minimum(drawings["histogram.count"], 65_535).astype(np.uint16),
        "top": drawings["histogram.top"].astype(np.float32),
        "mixture": np.stack(mixture).astype(np.float32),
    }


def _text(text: Excerpts, width: int) -> dict[str, ndarray]:
    start = np.searchsorted(text.example_latent, np.arange(width + 1))
    return {
        "scale": text.scale,
        "example.start": start.astype(np.uint32),
        "example.position": text.example_position.astype(np.int32),
        "example.level": text.example_level,
        "hole.parent": text.hole_parent.astype(np.int32),
        "hole.child": text.hole_child.astype(np.int32),
        "hole.position": text.hole_position.astype(np.int32),
        "hole.asked": np.clip(text.hole_asked, -100, 100).astype(np.float16),
        "hole.level": text.hole_level,
        "hedge.latent": text.hedge_latent.astype(np.int32),
        "hedge.present": text.hedge_present.astype(np.uint8),
        "hedge.position": text.hedge_position.astype(np.int32),
        "hedge.level": text.hedge_level,
    }


def _truth(one: DiagnosedSAE) -> dict[str, ndarray]:
    truth = one.truth
    assert truth is not None
    table = np.zeros((one.diagnosis.width, len(VERDICTS)), dtype=np.uint8)
    for index, verdict in enumerate(FAILURES):
        column = VERDICTS.index(verdict)
        table[:, column] = 2 * truth.clear[:, index].numpy() + truth.grey[:, index].numpy()
    failing = table.max(axis=1)
    clean = np.where(truth.clean.numpy(), 2, np.where(failing == 2, 0, 1))
    table[:, VERDICTS.index(Verdict.CLEAN)] = clean
    own = truth.composition.own
    f1 = truth.composition.f1.gather(1, own.clamp_min(0)[:, None])[:, 0]
    return {
        "truth": table,
        "feature": own.numpy().astype(np.int32),
        "feature_f1": (100 * f1.clamp(0, 1)).round().numpy().astype(np.uint8),
    }


def _rounded(values: ndarray, times: int) -> ndarray:
    """In eight bits; -128 where a number is not known."""
    known = np.isfinite(values)
    size = np.clip(np.rint(np.where(known, values, 0.0) * times), -127, 127)
    return np.where(known, size, -128).astype(np.int8)
