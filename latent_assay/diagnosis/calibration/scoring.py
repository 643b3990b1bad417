r"""How well verdicts agree with the truth: precision, recall and calibration, with their spread.

A verdict is *found* where its probability is at least 1/2. Latents in the grey zone of a failure
count neither for nor against it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from latent_assay.diagnosis.calibration.table import Table
from latent_assay.diagnosis.calibration_model import Calibration
from latent_assay.diagnosis.evidence import Tier
from latent_assay.diagnosis.judging import headline
from latent_assay.diagnosis.verdict import FAILURES, VERDICTS, Verdict

BINS = 10
"""Bins of equal width between 0 and 1 in which probabilities are compared with frequencies."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How one verdict did on some latents. None where there was nothing to divide by."""

    precision: float | None
    """Share of the latents with this verdict that truly have the failure."""
    recall: float | None
    """Share of the latents that truly have the failure to which the verdict was given."""
    support: int
    """Latents that truly have it."""
    found: int
    """Latents with the verdict, grey ones left out."""
    grey: int
    """Latents in its grey zone."""
    latents: int
    """All latents that count."""
    calibration_error: float | None
    """Expected calibration error over all latents that count."""


def score(
    probability: Float[ndarray, " latent"],
    clear: Bool[ndarray, " latent"],
    grey: Bool[ndarray, " latent"],
) -> Score:
    r"""Precision, recall and expected calibration error of one verdict.

    With bins $b$ of ten equal widths, $n_b$ latents, mean probability $\bar p_b$ and frequency
    $\bar y_b$ in each, the calibration error is $\sum_b \frac{n_b}{n} |\bar p_b - \bar y_b|$.

    **Arguments:**
    - `probability`: of the verdict.
    - `clear`: latents that truly have the failure.
    - `grey`: latents that do not count.

    **Reference:** Naeini, Cooper and Hauskrecht 2015, "Obtaining Well Calibrated Probabilities
    Using Bayesian Binning".
    """
    counts = ~grey
    p, truth = probability[counts], clear[counts]
    found = p >= 0.5
    hits = int((found & truth).sum())
    n_found, support, n = int(found.sum()), int(truth.sum()), len(p)
    return Score(
        precision=hits / n_found if n_found else None,
        recall=hits / support if support else None,
        support=support,
        found=n_found,
        grey=int(grey.sum()),
        latents=n,
        calibration_error=_calibration_error(p, truth) if n else None,
    )


def reliability(
    probability: Float[ndarray, " latent"],
    clear: Bool[ndarray, " latent"],
    grey: Bool[ndarray, " latent"],
) -> list[dict[str, float]]:
    """Per bin that holds latents: mean probability, frequency and number."""
    p, truth = probability[~grey], clear[~grey]
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    return [
        {
            "probability": float(p[bins == b].mean()),
            "frequency": float(truth[bins == b].mean()),
            "latents": int((bins == b).sum()),
        }
        for b in range(BINS)
        if (bins == b).any()
    ]


def _calibration_error(p: Float[ndarray, " latent"], truth: Bool[ndarray, " latent"]) -> float:
    none = np.zeros(len(p), dtype=bool)
    return sum(
        each["latents"] / len(p) * abs(each["probability"] - each["frequency"])
        for each in reliability(p, truth, none)
    )


def scored(table: Table, calibration: Calibration, tier: Tier) -> dict[str, Any]:
    """Everything that is said about a calibration on held-out worlds, ready for JSON.

    The figures of a verdict are means over the draws (`seed`) of all worlds together, with their
    standard deviation; its parts by world and by kind of SAE are pooled over draws. `doubtful` is
    the calibration error of those latents alone whose probability lies between .05 and .95: among
    all of them, the many that are plainly without the failure would hide it.

    **Arguments:**
    - `table`: latents with truth; oracles are kept apart.
    - `calibration`: what judges them.
    - `tier`: from which evidence.
    """
    _, probabilities = calibration.judge(table.evidence(tier))
    oracle = table.kind == "oracle"
    verdicts = {}
    for verdict in FAILURES:
        p = probabilities[:, VERDICTS.index(verdict)]
        clear, grey = table.clear(verdict), table.grey(verdict)

        def of(
            rows: Bool[ndarray, " latent"],
            p: ndarray = p,
            clear: ndarray = clear,
            grey: ndarray = grey,
        ) -> Score:
            return score(p[rows], clear[rows], grey[rows])

        seeds = [of((table.seed == seed) & ~oracle) for seed in sorted(set(table.seed.tolist()))]
        doubt = (p > 0.05) & (p < 0.95) & ~oracle
        verdicts[verdict.value] = {
            **_mean_sd(seeds),
            "support": of(~oracle).support,
            "found": of(~oracle).found,
            "grey": of(~oracle).grey,
            "doubtful": of(doubt).calibration_error,
            "reliability": reliability(p[~oracle], clear[~oracle], grey[~oracle]),
            "worlds": _by(table.world, ~oracle, of),
            "kinds": _by(table.kind, ~oracle, of),
            "recipes": _by(table.name, table.kind == "trained", of),
        }
    firings = table.columns[tier].get("firings")
    chosen = headline(probabilities, firings)
    return {
        "tier": tier.value,
        "latents": int((~oracle).sum()),
        "verdicts": verdicts,
        "headline": _headline(table, chosen, ~oracle),
        "oracle": _oracle(table, chosen, oracle),
    }


def _mean_sd(seeds: list[Score]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in ("precision", "recall", "calibration_error"):
        values = [getattr(each, name) for each in seeds if getattr(each, name) is not None]
        found[name] = float(np.mean(values)) if values else None
        found[f"{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return found


def _by(
    label: ndarray, rows: Bool[ndarray, " latent"], of: Callable[[ndarray], Score]
) -> dict[str, Any]:
    return {name: asdict(of(rows & (label == name))) for name in sorted(set(label[rows]))}


def _headline(table: Table, chosen: ndarray, rows: Bool[ndarray, " latent"]) -> dict[str, Any]:
    """The one verdict of each latent: how often it is true, and what becomes of clean latents."""
    names = np.array([verdict.value for verdict in VERDICTS])
    failing, right, wrong = 0, 0, 0
    for verdict in FAILURES:
        mine = rows & (chosen == VERDICTS.index(verdict))
        failing += int(mine.sum())
        right += int((mine & table.clear(verdict)).sum())
        wrong += int((mine & ~table.clear(verdict) & ~table.grey(verdict)).sum())
    truly = rows & table.clean
    undecided = chosen == VERDICTS.index(Verdict.UNDECIDED)
    any_clear = np.any([table.clear(verdict) for verdict in FAILURES], axis=0)
    called_clean = rows & (chosen == VERDICTS.index(Verdict.CLEAN))
    return {
        "failures": failing,
        "right": right,
        "wrong": wrong,
        "precision": right / (right + wrong) if right + wrong else None,
        "undecided": float(undecided[rows].mean()) if rows.any() else None,
        "clean_support": int(truly.sum()),
        "clean_recall": float((chosen == VERDICTS.index(Verdict.CLEAN))[truly].mean())
        if truly.any()
        else None,
        "clean_precision": 1 - float(any_clear[called_clean].mean())
        if called_clean.any()
        else None,
        "counts": {
            name: int((rows & (chosen == at)).sum()) for at, name in enumerate(names.tolist())
        },
    }


def _oracle(table: Table, chosen: ndarray, rows: Bool[ndarray, " latent"]) -> dict[str, Any]:
    """Verdicts on the SAE that has no failure: each one is false."""
    counts = {
        verdict.value: int((rows & (chosen == at)).sum())
        for at, verdict in enumerate(VERDICTS)
        if (rows & (chosen == at)).any()
    }
    n = int(rows.sum())
    false = sum(counts.get(verdict.value, 0) for verdict in FAILURES)
    return {
        "latents": n,
        "false_verdicts": false / n if n else None,
        "undecided": counts.get(Verdict.UNDECIDED.value, 0) / n if n else None,
        "counts": counts,
        "worlds": {
            name: float(
                np.isin(
                    chosen[rows & (table.world == name)],
                    [VERDICTS.index(verdict) for verdict in FAILURES],
                ).mean()
            )
            for name in sorted(set(table.world[rows]))
        },
    }
