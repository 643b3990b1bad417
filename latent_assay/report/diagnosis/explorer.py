"""A page for every diagnosed latent, with the evidence that its verdict rests on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latent_assay.errors import ConfigError, ShapeError
from latent_assay.report.latents import Corpus
from latent_assay.report.strict_json import pack

SURE = 250
"""What stands for a probability of 1."""

ARRAYS: dict[str, str] = {
    "chosen": "[latent] index of the headline verdict",
    "probability": "[latent, verdict] probability times 250, rounded down",
    "columns": "[column, latent] the evidence, 16 bits; NaN where it could not be measured",
    "firings": "[latent] how often it fired; empty for the weights alone",
    "relative.start": "[latent + 1] where each latent's relatives begin",
    "relative.other": "[entry] the other latent, -1 for a direction that no latent is near to",
    "relative.role": "[entry] index into `roles`",
    "relative.share": "[entry] 100 times the share",
    "near.latent": "[latent, candidate] the nearest latents by decoder direction",
    "near.measures": "[measure, latent, candidate] 50 times cosine, gain, gained, and with "
    "activations given, overlap, carried, holes; -128 if unknown",
    "histogram": "[latent, bin] activations per bin",
    "top": "[latent] upper end of the last bin",
    "mixture": "[3, latent, group] weight, mean and standard deviation of each group",
    "scale": "[latent] the activation that 126 stands for in contexts",
    "example.start": "[latent + 1] where each latent's contexts begin",
    "example.position": "[entry] corpus position of the token",
    "example.level": "[entry, token] activations around it",
    "hole.parent": "[entry] the latent that should have fired, rising",
    "hole.child": "[entry] the latent that fires in its stead",
    "hole.position": "[entry] corpus position of the token",
    "hole.asked": "[entry] how much was there along the parent, over its median activation",
    "hole.level": "[entry, 2, token] activations of parent and child around it",
    "hedge.latent": "[entry] a latent that hedges, rising",
    "hedge.present": "[entry] 1 if what it hedges is there, else 0",
    "hedge.position": "[entry] corpus position of a token on which it fires",
    "hedge.level": "[entry, token] its activations around it",
    "truth": "[latent, verdict] 2 if it truly has it, 1 if in the grey zone, 0 if not",
    "feature": "[latent] its feature, -1 if none",
    "feature_f1": "[latent] how well it tells that feature, 100 times F1",
}
"""Every array of a diagnosed SAE and what it holds; those that are unknown are left out."""

_BY_LATENT = ("chosen", "probability", "histogram", "top", "scale", "truth", "feature")


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagnosedLatents:
    """What is shown of every latent of one SAE."""

    name: str
    """The SAE."""
    width: int
    """Number of latents."""
    samples: int
    """Activations that were read; 0 for the weights alone."""
    arrays: Mapping[str, np.ndarray]
    """See `ARRAYS`."""
    before: int = 0
    """Tokens before the peak in a context."""
    rows: tuple[str, ...] = ()
    """What feature names stand for `feature`, if they have names."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.arrays) - set(ARRAYS))
        if unknown:
            raise ConfigError(
                f"expected arrays among {', '.join(ARRAYS)}, received {', '.join(unknown)}. "
                "See `ARRAYS` for what each holds."
            )
        wrong = {
            name: len(self.arrays[name])
            for name in _BY_LATENT
            if name in self.arrays and len(self.arrays[name]) != self.width
        }
        if wrong:
            raise ShapeError(
                f"'{self.name}' has {self.width} latents, but received {wrong}. Pass one entry for "
                "each latent."
            )

    def to_json(self) -> dict[str, Any]:
        """`name`, `width`, `samples`, `before`, and `arrays`, each packed with its shape."""
        return {
            "name": self.name,
            "width": self.width,
            "samples": self.samples,
            "before": self.before,
            "features": list(self.rows),
            "arrays": {name: pack(values) for name, values in self.arrays.items()},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagnosisExplorer:
    """Lists, filters and a page per latent, for one or several SAEs."""

    title: str
    """The section's heading."""
    saes: tuple[DiagnosedLatents, ...]
    """The SAEs."""
    verdicts: Mapping[str, str]
    """Verdict → definition, in the order of the columns of `probability`."""
    columns: Mapping[str, str]
    """Column → definition, in the order of `columns`."""
    roles: Mapping[str, str]
    """Role → what the share of such a relative means."""
    advice: Mapping[str, str] = field(default_factory=dict)
    """Verdict → what to change."""
    corpus: Corpus | None = None
    """The text, if there is any."""
    sentence: str = ""
    """What the reader finds here."""
    kind: str = field(default="diagnoses", init=False)

    def __post_init__(self) -> None:
        if not self.saes:
            raise ConfigError("a page of latents needs at least one SAE, received none.")
        for sae in self.saes:
            shape = np.shape(sae.arrays.get("probability", np.zeros((0, 0))))
            if shape[1:] != (len(self.verdicts),):
                raise ShapeError(
                    f"'{sae.name}' has probabilities of shape {list(shape)}, expected "
                    f"[latent, {len(self.verdicts)}]: one for each verdict."
                )

    def to_json(self) -> dict[str, Any]:
        """`corpus` as `Corpus.to_json` or null, `saes` as `DiagnosedLatents.to_json`."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "verdicts": [{"name": k, "definition": v} for k, v in self.verdicts.items()],
            "columns": [{"name": k, "definition": v} for k, v in self.columns.items()],
            "roles": [{"name": k, "share": v} for k, v in self.roles.items()],
            "advice": dict(self.advice),
            "corpus": None if self.corpus is None else self.corpus.to_json(),
            "saes": [sae.to_json() for sae in self.saes],
        }
