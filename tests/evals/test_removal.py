"""SCR and TPP on the real model and real texts, in a small size."""

import pytest
import torch

from latent_assay.activations import LanguageModel, bundled_minilm
from latent_assay.errors import DataError
from latent_assay.evals import (
    LabelledTexts,
    PerturbationConfig,
    ProbeConfig,
    TwoConcepts,
    evaluation,
    python_two_concepts,
    spurious_correlation_removal,
    targeted_probe_perturbation,
)
from latent_assay.recipes import topk

HOOK = "blocks.2.hook_resid_post"
QUICK = PerturbationConfig(ablated=(2, 20, 500), probe=ProbeConfig(epochs=3, lr=1e-2))


@pytest.fixture(scope="module")
def minilm():
    return LanguageModel.load(bundled_minilm())


@pytest.fixture(scope="module")
def sae():
    return topk(d_in=384, width=64, k=8).sae.exported()


def some(texts, n):
    combination = texts.concepts.long() @ torch.tensor([2, 1])
    chosen = torch.cat([(combination == each).nonzero()[:n, 0] for each in range(4)])
    return [texts.texts[i] for i in chosen.tolist()], chosen


def test_both_are_measured_beside_baselines(minilm, sae):
    concepts = python_two_concepts()
    texts, chosen = some(concepts, 50)
    two = TwoConcepts(
        texts=texts, concepts=concepts.concepts[chosen], names=concepts.names, name="some"
    )
    options = {"config": QUICK, "seeds": (0, 1), "context_size": 16}
    removed = spurious_correlation_removal(minilm, sae, HOOK, two, **options)
    labels = ["asyncio" if each else "email" for each in two.concepts[:, 0].tolist()]
    labelled = LabelledTexts(texts=texts, labels=labels, name="some")
    targeted = targeted_probe_perturbation(minilm, sae, HOOK, labelled, **options)
    for result in (removed, targeted):
        assert result.not_measurable is None
        assert set(result.baselines) == {
            "random dictionary", "permuted decoder", "principal components",
        }  # fmt: skip
        assert result.headline is None
        assert "Unreliable" in evaluation(result.name).caveat
    assert {"tpp@2", "tpp@20", "intended@2", "unintended@2"} <= set(targeted.metrics)
    assert "tpp@500" not in targeted.metrics  # the SAE has 64 latents
    assert all(-1 <= each.mean <= 1 for each in targeted.metrics.values())
    assert targeted.config["ablated"] == [2, 20]
    again = targeted_probe_perturbation(minilm, sae, HOOK, labelled, **options)
    assert again.metrics == targeted.metrics


def test_too_few_texts_are_said(minilm, sae):
    few = LabelledTexts(texts=["one text", "another"], labels=["a", "b"], name="few")
    found = targeted_probe_perturbation(minilm, sae, HOOK, few, config=QUICK)
    assert "expected at least 10" in found.not_measurable
    with pytest.raises(DataError, match="expected two labels, 'c' among them, received a, b"):
        TwoConcepts.of(few, "c")


def test_what_speaks_of_code():
    texts = ["call f(x)", "plain words", "the name a_b", "nothing here"]
    two = TwoConcepts.of(LabelledTexts(texts=texts, labels=list("aabb"), name="n"), "a")
    assert two.concepts.tolist() == [[True, True], [True, False], [False, True], [False, False]]
