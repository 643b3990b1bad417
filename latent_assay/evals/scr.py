r"""Spurious correlation removal: can a concept that a probe should ignore be cut out of it?"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from latent_assay.errors import DataError
from latent_assay.evals.linear_probe import draw, fit_probes
from latent_assay.evals.perturbation import (
    Documents,
    PerturbationConfig,
    accuracy_without,
    latent_effects,
    strongest,
)

FEWEST = 10
"""Documents with each combination of the two concepts, in training and in testing."""
NO_BIAS = 1e-3
"""A biased probe that is this close to the clean one has nothing to be removed."""


@dataclass(frozen=True, kw_only=True)
class SCR:
    """Result of spurious correlation removal."""

    score: dict[int, float | None]
    """Number of ablated latents → score in the direction whose biased accuracy is lower; None where
    the probe has no bias to remove."""
    first: dict[int, float | None]
    """Direction 1: the latents of the second concept are ablated, the first is asked for."""
    second: dict[int, float | None]
    """Direction 2: the other way round."""
    clean: tuple[float, float]
    """Accuracy of each concept's own probe, trained without bias."""
    biased: tuple[float, float]
    """Accuracy of the biased probe on each concept."""
    n_test: int
    """Documents that each accuracy stands on."""


def scr(
    train: Documents,
    train_concepts: Bool[Tensor, "train 2"],
    test: Documents,
    test_concepts: Bool[Tensor, "test 2"],
    W_dec: Float[Tensor, "latent d_in"],
    *,
    config: PerturbationConfig | None = None,
) -> SCR:
    r"""Remove the latents of one concept from a probe that was taught to confuse two.

    A *biased* probe is trained on documents that have both concepts or neither. For each concept
    there is also a clean probe, trained on documents in which the other one is balanced. Latents
    are ranked by $|\bar z_j^{+} - \bar z_j^{-}|\,|w d_j|$ for the clean probe of the concept to be
    removed; with the first $N$ set to zero, the biased probe is asked for the other concept on
    balanced test documents:

    $$ \mathrm{SCR}_N = \frac{a_{ablated} - a_{biased}}{a_{clean} - a_{biased}}. $$

    1 means that the bias is gone, 0 that nothing was gained; it can be negative. Samples are drawn
    once, by `config.seed`, and clean and ablated accuracies use the same; probes are those of the
    last epoch. Where $a_{clean} - a_{biased} < 0.001$ there is nothing to remove, and the score is
    None (SAEBench writes 0).

    Do not rank SAEs by it: removing the one latent of an on-or-off concept also shifts every logit,
    and the probe's offset is not set anew, so that a perfect SAE can score 0; in worlds with known
    truth the metric's rank correlation with quality was negative (arXiv:2605.18229, as quoted by
    third parties).

    **Arguments:**
    - `train`, `test`: different documents.
    - `train_concepts`, `test_concepts`: whether each document has the first and the second concept.
    - `W_dec`: decoder rows.
    - `config`: counts, probes and seed.

    **Raises:** `DataError` if a combination of the concepts has too few documents.

    **Reference:** Karvonen et al. 2024, arXiv:2411.18895; SAEBench, arXiv:2503.09532.
    """
    config = config or PerturbationConfig()
    W_dec = W_dec.detach().float()
    learnt, learnt_y = _balanced(train, train_concepts, config.seed, "training")
    asked, asked_y = _balanced(test, test_concepts, config.seed + 1, "test")
    agree = (learnt_y[:, 0] == learnt_y[:, 1]).nonzero().squeeze(-1)
    # every probe is trained on as many documents: half of the balanced ones, which are shuffled
    half = torch.cat([rows[: len(rows) // 2] for rows in _groups(learnt_y)])
    probes = fit_probes(
        torch.stack([learnt.x[half], learnt.x[half], learnt.x[agree]]),
        torch.stack([learnt_y[half, 0], learnt_y[half, 1], learnt_y[agree, 0]]),
        config=config.probe,
        seed=config.seed,
    )
    biased_probe = 2

    def accuracy(probe: int, concept: int, latents: Tensor | None = None) -> float:
        return accuracy_without(probes, probe, asked, asked_y[:, concept], W_dec, latents)

    clean = (accuracy(0, 0), accuracy(1, 1))
    biased = (accuracy(biased_probe, 0), accuracy(biased_probe, 1))
    scores: list[dict[int, float | None]] = [{}, {}]
    for wanted, removed in ((0, 1), (1, 0)):
        difference, seen = latent_effects(
            learnt.z, learnt_y[:, removed], probes.weight[removed], W_dec
        )
        effect = (difference * seen).abs()
        room = clean[wanted] - biased[wanted]
        for n in config.counts(len(W_dec)):
            after = accuracy(biased_probe, wanted, strongest(effect, n))
            scores[wanted][n] = None if room < NO_BIAS else (after - biased[wanted]) / room
    return SCR(
        score=scores[0] if biased[0] <= biased[1] else scores[1],
        first=scores[0],
        second=scores[1],
        clean=clean,
        biased=biased,
        n_test=len(asked_y),
    )


def _groups(concepts: Bool[Tensor, "document 2"]) -> list[Int[Tensor, " row"]]:
    number = concepts[:, 0].long() * 2 + concepts[:, 1].long()
    return [(number == each).nonzero().squeeze(-1) for each in range(4)]


def _balanced(
    documents: Documents, concepts: Bool[Tensor, "document 2"], seed: int, what: str
) -> tuple[Documents, Bool[Tensor, "drawn 2"]]:
    """As many documents with each combination of concepts."""
    number = concepts[:, 0].long() * 2 + concepts[:, 1].long()
    n = int(torch.bincount(number, minlength=4).min())
    if n < FEWEST:
        raise DataError(
            f"one combination of the two concepts has {n} {what} documents; expected at least "
            f"{FEWEST}. Give more text, or concepts that occur with and without each other."
        )
    n -= n % 2  # so that half of each makes as many as two of four combinations
    generator = torch.Generator().manual_seed(seed)
    rows = torch.cat([draw(number, each, n, generator) for each in range(4)])
    return documents.take(rows), concepts[rows]
