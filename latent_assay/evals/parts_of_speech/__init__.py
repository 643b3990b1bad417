"""Words and what kind of word they are: of English, or of Python."""

from latent_assay.evals.parts_of_speech.evaluation import parts_of_speech
from latent_assay.evals.parts_of_speech.python_source import CATEGORIES, python_source
from latent_assay.evals.parts_of_speech.tagged import Span, TaggedText, tagged_activations
from latent_assay.evals.parts_of_speech.treebank import TAGS, treebank

__all__ = [
    "CATEGORIES",
    "TAGS",
    "Span",
    "TaggedText",
    "parts_of_speech",
    "python_source",
    "tagged_activations",
    "treebank",
]
