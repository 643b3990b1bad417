"""The result of a diagnosis: a verdict per latent, with everything that it rests on."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from safetensors import SafetensorError, safe_open

from latent_assay.atomic import new_folder, plain, write_json, write_tensors
from latent_assay.diagnosis.evidence import Evidence, Relatives, Role, Tier
from latent_assay.diagnosis.verdict import FAILURES, VERDICTS, Verdict
from latent_assay.errors import FormatError, StorageError

FORMAT = 1
_JSON, _ARRAYS = "diagnosis.json", "diagnosis.safetensors"
_RELATIVES = ("latent", "other", "role", "share")


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to change, and how many latents ask for it."""

    code: str
    """A stable name, such as `raise_width`."""
    text: str
    """The advice in words."""
    latents: int
    """How many latents it would help."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnosis:
    """What each latent of one SAE is made of."""

    evidence: Evidence
    """What was measured: columns, relatives, arrays for drawing, tier and number of samples."""
    scores: Float[ndarray, "latent verdict"]
    """Score of each failure, in the order of `VERDICTS`; NaN where the tier cannot see it."""
    probabilities: Float[ndarray, "latent verdict"]
    """Calibrated probability of each failure, and of *clean*."""
    chosen: Int[ndarray, " latent"]
    """The headline verdict, as an index into `VERDICTS`."""
    advice: tuple[Advice, ...] = ()
    """What to change, the one that helps most latents first."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """SAE, activations, calibration, versions."""

    @property
    def width(self) -> int:
        """Number of latents."""
        return self.evidence.width

    @property
    def tier(self) -> Tier:
        """How much was looked at."""
        return self.evidence.tier

    def verdict(self, latent: int) -> Verdict:
        """The headline of one latent."""
        return VERDICTS[int(self.chosen[latent])]

    def probability(self, verdict: Verdict | str) -> Float[ndarray, " latent"]:
        """The probability of one verdict for every latent."""
        return self.probabilities[:, VERDICTS.index(Verdict(verdict))]

    def score(self, verdict: Verdict | str) -> Float[ndarray, " latent"]:
        """The score of one failure for every latent."""
        return self.scores[:, VERDICTS.index(Verdict(verdict))]

    def found(self, verdict: Verdict | str) -> Bool[ndarray, " latent"]:
        """Which latents have a failure, headline or not; or which have the headline, for *clean*
        and *undecided*."""
        verdict = Verdict(verdict)
        if verdict in FAILURES:
            return self.probability(verdict) >= 0.5
        return self.chosen == VERDICTS.index(verdict)

    def counts(self) -> dict[Verdict, int]:
        """How many latents have each headline."""
        found = np.bincount(self.chosen, minlength=len(VERDICTS))
        return {verdict: int(n) for verdict, n in zip(VERDICTS, found, strict=True)}

    def to_json(self, *, latents: bool = True) -> dict[str, Any]:
        """Everything but the arrays for drawing; NaN becomes the word "nan".

        **Arguments:**
        - `latents`: whether to list every latent, or give the counts only.
        """
        content: dict[str, Any] = {
            "format": FORMAT,
            "tier": self.tier.value,
            "width": self.width,
            "n_samples": self.evidence.n_samples,
            "counts": {verdict.value: n for verdict, n in self.counts().items()},
            "failures": {v.value: int(self.found(v).sum()) for v in FAILURES},
            "advice": [
                {"code": each.code, "text": each.text, "latents": each.latents}
                for each in self.advice
            ],
            "provenance": self.provenance,
        }
        if latents:
            content["latents"] = [self.latent_json(latent) for latent in range(self.width)]
        result: dict[str, Any] = plain(content)
        return result

    def latent_json(self, latent: int) -> dict[str, Any]:
        """One latent: verdict, probabilities, evidence, relatives."""
        relatives = self.evidence.relatives.of(latent)
        return {
            "latent": latent,
            "verdict": self.verdict(latent).value,
            "probabilities": {
                verdict.value: round(float(self.probabilities[latent, i]), 4)
                for i, verdict in enumerate(VERDICTS)
            },
            "evidence": {
                name: float(f"{values[latent]:.6g}")
                for name, values in self.evidence.columns.items()
            },
            "relatives": [
                {
                    "latent": int(other),
                    "role": Role(int(role)).name.lower(),
                    "share": round(float(share), 4),
                }
                for other, role, share in zip(
                    relatives.other, relatives.role, relatives.share, strict=True
                )
            ],
        }

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write `diagnosis.json` and `diagnosis.safetensors`, wholly or not at all.

        **Raises:** `StorageError` if the disk refuses, or the folder holds something else.
        """
        folder = Path(folder)
        if folder.is_dir() and any(folder.iterdir()) and not (folder / _JSON).exists():
            raise StorageError(
                f"'{folder}' holds something other than a diagnosis, which would be lost. Choose "
                "an empty or a new folder."
            )
        relatives, evidence = self.evidence.relatives, self.evidence
        arrays = {
            "scores": self.scores,
            "probabilities": self.probabilities,
            "chosen": self.chosen,
            **{f"relatives.{name}": getattr(relatives, name) for name in _RELATIVES},
            **{f"columns.{name}": values for name, values in evidence.columns.items()},
            **{f"drawings.{name}": values for name, values in evidence.drawings.items()},
        }
        with new_folder(folder) as draft:
            write_json(draft / _JSON, self.to_json(latents=False))
            write_tensors(
                draft / _ARRAYS,
                {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()},
            )

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "Diagnosis":
        """Read what `write` made.

        **Raises:** `FormatError` if it is missing, damaged or of another version.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / _JSON).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise FormatError(
                    f"the diagnosis in '{folder}' is of format {content['format']!r}; this version "
                    f"reads {FORMAT}. Diagnose again."
                )
            with safe_open(folder / _ARRAYS, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

            def group(prefix: str) -> dict[str, ndarray]:
                return {
                    name.removeprefix(prefix): values
                    for name, values in sorted(arrays.items())
                    if name.startswith(prefix)
                }

            return cls(
                evidence=Evidence(
                    tier=Tier(content["tier"]),
                    width=int(content["width"]),
                    n_samples=int(content["n_samples"]),
                    columns=group("columns."),
                    relatives=Relatives(**group("relatives.")),
                    drawings=group("drawings."),
                ),
                scores=arrays["scores"],
                probabilities=arrays["probabilities"],
                chosen=arrays["chosen"],
                advice=tuple(Advice(**each) for each in content["advice"]),
                provenance=content["provenance"],
            )
        except FormatError:
            raise
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise FormatError(
                f"no diagnosis can be read from '{folder}': {error}. Expected the folder that "
                "`Diagnosis.write` or `assay diagnose --out` wrote; diagnose again."
            ) from error
