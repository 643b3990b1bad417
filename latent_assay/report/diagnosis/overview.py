"""How many latents to trust, what ails the rest, what to do: understood at a glance."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class VerdictLine:
    """How many latents of an SAE have one verdict."""

    verdict: str
    """Its name, as in `several_peaks`."""
    label: str
    """The same for readers."""
    definition: str
    """What it means."""
    count: int
    """Latents with this verdict as the headline."""
    share: float
    """The same as a share of all latents."""
    wrong: float | None = None
    """Share of these verdicts that should be wrong by their own probabilities; `None` for a
    verdict that has no probability."""
    beside: int = 0
    """Latents that have this failure too, beside another headline."""


@dataclass(frozen=True, kw_only=True)
class AdviceLine:
    """What to change."""

    text: str
    """In words."""
    count: int
    """How many latents it would help."""
    share: float
    """The same as a share of all latents."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A token of a context."""

    text: str
    """As it reads in running text."""
    level: float = 0.0
    """Activation of the named latent, relative to its greatest."""
    other: float = 0.0
    """Activation of the latent that fires in its stead, if there is one."""
    peak: bool = False
    """Whether the context is shown because of this token."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A latent that is worth a look, with a place in the text to check it by."""

    latent: int
    """Its index."""
    name: str
    """The token that it fires on most; empty if there is no text."""
    verdict: str
    """Its headline."""
    label: str
    """The same for readers."""
    probability: float
    """How sure that is."""
    sentence: str
    """What was found."""
    context: tuple[Piece, ...] = ()
    """A place in the text."""
    about: str = ""
    """What the context shows."""


@dataclass(frozen=True, kw_only=True)
class SAEVerdicts:
    """The overview of one SAE."""

    name: str
    """The SAE."""
    width: int
    """Number of latents."""
    basis: str
    """What was looked at."""
    lines: tuple[VerdictLine, ...]
    """One for each verdict; the first is *clean*."""
    advice: tuple[AdviceLine, ...] = ()
    """The one that helps most first."""
    named: tuple[Named, ...] = ()
    """Latents worth a look."""
    truth: str = ""
    """How the verdicts compare with the truth, where that is known."""


@dataclass(frozen=True, kw_only=True)
class VerdictOverview:
    """What the latents of some SAEs are made of, in numbers."""

    title: str
    """The section's heading."""
    saes: tuple[SAEVerdicts, ...]
    """One for each SAE."""
    sentence: str = ""
    """How to read it."""
    page: str = ""
    """Where each latent has a page of its own, relative to this one; empty if that is here."""
    kind: str = field(default="verdicts", init=False)

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields; of each SAE `lines`, `advice` and `named` as theirs."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "page": self.page,
            "saes": [
                {
                    "name": sae.name,
                    "width": sae.width,
                    "basis": sae.basis,
                    "truth": sae.truth,
                    "lines": [
                        {
                            "verdict": line.verdict,
                            "count": line.count,
                            "share": line.share,
                            "wrong": line.wrong,
                            "beside": line.beside,
                        }
                        for line in sae.lines
                    ],
                    "advice": [
                        {"text": each.text, "latents": each.count, "share": each.share}
                        for each in sae.advice
                    ],
                    "named": [
                        {
                            "latent": each.latent,
                            "name": each.name,
                            "verdict": each.verdict,
                            "probability": each.probability,
                            "sentence": each.sentence,
                            "context": "".join(piece.text for piece in each.context),
                        }
                        for each in sae.named
                    ],
                }
                for sae in self.saes
            ],
        }
