"""Parts of speech: which latents stand for what a word is?"""

import time
from collections.abc import Sequence
from dataclasses import replace

from latent_assay.activations.language_model import LanguageModel
from latent_assay.errors import DataError
from latent_assay.evals.parts_of_speech.python_source import CATEGORIES, python_source, version
from latent_assay.evals.parts_of_speech.tagged import TaggedText, tagged_activations
from latent_assay.evals.probing.classifier import ClassifierConfig
from latent_assay.evals.probing.probes import ProbingConfig
from latent_assay.evals.probing.sparse_probing import probe_labelled
from latent_assay.evals.representations import single
from latent_assay.evals.result import EvalResult, not_measurable
from latent_assay.sae import SAE

_NAME = "parts_of_speech"

DEFAULT = ProbingConfig(
    rules=("mean firing",),
    test_share=0.3,
    equal_classes=False,
    n_train=3000,
    classifier=ClassifierConfig(strength=None, balanced=True),
)
"""One against the rest, 70 % for training, strength chosen from ten by AUC on held-out samples."""


def parts_of_speech(
    model: LanguageModel,
    sae: SAE,
    hook_point: str,
    texts: Sequence[TaggedText] | None = None,
    tags: Sequence[str] | None = None,
    *,
    config: ProbingConfig = DEFAULT,
    data: str = "given",
    context_size: int = 128,
    batch_size: int = 32,
    max_words: int | None = 10_000,
    max_norm: float | None = None,
) -> EvalResult:
    """Probe the latents at a word's last token for what kind of word it is.

    Each tag against all other words; the k latents with the largest difference of class means, in
    units of their mean firing, feed a balanced logistic regression. Its strength is chosen on
    training words that are held out. The published evaluation chose it by the AUC on the words that
    it was fitted to, which favours the weakest regularisation, so numbers may differ.

    Words of one text (of one file, for Python's source) are never on both sides of the split.

    **Arguments:**
    - `model`, `hook_point`: where the SAE reads.
    - `sae`: one member.
    - `texts`: tagged texts, such as `treebank()`; None for Python's own source, whose lexical
      categories (`CATEGORIES`) are exact and on every machine.
    - `tags`: those to probe; None for all that occur (or the categories of the source).
    - `config`: how probes are fitted, and the seeds.
    - `data`: how results call given texts, as "treebank".
    - `context_size`, `batch_size`, `max_words`, `max_norm`: see `tagged_activations`.

    **Returns:** the result; not measurable if the tokenizer gives no offsets or no tag has enough
    words.

    **Raises:** `ConfigError` for several members, `HookError` for an unknown hook point,
    `ShapeError` if the SAE does not fit, `MissingExtra` without scikit-learn.
    """
    started = time.perf_counter()
    alone = single(sae)
    if texts is None:
        texts, tags, data = python_source(), tags or CATEGORIES, version()
    tags = sorted({span.tag for each in texts for span in each.spans}) if tags is None else tags
    settings = {
        "data": data,
        "tags": list(tags),
        "hook_point": hook_point,
        "context_size": context_size,
        "max_norm": max_norm,
    }
    try:
        words = tagged_activations(
            model,
            texts,
            hook_point,
            tags,
            context_size=context_size,
            batch_size=batch_size,
            max_words=max_words,
            max_norm=max_norm,
        )
    except DataError as error:
        return not_measurable(_NAME, str(error), config={**settings, **config.content()})
    result = probe_labelled(alone, words, name=_NAME, config=config, settings=settings)
    return replace(result, seconds=time.perf_counter() - started)
