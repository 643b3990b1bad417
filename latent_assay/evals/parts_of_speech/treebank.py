"""The Penn Treebank sample that comes with nltk."""

from collections.abc import Sequence
from typing import Any

from latent_assay.errors import DataError, require
from latent_assay.evals.parts_of_speech.tagged import Span, TaggedText

TAGS = ("TO", "IN", "DT", "CC", "NNS", "PRP", "POS")
"""The parts of speech that are probed: to, prepositions, determiners, conjunctions, plurals,
pronouns, possessive endings."""

_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LCB-": "{", "-RCB-": "}", "-LSB-": "[", "-RSB-": "]"}
_QUOTES = {"``": '"', "''": '"'}
_CLINGS = {".", ",", ";", ":", "?", "!", "%", ")", "]", "}", "''", "n't"}
_OPENS = {"(", "[", "{", "``", "$", "#"}


def treebank(n_texts: int | None = None) -> list[TaggedText]:
    """Sentences as they would be written, each word with its part of speech.

    Traces (`-NONE-`) are left out, brackets and quotes stand for themselves, and words are joined
    as in print: no space before a comma, a possessive ending or `n't`. Each sentence is a group.

    **Arguments:**
    - `n_texts`: how many sentences; None for all 3,914.

    **Raises:** `MissingExtra` without nltk, `DataError` if its corpus has not been downloaded.
    """
    corpus: Any = require("nltk.corpus", extra="evals", purpose="reading the Penn Treebank")
    try:
        sentences = corpus.treebank.tagged_sents()
        chosen = sentences if n_texts is None else sentences[:n_texts]
        return [joined(sentence) for sentence in chosen]
    except LookupError as error:
        raise DataError(
            "nltk is installed, but its corpus `treebank` is not there. Where there is a network: "
            "python -m nltk.downloader treebank; or use the default, Python's own source."
        ) from error


def joined(sentence: Sequence[tuple[str, str]]) -> TaggedText:
    """One sentence from its words and tags.

    >>> joined([("We", "PRP"), ("do", "VBP"), ("n't", "RB"), (".", ".")]).text
    "We don't."
    """
    text = ""
    spans = []
    open_before = True
    for word, tag in sentence:
        if tag == "-NONE-":
            continue
        written = _BRACKETS.get(word) or _QUOTES.get(word) or word.replace("\\/", "/")
        clings = word in _CLINGS or written in _CLINGS or (tag == "POS") or word.startswith("'")
        if not open_before and not clings:
            text += " "
        start = len(text)
        text += written
        spans.append(Span(start=start, end=len(text), tag=tag))
        open_before = word in _OPENS or written in _OPENS
    return TaggedText(text=text, spans=tuple(spans))
