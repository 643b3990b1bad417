r"""From evidence to probabilities: one small model for each failure and tier.

$$s = b + \sum_j w_j \frac{\operatorname{clip}(e_j) - c_j}{t_j}, \qquad p = g(s)$$

with evidence $e_j$, and $g$ the logistic function or a monotone, piecewise linear curve
(isotonic regression) through fitted points. Evidence that could not be measured counts as its
centre $c_j$, so that it speaks for nothing.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from latent_assay.atomic import write_json
from latent_assay.diagnosis.evidence import Evidence, Tier
from latent_assay.diagnosis.verdict import FAILURES, VERDICTS, Verdict
from latent_assay.errors import FormatError

FORMAT = 1
FILE = "calibration.json"


@dataclass(frozen=True, kw_only=True)
class Term:
    """How one column of evidence enters a score."""

    column: str
    """Its name; or several joined by `*`, whose clipped values are multiplied."""
    weight: float
    """$w_j$."""
    centre: float = 0.0
    """$c_j$: the value that speaks neither for nor against."""
    scale: float = 1.0
    """$t_j$, positive."""
    low: float | None = None
    """Smaller values count as this."""
    high: float | None = None
    """Larger values count as this."""

    def value(self, columns: Mapping[str, ndarray], width: int) -> Float[ndarray, " latent"]:
        """What this term adds to each latent's score."""
        product = np.ones(width)
        for name in self.column.split("*"):
            product = product * columns.get(name, np.full(width, np.nan))
        if self.low is not None or self.high is not None:
            product = np.clip(product, self.low, self.high)
        standard = self.weight * (product - self.centre) / self.scale
        return np.where(np.isfinite(standard), standard, 0.0)


@dataclass(frozen=True, kw_only=True)
class VerdictModel:
    """The model of one failure."""

    bias: float
    """$b$."""
    terms: tuple[Term, ...]
    """What is added up."""
    curve: tuple[tuple[float, float], ...] = ()
    """Points (score, probability) of a rising curve, ends held constant; empty for the logistic
    function."""

    def score(self, evidence: Evidence) -> Float[ndarray, " latent"]:
        """$s$ of each latent."""
        score = np.full(evidence.width, self.bias)
        for term in self.terms:
            score = score + term.value(evidence.columns, evidence.width)
        return score

    def probability(self, score: Float[ndarray, " latent"]) -> Float[ndarray, " latent"]:
        """$p = g(s)$."""
        if self.curve:
            x, y = np.array(self.curve).T
            return np.interp(score, x, y)
        return 1 / (1 + np.exp(-np.clip(score, -60, 60)))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The models of all failures for each tier, and where they come from."""

    models: dict[Tier, dict[Verdict, VerdictModel]]
    """Which model judges which failure from which evidence. A failure without a model cannot be
    seen in that tier: its score is NaN and its probability 0."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """On what the models were fitted, with which seeds, and how well they do."""

    def judge(
        self, evidence: Evidence
    ) -> tuple[Float[ndarray, "latent verdict"], Float[ndarray, "latent verdict"]]:
        r"""Scores and probabilities of all verdicts.

        Only failures have a score. The probability of *clean* is $1 - \max_f p_f$, that of
        *undecided* is 0.
        """
        models = self.models[evidence.tier]
        scores = np.full((evidence.width, len(VERDICTS)), np.nan)
        probabilities = np.zeros((evidence.width, len(VERDICTS)))
        for column, verdict in enumerate(VERDICTS):
            if verdict in FAILURES and verdict in models:
                scores[:, column] = models[verdict].score(evidence)
                probabilities[:, column] = models[verdict].probability(scores[:, column])
        probabilities[:, VERDICTS.index(Verdict.CLEAN)] = 1 - probabilities.max(axis=1)
        return scores, probabilities

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "format": FORMAT,
            "provenance": self.provenance,
            "models": {
                tier.value: {verdict.value: asdict(model) for verdict, model in models.items()}
                for tier, models in self.models.items()
            },
        }

    @classmethod
    def from_json(cls, content: Any, source: str = "the calibration") -> "Calibration":
        """Read what `to_json` wrote.

        **Raises:** `FormatError` if it is something else.
        """
        try:
            if content["format"] != FORMAT:
                raise FormatError(
                    f"{source} is of format {content['format']!r}, expected {FORMAT}. Make it "
                    "anew with `assay calibrate` of this version."
                )
            models = {
                Tier(tier): {
                    Verdict(verdict): VerdictModel(
                        bias=float(model["bias"]),
                        terms=tuple(Term(**term) for term in model["terms"]),
                        curve=tuple((float(x), float(y)) for x, y in model["curve"]),
                    )
                    for verdict, model in each.items()
                }
                for tier, each in content["models"].items()
            }
            return cls(
                models={tier: models.get(tier, {}) for tier in Tier},
                provenance=dict(content["provenance"]),
            )
        except FormatError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"{source} lacks or garbles {error}; expected what `Calibration.to_json` gives. "
                "Restore the file, or make it anew with `assay calibrate`."
            ) from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON file, wholly or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Calibration":
        """Read a file that `write` made.

        **Raises:** `FormatError` if it is missing or something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FormatError(
                f"no calibration can be read from '{os.fspath(path)}': {error}. Make one with "
                "`assay calibrate`, or leave it out to use the one that comes with the package."
            ) from error
        return cls.from_json(content, f"'{os.fspath(path)}'")

    @classmethod
    def default(cls) -> "Calibration":
        """The calibration that comes with the package."""
        file = resources.files("latent_assay.diagnosis") / FILE
        return cls.from_json(json.loads(file.read_text(encoding="utf-8")), f"the package's {FILE}")
