"""What a latent is said to stand for."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from latent_assay.evals.autointerp.chat import Chat
from latent_assay.evals.autointerp.examples import Examples
from latent_assay.evals.autointerp.windows import Window

_LONGEST = 60
_SYSTEM = (
    "You study the units of a neural network that reads text. You are shown passages in which one "
    "unit is active; the tokens on which it is active stand between << and >>. Say in one short "
    "sentence what these tokens, or the passages around them, have in common. Be specific, do not "
    "quote the passages, and answer with that sentence alone, after 'EXPLANATION:'."
)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What one latent is said to stand for, in words and in examples."""

    latent: int
    """Its index."""
    text: str
    """In words."""
    shown: tuple[Window, ...]
    """Contexts in which it fires, with the firing tokens marked."""
    contrast: tuple[Window, ...]
    """Contexts in which it does not fire."""
    in_words: bool
    """Whether a judge should go by `text`; else by the contexts, of which `text` is a summary."""

    def to_json(self) -> dict[str, Any]:
        """Keys as the fields."""
        return {
            "latent": self.latent,
            "text": self.text,
            "shown": [each.to_json() for each in self.shown],
            "contrast": [each.to_json() for each in self.contrast],
            "in_words": self.in_words,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Explanation":
        """What `to_json` wrote."""
        return cls(
            latent=content["latent"],
            text=content["text"],
            shown=tuple(Window.from_json(each) for each in content["shown"]),
            contrast=tuple(Window.from_json(each) for each in content["contrast"]),
            in_words=content["in_words"],
        )


@runtime_checkable
class Explainer(Protocol):
    """Anything that explains a latent."""

    @property
    def name(self) -> str:
        """What results call it."""

    def explain(self, examples: Examples) -> Explanation:
        """Say what a latent stands for, from `shown` and `contrast` alone."""


class ContextExplainer:
    """Explains a latent by its contexts themselves. Needs no language model.

    The text names the tokens on which it fires most, for readers; judges go by the contexts.
    """

    name = "contexts"

    def explain(self, examples: Examples) -> Explanation:
        """The contexts, and the most frequent marked tokens."""
        counts: Counter[str] = Counter()
        for window in examples.shown:
            for token, mark in zip(window.tokens, window.marked, strict=False):
                if mark and token.strip():
                    counts[token.strip()] += 1
        common = ", ".join(repr(token) for token, _ in counts.most_common(5))
        return Explanation(
            latent=examples.latent,
            text=f"fires on {common}" if common else "fires on white space",
            shown=examples.shown,
            contrast=examples.contrast,
            in_words=False,
        )


class ChatExplainer:
    """Has a language model explain a latent in a sentence."""

    def __init__(self, chat: Chat, *, examples: int = 15) -> None:
        """Ask a model.

        **Arguments:**
        - `chat`: the model.
        - `examples`: how many contexts it is shown, strongest first.
        """
        self.chat = chat
        self.examples = examples

    @property
    def name(self) -> str:
        """The model's name."""
        return self.chat.name

    def explain(self, examples: Examples) -> Explanation:
        """The model's sentence; empty if it says nothing.

        **Raises:** `EndpointError` if the model gives no answer.
        """
        passages = "\n".join(
            f"{i}. {' '.join(window.highlighted().split())}"
            for i, window in enumerate(examples.shown[: self.examples], start=1)
        )
        answer = self.chat.ask(_SYSTEM, passages, max_tokens=_LONGEST)
        return Explanation(
            latent=examples.latent,
            text=_sentence(answer),
            shown=examples.shown,
            contrast=examples.contrast,
            in_words=True,
        )


def _sentence(answer: str) -> str:
    """What follows the last 'EXPLANATION:', or the first line that says something."""
    told = answer.rsplit("EXPLANATION:", 1)[-1]
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return lines[0][:400] if lines else ""
