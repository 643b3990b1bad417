"""Judges: given an explanation, does a latent fire in this context, on these tokens?"""

import re
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from latent_assay.activations.contexts import SpecialTokens, pad
from latent_assay.activations.language_model import LanguageModel
from latent_assay.evals.autointerp.chat import Chat
from latent_assay.evals.autointerp.explaining import Explanation
from latent_assay.evals.autointerp.windows import Window

_TASKS = {
    "detection": (
        "You are given an explanation of what makes a unit of a neural network active, and "
        "numbered passages. Answer with the numbers of the passages in which the unit is active "
        "on at least one token, separated by commas, or with None. Answer with nothing else."
    ),
    "fuzzing": (
        "You are given an explanation of what makes a unit of a neural network active, and "
        "numbered passages in which some tokens stand between << and >>. Answer with the numbers "
        "of the passages in which the unit is active on just these tokens, separated by commas, "
        "or with None. Answer with nothing else."
    ),
}


@runtime_checkable
class Judge(Protocol):
    """Anything that tells, from an explanation, where a latent fires.

    Answers are numbers above 0 for yes and at most 0 for no, larger ones for more certainty; None
    for an answer that could not be read.
    """

    @property
    def name(self) -> str:
        """What results call it."""

    @property
    def graded(self) -> bool:
        """Whether its answers have degrees, so that they can be put in order."""

    def detect(self, explanation: Explanation, windows: Sequence[Window]) -> Sequence[float | None]:
        """Does the latent fire somewhere in each of these contexts?"""

    def fuzz(self, explanation: Explanation, windows: Sequence[Window]) -> Sequence[float | None]:
        """Does it fire on the tokens that are marked?"""


class ChatJudge:
    """Asks a language model. Answers are yes or no."""

    graded = False

    def __init__(self, chat: Chat, *, together: int = 5) -> None:
        """Judge by a model.

        **Arguments:**
        - `chat`: the model.
        - `together`: contexts per question.
        """
        self.chat = chat
        self.together = max(1, together)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.chat.name

    def detect(self, explanation: Explanation, windows: Sequence[Window]) -> list[float | None]:
        """See `Judge.detect`. **Raises:** `EndpointError`."""
        return self._asked("detection", explanation, [window.text() for window in windows])

    def fuzz(self, explanation: Explanation, windows: Sequence[Window]) -> list[float | None]:
        """See `Judge.fuzz`. **Raises:** `EndpointError`."""
        return self._asked("fuzzing", explanation, [window.highlighted() for window in windows])

    def _asked(
        self, task: str, explanation: Explanation, texts: Sequence[str]
    ) -> list[float | None]:
        answers: list[float | None] = []
        for start in range(0, len(texts), self.together):
            part = texts[start : start + self.together]
            passages = "\n".join(f"{i}. {' '.join(text.split())}" for i, text in enumerate(part, 1))
            question = f"Explanation: {explanation.text}\n\n{passages}"
            answer = self.chat.ask(_TASKS[task], question, max_tokens=4 * len(part) + 8)
            answers += read_numbers(answer, len(part))
        return answers


def read_numbers(answer: str, n: int) -> list[float | None]:
    """Yes for the passages named, no for the others; all None if the answer names none legibly.

    >>> read_numbers("2, 3", 3)
    [-1.0, 1.0, 1.0]
    >>> read_numbers("None.", 2)
    [-1.0, -1.0]
    >>> read_numbers("I cannot tell.", 2)
    [None, None]
    """
    named = {int(each) for each in re.findall(r"\d{1,4}", answer)}
    if not named and not re.search(r"\bnone\b", answer, re.IGNORECASE):
        return [None] * n
    if named and not named <= set(range(1, n + 1)):
        return [None] * n
    return [1.0 if i in named else -1.0 for i in range(1, n + 1)]


class EmbeddingJudge:
    r"""Judges by likeness to the contexts of an explanation, without any language model's help.

    A context's embedding $e$ is the mean of an encoder's last hidden states over its tokens, of
    length one. With $\mu^{+}$ and $\mu^{-}$ the mean embeddings of the explanation's active and
    inactive contexts, the answer is

    $$ e \cdot (\mu^{+} - \mu^{-}) - t, $$

    $t$ halfway between the averages of that product over both kinds, each context left out of its
    own mean: nothing of the tested contexts enters. For fuzzing, the marked tokens alone are
    embedded, beside the explanation's marked tokens and as many others of the same contexts.
    An explanation in words is embedded itself, and takes the place of $\mu^{+}$.

    What it measures is whether a latent's contexts are *about* the same; a latent for a word's
    position or for grammar scores low however regular it is.
    """

    graded = True

    def __init__(self, embed: Callable[[Sequence[str]], Tensor], *, name: str) -> None:
        """Judge by embeddings.

        **Arguments:**
        - `embed`: from texts to embeddings of length one, `[text, dimension]`.
        - `name`: what results call it.
        """
        self.embed = embed
        self.name = f"embeddings of {name}"
        self._known: dict[str, Tensor] = {}

    @classmethod
    def of(cls, model: LanguageModel, *, batch_size: int = 64) -> "EmbeddingJudge":
        """Embed with a model's mean last hidden state, as all-MiniLM-L6-v2 was trained for."""
        return cls(lambda texts: mean_embeddings(model, texts, batch_size), name=model.name)

    def detect(self, explanation: Explanation, windows: Sequence[Window]) -> list[float | None]:
        """See `Judge.detect`."""
        return self._like(
            explanation,
            [window.text() for window in explanation.shown],
            [window.text() for window in explanation.contrast],
            [window.text() for window in windows],
        )

    def fuzz(self, explanation: Explanation, windows: Sequence[Window]) -> list[float | None]:
        """See `Judge.fuzz`."""
        others = [
            _others_marked(window)
            for window in explanation.shown
            if any(window.marked) and not all(window.marked)
        ]
        return self._like(
            explanation,
            [window.passages() for window in explanation.shown],
            [window.passages() for window in others],
            [window.passages() for window in windows],
        )

    def _like(
        self,
        explanation: Explanation,
        active: Sequence[str],
        inactive: Sequence[str],
        asked: Sequence[str],
    ) -> list[float | None]:
        if not asked:
            return []
        if not active or not inactive:
            return [None] * len(asked)
        yes, no, those = self._embedded(active), self._embedded(inactive), self._embedded(asked)
        usual = no.mean(0)
        if explanation.in_words:
            if not explanation.text:
                return [None] * len(asked)
            meant = self._embedded([explanation.text])[0]
            of_active = yes @ meant
        else:
            meant = yes.mean(0)
            of_active = _to_others(yes)
        middle = ((of_active - yes @ usual).mean() + (no @ meant - _to_others(no)).mean()) / 2
        found: list[float | None] = list((those @ (meant - usual) - middle).tolist())
        return found

    def _embedded(self, texts: Sequence[str]) -> Float[Tensor, "text dimension"]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.embed(new), strict=True))
        return torch.stack([self._known[text] for text in texts])


def mean_embeddings(
    model: LanguageModel, texts: Sequence[str], batch_size: int = 64
) -> Float[Tensor, "text dimension"]:
    """Mean last hidden states over each text's tokens, special ones included, of length one.

    **Arguments:**
    - `model`: an encoder, or any model with hidden states.
    - `texts`: those that are too long keep their beginning.
    - `batch_size`: texts per forward pass.
    """
    specials = SpecialTokens.of(model.tokenizer)
    around = len(specials.before) + len(specials.after)
    room = (model.max_context_size or 512) - around
    encoded = model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    contexts = [[*specials.before, *ids[:room], *specials.after] for ids in encoded]
    pad_id = getattr(model.tokenizer, "pad_token_id", None) or 0
    rows = torch.empty(0)
    by_length = sorted(range(len(contexts)), key=lambda i: len(contexts[i]))
    for start in range(0, len(contexts), batch_size):
        chosen = by_length[start : start + batch_size]
        token_ids, mask = pad([contexts[i] or [pad_id] for i in chosen], pad_id)
        hidden = model.hidden_states(token_ids, mask)[-1].float().cpu()
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        if not len(rows):
            rows = torch.empty(len(contexts), pooled.shape[1])
        rows[torch.tensor(chosen)] = F.normalize(pooled, dim=-1)
    return rows


def _to_others(rows: Float[Tensor, "row dimension"]) -> Float[Tensor, " row"]:
    """Product of each row with the mean of the other rows."""
    return ((rows.sum(0) - rows) * rows).sum(-1) / max(1, len(rows) - 1)


def _others_marked(window: Window) -> Window:
    """As many other tokens marked, spread over the window."""
    others = [i for i, mark in enumerate(window.marked) if not mark]
    n = min(len(others), sum(window.marked))
    chosen = {others[(2 * k + 1) * len(others) // (2 * n)] for k in range(n)}
    return Window(
        tokens=window.tokens, marked=tuple(i in chosen for i in range(len(window.tokens)))
    )
