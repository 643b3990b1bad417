"""What the evaluations of a suite read, each once for all SAEs."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from latent_assay.activations.language_model import LanguageModel
from latent_assay.activations.loading import bundled_minilm
from latent_assay.activations.text import TextInput, text_source
from latent_assay.evals.autointerp import (
    AutoInterpConfig,
    EmbeddingJudge,
    Explainer,
    Judge,
    WindowedText,
    windowed,
)
from latent_assay.evals.first_letter import Concepts, FirstLetterConfig, spelled_words
from latent_assay.evals.perturbation import PerturbationConfig
from latent_assay.evals.probing import ProbingConfig
from latent_assay.evals.reading import token_activations
from latent_assay.evals.texts import LabelledTexts, python_passages

MOST_MEMBERS = 3


@dataclass(frozen=True, kw_only=True)
class SuiteConfig:
    """What the evaluations read, and how much."""

    tokens: int = 50_000
    """Tokens of text for auto-interpretation and the core metrics."""
    context_size: int = 128
    """Tokens that the model reads at once; less for a model that cannot read so many."""
    max_norm: float | None = None
    """Longer activations are left out; see `loss_recovered`."""
    members: int = MOST_MEMBERS
    """How many members of an ensemble are evaluated; their spread is then the spread."""
    probing: ProbingConfig = field(default_factory=ProbingConfig)
    """Sparse probing."""
    tagged_words: int = 10_000
    """Words for parts of speech, at most."""
    texts_of_class: int = 50
    """Texts of each class whose tokens semantic consistency is measured on."""
    first_letter: FirstLetterConfig = field(default_factory=FirstLetterConfig)
    """First letters, feature splitting and absorption."""
    max_words: int = 2_000
    """Words whose first letters are asked for."""
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    """SCR and TPP."""
    perturbation_seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of SCR and TPP."""
    autointerp: AutoInterpConfig = field(default_factory=AutoInterpConfig)
    """Auto-interpretation."""


class Materials:
    """A model, texts and settings, with which any number of SAEs can be evaluated.

    **Arguments:**
    - `model`, `hook_point`: where the SAEs read.
    - `text`: anything `text_source` takes.
    - `labelled`: labelled texts for probing and TPP; None for Python's documentation.
    - `judge`: who judges explanations; None for embeddings of all-MiniLM-L6-v2.
    - `explainer`: who explains; None for the contexts themselves.
    - `config`: how much of everything.
    """

    def __init__(
        self,
        model: LanguageModel,
        hook_point: str,
        *,
        text: TextInput = "cpython",
        labelled: LabelledTexts | None = None,
        judge: Judge | None = None,
        explainer: Explainer | None = None,
        config: SuiteConfig | None = None,
    ) -> None:
        model.site(hook_point)  # refuses an unknown one before anything is computed
        self.model = model
        self.hook_point = hook_point
        self.text = text_source(text)
        self.labelled = labelled
        self.explainer = explainer
        self.config = config or SuiteConfig()
        self.context_size = min(
            self.config.context_size, model.max_context_size or self.config.context_size
        )
        self._judge = judge

    @cached_property
    def judge(self) -> Judge:
        """Who judges explanations."""
        if self._judge is not None:
            return self._judge
        return EmbeddingJudge.of(LanguageModel.load(bundled_minilm()))

    @cached_property
    def windows(self) -> WindowedText:
        """Text with its activations, read once for all SAEs."""
        return windowed(
            self.model,
            self.text,
            self.hook_point,
            n_tokens=self.config.tokens,
            context_size=self.context_size,
            max_norm=self.config.max_norm,
        )

    @cached_property
    def words(self) -> tuple[Concepts, ...]:
        """Words and their first letters for each seed, read once for all SAEs."""
        return tuple(
            spelled_words(self.model, self.hook_point, seed=seed, max_words=self.config.max_words)
            for seed in self.config.first_letter.seeds
        )

    @cached_property
    def tokens_of_classes(self) -> tuple[Float[Tensor, "token d_in"], Int[Tensor, " token"], int]:
        """Activations at the tokens of labelled texts, each with its text's class."""
        labelled = self.labelled or python_passages()
        x, classes = [], []
        for number, name in enumerate(labelled.classes):
            own = (
                t for t, each in zip(labelled.texts, labelled.labels, strict=True) if each == name
            )
            found = token_activations(
                self.model,
                list(islice(own, self.config.texts_of_class)),
                self.hook_point,
                context_size=self.context_size,
                max_norm=self.config.max_norm,
            )
            x.append(found)
            classes.append(torch.full((len(found),), number))
        return torch.cat(x), torch.cat(classes), len(labelled.classes)

    def settings(self) -> dict[str, Any]:
        """Everything but the SAE that results depend on, as text."""
        labelled = self.labelled
        return {
            "model": self.model.fingerprint,
            "hook_point": self.hook_point,
            "text": self.text.describe(),
            "labelled": None if labelled is None else [labelled.name, short_hash(labelled.texts)],
            "judge": getattr(self._judge, "name", "default"),
            "explainer": getattr(self.explainer, "name", "default"),
            "config": repr(self.config),
        }


def short_hash(content: Iterable[str]) -> str:
    """Sixteen characters that tell texts apart."""
    digest = hashlib.sha256()
    for each in content:
        digest.update(str(each).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:16]
